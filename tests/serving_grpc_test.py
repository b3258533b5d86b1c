"""TensorFlow Serving's gRPC interface: the same answers, codes and words.

The expected messages are those of TensorFlow Serving's sources, read at commit
9d981c5c, and of its kernels.
"""

import grpc
import numpy as np
import serving_server
import tensorflow as tf
from absl.testing import parameterized
from serving_models_test import wait_for
from serving_server import WEIGHTS
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
)

from tfsac.serving.intake import Limits

ROWS = np.float32([[1, 2, 3, 4], [0.5, -1, 0, 2]])
OK = {"instances": ROWS.tolist()}
FLOAT = tf.make_tensor_proto(ROWS)
Code = grpc.StatusCode

# What, inputs, the rest of the request, code, words.
MALFORMED_GRPC = (
    (
        "wrong_type",
        {"observations": ROWS.astype(np.float64)},
        {},
        Code.INVALID_ARGUMENT,
        "Type mismatch: actual double vs. expect float",
    ),
    (
        "wrong_inner_shape",
        {"observations": ROWS[:, :3]},
        {},
        Code.INVALID_ARGUMENT,
        "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3]",
    ),
    (
        "wrong_rank",
        {"observations": ROWS[0]},
        {},
        Code.INVALID_ARGUMENT,
        "ndims",  # the rest differs between kernels
    ),
    (
        "unknown_model",
        {"observations": FLOAT},
        {"name": "half"},
        Code.NOT_FOUND,
        "Servable not found for request: Latest(half)",
    ),
    (
        "unknown_version",
        {"observations": FLOAT},
        {"version": 99},
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 99)",
    ),
    (
        "label",
        {"observations": FLOAT},
        {"label": "canary"},
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: canary",
    ),
    (
        "no_name",
        {"observations": FLOAT},
        {"name": ""},
        Code.INVALID_ARGUMENT,
        "ModelSpec has no name specified.",
    ),
    (
        "unknown_signature",
        {"observations": FLOAT},
        {"signature": "s"},
        Code.FAILED_PRECONDITION,
        'Serving signature key "s" not found.',
    ),
    (
        "missing_and_extra_input",
        {"a": FLOAT, "c": FLOAT},
        {"signature": "two"},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=2 len({a,c}) != len({a,b}). "
        "Sent extra: {c}. Missing but required: {b}.",
    ),
    (
        "no_input",
        {},
        {},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != "
        "len({observations}). Sent extra: {}. Missing but required: "
        "{observations}.",
    ),
    (
        "output_filter",
        {"a": ROWS[0], "b": np.int32([1, 2, 3, 4])},
        {"signature": "two", "output_filter": ["z"]},
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: z Outputs expected to be "
        "in the set {difference,sum}.",
    ),
    (
        "output_filter_twice",
        {"a": ROWS[0], "b": np.int32([1, 2, 3, 4])},
        {"signature": "two", "output_filter": ["sum", "sum"]},
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: sum",
    ),
    (
        "oversized",
        {"observations": np.zeros([60_000, 4], np.float32)},
        {},
        Code.RESOURCE_EXHAUSTED,
        "",
    ),
    (
        "large_batch",
        {"observations": np.zeros([101, 4], np.float32)},
        {},
        Code.INVALID_ARGUMENT,
        "Task size 101 is larger than maximum input batch size 100",
    ),
    (
        "large_batch_of_a_request_that_is_never_batched",
        {
            "observations": np.zeros([101, 4], np.float32),
            "seed": np.int64([1, 2]),
        },
        {"signature": "sample"},
        Code.INVALID_ARGUMENT,
        "Task size 101 is larger than maximum input batch size 100",
    ),
    (
        "not_a_number",
        {"observations": ROWS * np.nan},
        {},
        Code.INVALID_ARGUMENT,
        "Expected numbers in the input observations. Received: NaN",
    ),
    (
        "content_too_short",
        {
            "observations": tensor_pb2.TensorProto(
                dtype=1,
                tensor_shape=FLOAT.tensor_shape,
                tensor_content=b"1234567",
            )
        },
        {},
        Code.INVALID_ARGUMENT,
        "tensor parsing error: observations",
    ),
    (
        "few_bytes_for_much_memory",
        {
            "observations": tensor_pb2.TensorProto(
                dtype=1,
                float_val=[1.0],
                tensor_shape=tf.TensorShape([4, 2**40]).as_proto(),
            )
        },
        {},
        Code.INVALID_ARGUMENT,
        "tensor parsing error: observations",
    ),
    (
        "too_many_dimensions",
        {
            "observations": tensor_pb2.TensorProto(
                dtype=1,
                float_val=[1.0],
                tensor_shape=tf.TensorShape([1] * 65).as_proto(),
            )
        },
        {},
        Code.INVALID_ARGUMENT,
        "tensor parsing error: observations",
    ),
    (
        "nothing_of_an_impossible_size",
        {
            "observations": tensor_pb2.TensorProto(
                dtype=1,
                tensor_shape=tf.TensorShape([0, 2**62, 2**62]).as_proto(),
            )
        },
        {},
        Code.INVALID_ARGUMENT,
        "tensor parsing error: observations",
    ),
    (
        "nothing_of_which_much_is_made",
        {
            "rows": tensor_pb2.TensorProto(
                dtype=1,
                tensor_shape=tf.TensorShape([1, 0, 2**62]).as_proto(),
            )
        },
        {"signature": "width"},
        Code.INVALID_ARGUMENT,
        "tensor parsing error: rows",
    ),
    (
        "long_name",
        {"a" * 100_000: FLOAT},
        {},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 1!=1 len({aaaaaa",
    ),
    (
        "long_name_in_another_script",
        {"\u4e2d" * 30_000: FLOAT},
        {},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 1!=1 len({\u4e2d",
    ),
)


# What, protocol, whether another request runs before it, status, words.
DEADLINES = (
    ("rest", "REST", False, 504, "Timed out waiting for notification"),
    (
        "rest_in_the_queue",
        "REST",
        True,
        429,
        "Run() timeout exceeded while waiting in batching queue",
    ),
    (
        "grpc",
        "gRPC",
        False,
        Code.DEADLINE_EXCEEDED,
        "Timed out waiting for notification",
    ),
    (
        "grpc_in_the_queue",
        "gRPC",
        True,
        Code.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    ),
    (
        "of_the_client",
        "gRPC, 0.1 s",
        False,
        Code.DEADLINE_EXCEEDED,
        "Deadline Exceeded",
    ),
)
# Method, model, version, code, words.
ABOUT = (
    ("GetModelStatus", "m", 1, None, ""),
    (
        "GetModelStatus",
        "m",
        9,
        Code.NOT_FOUND,
        "Could not find version 9 of model m",
    ),
    (
        "GetModelStatus",
        "half",
        None,
        Code.NOT_FOUND,
        "Could not find any versions of model half",
    ),
    ("GetModelMetadata", "m", 1, None, ""),
    (
        "GetModelMetadata",
        "m",
        9,
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 9)",
    ),
    (
        "GetModelMetadata",
        "half",
        None,
        Code.NOT_FOUND,
        "Servable not found for request: Latest(half)",
    ),
)


class GrpcTest(parameterized.TestCase, serving_server.ServingTestCase):
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

    @parameterized.named_parameters(*MALFORMED_GRPC)
    def test_malformed_grpc(self, inputs, spec, code, words):
        spec = {"name": "m"} | spec
        with self.assertRaises(grpc.RpcError) as raised:
            self.server.predict(inputs=inputs, **spec)
        self.assertEqual(raised.exception.code(), code)
        self.assertIn(words, raised.exception.details())

    def test_unknown_methods_of_grpc(self):
        request = classification_pb2.ClassificationRequest()
        with self.assertRaises(grpc.RpcError) as raised:
            self.server.prediction.Classify(request, timeout=60)
        self.assertEqual(raised.exception.code(), Code.UNIMPLEMENTED)

    def test_grpc(self):
        response = self.server.predict("m", {"observations": ROWS})
        actions = response.outputs["actions"]
        self.assertAllClose(tf.make_ndarray(actions), ROWS @ WEIGHTS)
        # Clients without NumPy look into the field of the type.
        self.assertAllClose(actions.float_val, (ROWS @ WEIGHTS).ravel())
        spec = response.model_spec
        self.assertEqual(spec.signature_name, "serving_default")
        self.assertEqual((spec.name, spec.version.value), ("m", 1))

    def test_strings(self):
        inputs = {"words": tf.make_tensor_proto([b"Ab", b"C\xff"])}
        response = self.server.predict("m", inputs, signature="text")
        self.assertEqual(
            response.outputs["lower"].string_val, [b"ab", b"c\xff"]
        )

    def test_ways_to_write_a_tensor(self):
        shape = FLOAT.tensor_shape
        make = tensor_pb2.TensorProto
        ones, content = np.ones_like(ROWS), ROWS.tobytes()
        for proto, rows in (
            (make(dtype=1, tensor_shape=shape, float_val=ROWS.ravel()), ROWS),
            (
                make(dtype=1, tensor_shape=shape, tensor_content=content),
                ROWS,
            ),
            (make(dtype=1, tensor_shape=shape, float_val=[1.0]), ones),
        ):
            response = self.server.predict("m", {"observations": proto})
            actions = tf.make_ndarray(response.outputs["actions"])
            self.assertAllClose(actions, rows @ WEIGHTS)

    def test_output_filter(self):
        inputs = {"a": np.float32([1]), "b": np.int32([3])}
        response = self.server.predict(
            "m", inputs, signature="two", output_filter=["difference"]
        )
        self.assertEqual(list(response.outputs), ["difference"])
        self.assertAllEqual(response.outputs["difference"].float_val, [-2])

    def test_status(self):
        self.assertEqual(self.server.states("m"), {1: "AVAILABLE"})
        request = get_model_status_pb2.GetModelStatusRequest()
        for name, code in (("half", Code.NOT_FOUND), (None, "Missing")):
            if name:
                request.model_spec.name = name
            else:
                request.Clear()
            with self.assertRaises(grpc.RpcError) as raised:
                self.server.models.GetModelStatus(request, timeout=60)
            error = raised.exception
            self.assertIn(code, (error.code(), error.details().split()[0]))

    def test_metadata(self):
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "m"
        for fields, code in ((["signature_def"], None), ([], 3), (["x"], 3)):
            request.metadata_field[:] = fields
            if code is None:
                response = self.server.prediction.GetModelMetadata(request)
                found = get_model_metadata_pb2.SignatureDefMap()
                response.metadata["signature_def"].Unpack(found)
                self.assertIn("sample", found.signature_def)
                self.assertEqual(response.model_spec.version.value, 1)
                continue
            with self.assertRaises(grpc.RpcError) as raised:
                self.server.prediction.GetModelMetadata(request)
            self.assertEqual(raised.exception.code().value[0], code)

    @parameterized.parameters(*ABOUT)
    def test_about_a_model(self, method, name, version, code, words):
        if method == "GetModelStatus":
            ask = self.server.models.GetModelStatus
            request = get_model_status_pb2.GetModelStatusRequest()
        else:
            ask = self.server.prediction.GetModelMetadata
            request = get_model_metadata_pb2.GetModelMetadataRequest()
            request.metadata_field[:] = ["signature_def"]
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        if code is None:
            ask(request, timeout=60)
            return
        with self.assertRaises(grpc.RpcError) as raised:
            ask(request, timeout=60)
        self.assertEqual(raised.exception.code(), code)
        self.assertEqual(raised.exception.details(), words)

    @parameterized.named_parameters(*DEADLINES)
    def test_deadline(self, protocol, is_queued, status, words):
        limits = Limits(timeout=60 if "0.1" in protocol else 0.3)
        request = serving_server.request_of("m", {"observations": ROWS})
        with serving_server.Server({"m": self.model}, limits) as server:
            predict = server.prediction.Predict
            with serving_server.Held() as held:
                if is_queued:
                    # On a busy machine one may be late before it begins.
                    predict.future(request, timeout=60)
                    while not held.began.acquire(timeout=1):
                        predict.future(request, timeout=60)
                if protocol == "REST":
                    received, answer = server.post("m:predict", OK)
                    told = answer["error"]
                else:
                    timeout = 0.1 if "0.1" in protocol else 60
                    error = predict.future(request, timeout=timeout).exception()
                    received, told = error.code(), error.details()
            self.assertEqual(received, status)
            self.assertIn(words, told)
            # What ran on ends first.
            wait_for(lambda: server.post("m:predict", OK)[0] == 200)


if __name__ == "__main__":
    tf.test.main()
