"""TensorFlow Serving's REST interface: the same answers, codes and words.

The expected messages are those of TensorFlow Serving's sources, read at commit
9d981c5c, and of its kernels.
"""

import gzip
import json

import numpy as np
import serving_server
import tensorflow as tf
from absl.testing import parameterized
from serving_server import WEIGHTS

from tfsac.serving.intake import Limits

ROWS = np.float32([[1, 2, 3, 4], [0.5, -1, 0, 2]])
OK = {"instances": ROWS.tolist()}
NESTED = "[" * 100_000

# Each REST row: what, path after /v1/models/, body, status, words.
MALFORMED = (
    ("empty", "m:predict", "", 400, "JSON Parse error: The document is empty"),
    (
        "blank",
        "m:predict",
        "  \n",
        400,
        "JSON Parse error: The document is empty. at offset: 3",
    ),
    (
        "no_json",
        "m:predict",
        "hello",
        400,
        "JSON Parse error: Invalid value. at offset: 0",
    ),
    (
        "cut",
        "m:predict",
        '{"instances": [1, ',
        400,
        "JSON Parse error: Invalid value. at offset: 18",
    ),
    (
        "no_comma_in_array",
        "m:predict",
        '{"instances": [1 2]}',
        400,
        "JSON Parse error: Missing a comma or ] after an array element. at "
        "offset: 17",
    ),
    (
        "no_comma_in_object",
        "m:predict",
        '{"a[": 1 "b": 2}',
        400,
        "JSON Parse error: Missing a comma or } after an object member. at "
        "offset: 9",
    ),
    (
        "no_colon",
        "m:predict",
        '{"a" 1}',
        400,
        "JSON Parse error: Missing a colon after a name of object member. at "
        "offset: 5",
    ),
    (
        "no_name",
        "m:predict",
        "{1: 2}",
        400,
        "JSON Parse error: Missing a name for object member. at offset: 1",
    ),
    ("no_utf8", "m:predict", b'{"\xff": 1}', 400, "Invalid encoding in string"),
    ("huge_number", "m:predict", '{"a": ' + "9" * 5000 + "}", 400, "too big"),
    ("nested", "m:predict", '{"instances": ' + NESTED, 400, "JSON Parse error"),
    *(
        (
            f"nested_{depth}",
            "m:predict",
            f'{{"inputs": 1, "instances": {"[" * depth}{"]" * depth}}}',
            400,
            "JSON",
        )
        for depth in range(800, 1_000, 20)
    ),
    ("list", "m:predict", "[1, 2]", 400, "JSON Value: [1, 2] Is not object"),
    (
        "both_keys",
        "m:predict",
        {"instances": [1], "inputs": [1]},
        400,
        "Not formatted correctly expecting only one of 'inputs' or "
        "'instances' keys to exist",
    ),
    ("no_key", "m:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
    (
        "instances_no_list",
        "m:predict",
        {"instances": 3},
        400,
        "Expecting 'instances' to be an list/array",
    ),
    (
        "instances_empty",
        "m:predict",
        {"instances": []},
        400,
        "No values in 'instances' array",
    ),
    (
        "wrong_type",
        "m:predict",
        {"instances": [[1, 2, 3, "x"]]},
        400,
        'JSON Value: "x" Type: String is not of expected type: float',
    ),
    (
        "bool_is_no_number",
        "m:predict",
        {"inputs": [[1, 2, 3, True]]},
        400,
        "JSON Value: true Type: True is not of expected type: float",
    ),
    (
        "null_is_no_number",
        "m:predict",
        {"inputs": [[1, 2, 3, None]]},
        400,
        "JSON Value: null Type: Null is not of expected type: float",
    ),
    (
        "object_is_no_number",
        "m:predict",
        {"inputs": [[1, 2, 3, {"b64": "AA=="}]]},
        400,
        "Type: Object is not of expected type: float",
    ),
    (
        "fraction_is_no_integer",
        "m:predict",
        {"signature_name": "two", "inputs": {"a": [1], "b": [1.5]}},
        400,
        "JSON Value: 1.5 Type: Number is not of expected type: int32",
    ),
    (
        "integer_out_of_range",
        "m:predict",
        {"signature_name": "two", "inputs": {"a": [1], "b": [2**31]}},
        400,
        "JSON Value: 2147483648 Type: Number is not of expected type: int32",
    ),
    (
        "ragged_size",
        "m:predict",
        {"instances": [[1, 2, 3, 4], [1, 2]]},
        400,
        "Failed to process element: 1 of 'instances' list. Error: "
        "INVALID_ARGUMENT: Expecting tensor size: 4 but got: 2",
    ),
    (
        "ragged_shape",
        "m:predict",
        {"instances": [[1, 2, 3, 4], [[1, 2], [3, 4]]]},
        400,
        "Expecting shape [4] but got: [2,2]",
    ),
    (
        "ragged_columns",
        "m:predict",
        {"inputs": [[1, 2, 3, 4], [1, 2]]},
        400,
        "Encountered list at unexpected size: 2 at level: 1 expected size: 4",
    ),
    (
        "too_deep",
        "m:predict",
        {"inputs": [[1, 2, 3, [4]]]},
        400,
        "Encountered list at unexpected level: 2 expected < 2",
    ),
    (
        "too_shallow",
        "m:predict",
        {"inputs": [[1, 2, 3, 4], 5]},
        400,
        "JSON Value: 5 found at incorrect level: 2 in the JSON DOM. Expected "
        "at level: 2",
    ),
    (
        "wrong_inner_shape",
        "m:predict",
        {"instances": [[1, 2, 3], [4, 5, 6]]},
        400,
        "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3]",
    ),
    (
        "wrong_rank",
        "m:predict",
        {"inputs": [1, 2, 3, 4]},
        400,
        "ndims",  # the rest differs between kernels
    ),
    (
        "unknown_model",
        "half:predict",
        OK,
        404,
        "Servable not found for request: Latest(half)",
    ),
    (
        "unknown_version",
        "m/versions/99:predict",
        OK,
        404,
        "Servable not found for request: Specific(m, 99)",
    ),
    (
        "version_overflow",
        "m/versions/99999999999999999999:predict",
        OK,
        400,
        "Failed to convert version: 99999999999999999999 to numeric.",
    ),
    (
        "label",
        "m/labels/canary:predict",
        OK,
        400,
        "Unrecognized servable version label: canary",
    ),
    (
        "unknown_signature",
        "m:predict",
        OK | {"signature_name": "s"},
        400,
        'Serving signature name: "s" not found in signature def',
    ),
    (
        "signature_no_string",
        "m:predict",
        OK | {"signature_name": 3},
        400,
        "'signature_name' key must be a string value.",
    ),
    (
        "missing_input",
        "m:predict",
        {"signature_name": "two", "inputs": {"a": [1]}},
        400,
        "Missing named input: b in 'inputs' object.",
    ),
    (
        "plain_value_for_two",
        "m:predict",
        {"signature_name": "two", "inputs": [1]},
        400,
        "inputs is a plain value/list, but expecting an object",
    ),
    (
        "plain_list_for_two",
        "m:predict",
        {"signature_name": "two", "instances": [1]},
        400,
        "instances is a plain list, but expecting list of objects",
    ),
    (
        "row_keys_differ",
        "m:predict",
        {"signature_name": "two", "instances": [{"a": 1, "b": 1}, {"a": 1}]},
        400,
        "keys must be equal to: a,b",
    ),
    (
        "unknown_row_key",
        "m:predict",
        {"signature_name": "two", "instances": [{"a": 1, "b": 1, "c": 1}]},
        400,
        "Failed to process element: 0 key: c of 'instances' list. Error: "
        "INVALID_ARGUMENT: JSON object: does not have named input: c",
    ),
    (
        "wrong_type_in_row",
        "m:predict",
        {"signature_name": "two", "instances": [{"a": 1, "b": "x"}]},
        400,
        "Failed to process element: 0 key: b of 'instances' list. Error: "
        'INVALID_ARGUMENT: JSON Value: "x" Type: String is not of expected '
        "type: int32",
    ),
    (
        "mixed_rows",
        "m:predict",
        {"instances": [{"observations": [1, 2, 3, 4]}, [1, 2, 3, 4]]},
        400,
        "Expecting object but got list at item 1 of input list",
    ),
    (
        "mixed_rows_reversed",
        "m:predict",
        {"instances": [[1, 2, 3, 4], {"observations": [1, 2, 3, 4]}]},
        400,
        "Expecting value/list but got object at item 1 of input list",
    ),
    (
        "unequal_rows",
        "m:predict",
        {"signature_name": "two", "inputs": {"a": [1, 2], "b": [1]}},
        400,
        "must have equal 0th-dimension size",
    ),
    (
        "not_a_number",
        "m:predict",
        '{"instances": [[1, 2, 3, NaN]]}',
        400,
        "Expected numbers in the input observations. Received: NaN",
    ),
    (
        "large_batch",
        "m:predict",
        {"instances": [[0, 0, 0, 0]] * 101},
        400,
        "Task size 101 is larger than maximum input batch size 100",
    ),
    (
        "large_batch_of_a_request_that_is_never_batched",
        "m:predict",
        {
            "signature_name": "sample",
            "inputs": {"observations": [[0, 0, 0, 0]] * 101, "seed": [1, 2]},
        },
        400,
        "Task size 101 is larger than maximum input batch size 100",
    ),
    ("oversized", "m:predict", " " * 200_001, 413, "at most 200000 bytes"),
    ("classify", "m:classify", OK, 501, "Expected predict"),
    # The order: JSON, signature_name, model, signature, tensors.
    ("json_before_model", "half:predict", "hello", 400, "JSON Parse error"),
    (
        "name_before_model",
        "half:predict",
        {"signature_name": 3},
        400,
        "must be a string value",
    ),
    (
        "model_before_signature",
        "half:predict",
        {"signature_name": "s"},
        404,
        "Servable not found",
    ),
    (
        "signature_before_tensors",
        "m:predict",
        {"signature_name": "s", "instances": 3},
        400,
        "not found in signature def",
    ),
)
# What, method, path, status, words.
PATHS = (
    ("unknown", "GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
    (
        "get_predict",
        "GET",
        "/v1/models/m:predict",
        400,
        "Malformed request: GET /v1/models/m:predict",
    ),
    (
        "post_status",
        "POST",
        "/v1/models/m",
        400,
        "Malformed request: POST /v1/models/m",
    ),
    ("no_model", "GET", "/v1/models", 400, "Missing model name in request."),
    (
        "no_versions",
        "GET",
        "/v1/models/half",
        404,
        "Could not find any versions of model half",
    ),
    (
        "no_version",
        "GET",
        "/v1/models/m/versions/9",
        404,
        "Could not find version 9 of model m",
    ),
    (
        "no_metadata",
        "GET",
        "/v1/models/half/metadata",
        404,
        "Servable not found for request: Latest(half)",
    ),
    (
        "no_metadata_of_version",
        "GET",
        "/v1/models/m/versions/9/metadata",
        404,
        "Servable not found for request: Specific(m, 9)",
    ),
    *(
        (
            f"overflow{path.replace('/', '_')}",
            "GET",
            f"/v1/models/m/versions/99999999999999999999{path}",
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        )
        for path in ("", "/metadata")
    ),
    (
        "status_of_label",
        "GET",
        "/v1/models/m/labels/canary",
        400,
        "Unrecognized servable version label: canary",
    ),
)


class RestTest(parameterized.TestCase, serving_server.ServingTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        limits = Limits(max_batch_rows=100, max_payload=200_000)
        cls.server = serving_server.Server({"m": cls.model}, limits)
        cls.enterClassContext(cls.server)

    def tearDown(self):
        """Whatever was sent, the server answers the next one."""
        status, answer = self.server.post("m:predict", OK)
        self.assertEqual(status, 200)
        self.assertAllClose(answer["predictions"], ROWS @ WEIGHTS)
        super().tearDown()

    @parameterized.named_parameters(*MALFORMED)
    def test_malformed_rest(self, path, body, status, words):
        received, answer = self.server.post(path, body)
        self.assertEqual(received, status, msg=answer)
        self.assertEqual(list(answer), ["error"])
        self.assertIn(words, answer["error"])

    @parameterized.named_parameters(*PATHS)
    def test_malformed_path(self, method, path, status, words):
        received, headers, body = self.server.http(method, path, "")
        self.assertEqual(received, status)
        self.assertIn("application/json", headers["Content-Type"])
        self.assertEqual(json.loads(body), {"error": words})

    @parameterized.parameters("/", "/healthz", "/nothing", "/v1", "/v2/models")
    def test_paths_outside(self, path):
        status, headers, _ = self.server.http("GET", path)
        self.assertEqual(status, 200 if path in ("/", "/healthz") else 404)
        self.assertNotIn("json", headers["Content-Type"])

    def test_rows_and_columns(self):
        expected = (ROWS @ WEIGHTS).tolist()
        rows = {"instances": ROWS.tolist()}
        named = {"instances": [{"observations": row} for row in ROWS.tolist()]}
        columns = {"inputs": ROWS.tolist()}
        named_columns = {"inputs": {"observations": ROWS.tolist()}}
        for request, key in (
            (rows, "predictions"),
            (named, "predictions"),
            (columns, "outputs"),
            (named_columns, "outputs"),
        ):
            status, answer = self.server.post("m:predict", request)
            self.assertEqual((status, answer), (200, {key: expected}))

    def test_several_outputs(self):
        request = {"signature_name": "two"}
        rows = {"instances": [{"a": 1.5, "b": 1}, {"a": 2, "b": 3}]}
        self.assertEqual(
            self.server.post("m:predict", request | rows)[1],
            {
                "predictions": [
                    {"difference": 0.5, "sum": 2.5},
                    {"difference": -1.0, "sum": 5.0},
                ]
            },
        )
        columns = {"inputs": {"a": [1.5, 2], "b": [1, 3]}}
        self.assertEqual(
            self.server.post("m:predict", request | columns)[1],
            {"outputs": {"difference": [0.5, -1.0], "sum": [2.5, 5.0]}},
        )

    def test_strings(self):
        words = {"signature_name": "text", "instances": ["Ab", {"b64": "Q2Q="}]}
        status, answer = self.server.post("m:predict", words)
        self.assertEqual((status, answer), (200, {"predictions": ["ab", "cd"]}))

    @parameterized.parameters(
        ("text", "Ab", "ab"),
        ("text", {"b64": "Q2Q="}, "cd"),
        ("pick", 2, 7.0),
    )
    def test_rank_0(self, signature, value, expected):
        """Which no signature here asks for, but its kernels take."""
        request = {"signature_name": signature, "inputs": value}
        status, answer = self.server.post("m:predict", request)
        self.assertEqual((status, answer), (200, {"outputs": expected}))

    @parameterized.parameters(
        ('{"instances": [[1, 2, 3, 4]]} and more', 200),
        ('\ufeff{"instances": [[1, 2, 3, 4]]}', 200),
        ('{"instances": [[1, 2, 3, Infinity]]}', 200),
        ('{"instances": [[1, 2, 3, 1e39]]}', 200),
        ('{"instances": [[1, 2, 3, 4]], "more": {"a": null}}', 200),
    )
    def test_accepted(self, body, status):
        received, answer = self.server.post("m:predict", body.encode())
        self.assertEqual(received, status, msg=answer)

    def test_compressed(self):
        body = gzip.compress(json.dumps(OK).encode())
        encoding = {"Content-Encoding": "gzip"}
        path = "/v1/models/m:predict"
        status, _, _ = self.server.http("POST", path, body, encoding)
        self.assertEqual(status, 200)
        bomb = gzip.compress(b" " * 10**8)
        self.assertLess(len(bomb), 200_000)
        status, _, _ = self.server.http("POST", path, bomb, encoding)
        self.assertEqual(status, 413)
        status, _, _ = self.server.http("POST", path, b"no gzip", encoding)
        self.assertEqual(status, 400)

    def test_case_of_the_path(self):
        status, _, _ = self.server.http(
            "POST", "/V1/Models/m:PREDICT", json.dumps(OK)
        )
        self.assertEqual(status, 200)

    def test_status(self):
        expected = {
            "model_version_status": [
                {
                    "version": "1",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
        for path in ("m", "m/versions/1"):
            self.assertEqual(self.server.get(path), (200, expected))

    @parameterized.parameters("m/metadata", "m/versions/1/metadata")
    def test_metadata(self, path):
        status, answer = self.server.get(path)
        self.assertEqual(status, 200)
        self.assertEqual(
            answer["model_spec"],
            {"name": "m", "signature_name": "", "version": "1"},
        )
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        default = signatures["serving_default"]
        self.assertEqual(default["method_name"], "tensorflow/serving/predict")
        self.assertEqual(
            default["inputs"]["observations"]["tensor_shape"],
            {
                "dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}],
                "unknown_rank": False,
            },
        )
        self.assertEqual(default["inputs"]["observations"]["dtype"], "DT_FLOAT")


if __name__ == "__main__":
    tf.test.main()
