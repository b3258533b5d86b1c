"""`tfsac serve` as its users meet it: policies, pages, the command."""

import contextlib
import gc
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from unittest import mock

import cli_test
import grpc
import hypothesis
import numpy as np
import serving_server
import small_agent
import tensorflow as tf
import tools
from absl.testing import parameterized
from gymnasium import spaces
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfsac.serving import (
    errors,
    json_document,
    json_tensors,
    models,
    safety,
    server,
)
from tfsac.serving.errors import ServingError
from tfsac.serving.intake import Limits
from tfsac.serving.savedmodel import SavedModel

BROWSER = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
COMMAND = "import sys; from tfsac.cli import main; sys.exit(main())"
LOW, HIGH = np.float32([-1.9, 0, 5]), np.float32([0.5, 10, 5.5])
EXTREME = [1e30, -1e30, 3e38, -3e38, np.inf, -np.inf]


class PolicyTest(serving_server.ServingTestCase):
    """What clients get is what `agent.predict` gives."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        box = spaces.Box(-np.inf, np.inf, (4,))
        cls.agent = small_agent.make((box, spaces.Box(LOW, HIGH)))
        folder = cls.model.parent / "policy"
        cls.agent.export(folder)
        cls.server = serving_server.Server({"policy": folder})
        cls.enterClassContext(cls.server)
        rng = np.random.default_rng(0)
        cls.rows = rng.normal(size=(10_000, 4)).astype(np.float32) * 3
        cls.extreme = rng.choice(EXTREME, size=(1_000, 4)).astype(np.float32)

    def curl(self, rows):
        port = self.server.addresses.rest_port
        result = subprocess.run(
            [
                *("curl", "--silent", "--fail", "--data", "@-"),
                f"http://127.0.0.1:{port}/v1/models/policy:predict",
            ],
            input=json.dumps({"instances": rows.tolist()}),
            capture_output=True,
            text=True,
            check=True,
        )
        return np.array(json.loads(result.stdout)["predictions"])

    def grpc(self, rows):
        response = self.server.predict("policy", {"observations": rows})
        return tf.make_ndarray(response.outputs["actions"])

    def check(self, ask):
        expected = self.agent.predict(self.rows)
        # A thousand rows make a request of the largest size.
        actions = np.concatenate(
            [ask(part) for part in np.split(self.rows, 10)]
        )
        half_range = (HIGH.astype(np.float64) - LOW) / 2
        deviation = np.abs(actions - expected) / half_range
        self.assertLess(deviation.max(), 1e-5)
        actions = ask(self.extreme)
        self.assertTrue(np.isfinite(actions).all())
        self.assertTrue((actions >= LOW).all() and (actions <= HIGH).all())

    def test_rest_with_curl(self):
        tools.need("curl")
        self.check(self.curl)

    def test_grpc_with_the_client_of_tensorflow_serving(self):
        self.check(self.grpc)

    def test_sampling(self):
        inputs = {"observations": self.rows[:5], "seed": np.int64([1, 2])}
        ask = self.server.predict
        first, again = (
            ask("policy", inputs, signature="sample").outputs for _ in range(2)
        )
        self.assertEqual(first["actions"], again["actions"])
        self.assertEqual(tf.make_ndarray(first["log_prob"]).shape, (5,))


class FuzzTest(serving_server.ServingTestCase):
    """Whatever comes, the answer tells what is wrong with it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = serving_server.Server({"m": cls.model})
        cls.enterClassContext(cls.server)

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(max_size=2), inner)
        ),
        max_leaves=8,
    )

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(
        st.sampled_from(["instances", "inputs"]),
        st.sampled_from(["", "sample", "two", "text", "pick"]),
        JSON,
    )
    def test_json(self, key, signature, value):
        request = {"signature_name": signature, key: value}
        status, answer = self.server.post("m:predict", request)
        self.assertIn(status, (200, 400), msg=answer)

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(st.binary(max_size=40))
    def test_bytes(self, body):
        status, answer = self.server.post("m:predict", body)
        self.assertEqual(status, 400, msg=answer)

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(
        st.sampled_from(
            sorted(tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name)
        ),
        st.sampled_from([0, 1, 1, 1, 2, 3, 7, 9, 10, 14, 19, 21, 101, 999]),
        st.lists(
            st.sampled_from([-1, 0, 1, 2, 3, 4, 4, 2**31, 2**62]), max_size=70
        ),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
        st.binary(max_size=32),
        st.sampled_from(["observations", "", "\u4e2d" * 3_000]),
        st.sampled_from(["", "sample", "text", "pick", "width"]),
    )
    def test_grpc(self, field, dtype, shape, values, content, name, signature):
        """Any tensor, in any field, of any shape."""
        proto = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content)
        proto.tensor_shape.dim.extend(
            [tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in shape]
        )
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            getattr(proto, field).extend(values)
        names = {"": name, "sample": name, "text": "words"}
        names |= {"pick": "indices", "width": "rows"}
        inputs = {names[signature]: proto}
        try:
            self.server.predict("m", inputs, signature=signature)
        except grpc.RpcError as error:
            code, words = error.code(), error.details()
            self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT, words)

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(st.binary(max_size=60))
    def test_grpc_messages(self, garbage):
        """Bytes that are no request."""
        call = self.server.channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict"
        )
        with self.assertRaises(grpc.RpcError) as raised:
            call(garbage, timeout=60)
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT
        )

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(
        st.sampled_from([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
        st.binary(max_size=60),
    )
    def test_http2(self, preface, garbage):
        """Bytes that are no gRPC hurt nobody."""
        address = "127.0.0.1", self.server.addresses.grpc_port
        with socket.create_connection(address, timeout=60) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(preface + garbage)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1000)
        rows = np.float32([[0, 0, 0, 1]])
        response = self.server.predict("m", {"observations": rows})
        self.assertAllEqual(response.outputs["actions"].float_val, [10, 11, 12])

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(st.binary(max_size=60))
    def test_http(self, garbage):
        """Bytes that are no HTTP hurt nobody."""
        address = "127.0.0.1", self.server.addresses.rest_port
        with socket.create_connection(address, timeout=60) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(garbage + b"\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1000)
        body = {"instances": [[0, 0, 0, 1]]}
        status, answer = self.server.post("m:predict", body)
        self.assertEqual((status, answer["predictions"]), (200, [[10, 11, 12]]))

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(
        st.lists(st.integers(0, 3), max_size=4).flatmap(
            lambda shape: st.lists(
                st.floats(width=32, allow_nan=False),
                min_size=int(np.prod(shape)),
                max_size=int(np.prod(shape)),
            ).map(lambda values: np.float32(values).reshape(shape))
        )
    )
    def test_arrays_come_through(self, array):
        spec = tf.TensorSpec(None, tf.float32, "x")
        document = json_document.parse(
            json.dumps({"inputs": array.tolist()}).encode()
        )
        try:
            [result] = json_tensors.to_arrays(document, {"x": spec}, np.inf)
        except errors.ServingError as error:
            self.fail(error)
        if array.size:  # nested lists without items lose what is inside
            self.assertAllEqual(result, array)


class PagesTest(serving_server.ServingTestCase):
    def test_metrics_and_status_page(self):
        name = "<b>&"
        folders = {"m": self.model, name: self.folder}
        with serving_server.Server(folders) as server:
            for request, count in (([[0, 0, 0, 1]], 3), ([["x"]], 2)):
                for _ in range(count):
                    server.post("m:predict", {"instances": request})
            server.predict("m", {"observations": np.zeros([7, 4], "f")})
            server.post("many:predict", {"instances": [1]})
            path = "/monitoring/prometheus/metrics"
            metrics = server.http("GET", path)[2].decode()
            page = server.http("GET", "/")[2].decode()
        labels = 'model="m",protocol="{}"'
        for line in (
            f'requests_total{{code="OK",{labels.format("REST")}}} 3.0',
            f'requests_total{{code="OK",{labels.format("gRPC")}}} 1.0',
            "requests_total"
            f'{{code="INVALID_ARGUMENT",{labels.format("REST")}}} 2.0',
            'requests_total{code="NOT_FOUND",model="",protocol="REST"} 1.0',
            f"request_seconds_count{{{labels.format('REST')}}} 3.0",
            'batch_rows_sum{model="m"} 10.0',
            'version_available{model="m",version="1"} 1.0',
        ):
            self.assertIn(f"tfsac_serving_{line}\n", metrics)
        self.assertIn("process_resident_memory_bytes", metrics)
        self.assertNotIn("many", metrics)  # a client cannot make series
        self.assertIn('<td class="AVAILABLE">AVAILABLE</td>', page)
        self.assertRegex(page, r"p50 \d+\.\d\d ms, p99 \d+\.\d\d ms")
        self.assertIn("<tr><td>OK</td><td>4</td></tr>", page)
        self.assertIn("<tr><td>INVALID_ARGUMENT</td><td>2</td></tr>", page)
        self.assertIn("<h2>&lt;b&gt;&amp;</h2>", page)

    def test_a_browser_shows_it(self):
        [browser] = tools.need("chromium|google-chrome")
        profile = tempfile.mkdtemp(dir=self.get_temp_dir())
        folders = {"<b>m</b>": self.model, "used": self.model}
        with serving_server.Server(folders) as server:
            for row in ([0, 0, 0, 1], [0, 0, 0, 1], ["x"]):
                server.post("used:predict", {"instances": [row]})
            port = server.addresses.rest_port
            process = subprocess.run(
                [browser, *BROWSER, f"--user-data-dir={profile}"]
                + ["--dump-dom", f"http://127.0.0.1:{port}/"],
                capture_output=True,
                text=True,
                timeout=120,
            )
        page = process.stdout
        self.assertIn("<h2>&lt;b&gt;m&lt;/b&gt;</h2>", page, process.stderr)
        # As a browser mends it: rows within a body, each tag closed.
        self.assertRegex(
            page,
            r"<tbody><tr><th>version</th>.*</tr>\s*<tr><td>1</td>"
            '<td class="AVAILABLE">AVAILABLE</td>',
        )
        self.assertEqual(page.count("<table>"), page.count("</table>"))
        unused, used = page.split("<h2>used</h2>")
        self.assertIn("no answers yet", unused)
        self.assertRegex(used, r"<th>p50 \d+\.\d\d ms, p99 \d+\.\d\d ms</th>")
        self.assertIn("<tr><td>OK</td><td>2</td></tr>", used)
        self.assertIn("<tr><td>INVALID_ARGUMENT</td><td>1</td></tr>", used)


class LoadingTest(parameterized.TestCase, serving_server.ServingTestCase):
    def test_signatures_that_do_more_than_compute_are_not_served(self):
        module = tf.Module()
        module.value = tf.Variable(1.0)
        text = tf.TensorSpec([], tf.string, "path")

        @tf.function(input_signature=[text])
        def write(path):
            @tf.function
            def inner(path):
                tf.io.write_file(path, "owned")
                return tf.constant(1)

            return {"done": inner(path)}

        @tf.function(input_signature=[text])
        def read(path):
            return {
                "text": tf.cond(
                    tf.equal(path, ""),
                    lambda: path,
                    lambda: tf.io.read_file(path),
                )
            }

        @tf.function(input_signature=[text])
        def lines(path):
            files = tf.data.TextLineDataset(path)
            return {"text": files.reduce("", lambda all, line: all + line)}

        @tf.function(input_signature=[text])
        def records(path):
            files = tf.data.TFRecordDataset(path)
            return {"text": files.reduce("", lambda all, line: all + line)}

        @tf.function(input_signature=[text])
        def matching(path):
            return {"paths": tf.io.matching_files(path)}

        rows = tf.TensorSpec([None], name="x")

        @tf.function(input_signature=[rows])
        def change(x):
            module.value.assign_add(tf.reduce_sum(x))
            return {"y": x}

        @tf.function(input_signature=[rows])
        def double(x):
            return {"y": 2 * x * module.value}

        module.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([1, 2], [3, 4]), 0
        )

        @tf.function(input_signature=[rows])
        def computes(x):
            for i in tf.range(3):
                x += tf.random.uniform(tf.shape(x)) * tf.cast(i, tf.float32)
            looked_up = module.table.lookup(tf.cast(x, tf.int32))
            return {"y": tf.map_fn(lambda each: each + 1, x), "z": looked_up}

        tf.saved_model.save(
            module,
            str(self.folder / "1"),
            {"serving_default": double, "write": write, "read": read}
            | {"lines": lines, "records": records, "matching": matching}
            | {"change": change, "computes": computes},
        )
        model = SavedModel(str(self.folder / "1"))
        served = {"serving_default", "computes"}
        self.assertEqual(set(model.signatures), served)
        public = {n for n in model.definitions if not n.startswith("__")}
        self.assertEqual(public, served)
        computes = model.signatures["computes"]
        self.assertLen(computes([np.float32([1, 2])]), 2)
        double = model.signatures["serving_default"]
        self.assertAllEqual(double([np.float32([1, 2])])[0], [2, 4])
        model.close()

    @parameterized.named_parameters(
        ("writes", lambda path: tf.io.write_file(path, "owned")),
        (
            "prints",
            lambda path: tf.print("owned", output_stream=f"file://{path}"),
        ),
    )
    def test_a_model_that_runs_more_when_it_is_loaded_is_refused(self, act):
        canary = self.folder / "canary"
        graph = tf.Graph()
        with graph.as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None], "x")
            builder = tf.compat.v1.saved_model.Builder(str(self.folder / "1"))
            predict = tf.compat.v1.saved_model.predict_signature_def
            builder.add_meta_graph_and_variables(
                session,
                ["serve"],
                {"serving_default": predict({"x": x}, {"y": 2 * x})},
                main_op=act(str(canary)),
            )
            builder.save()
        with self.assertRaisesRegex(ServingError, "WriteFile|PrintV2"):
            SavedModel(str(self.folder / "1"))
        self.assertFalse(canary.exists())

    def test_variables_that_declare_more_than_there_is(self):
        """TensorFlow alone would end the server."""
        shutil.copytree(self.model / "1", self.folder / "1")
        index = self.folder / "1" / "variables" / "variables.index"
        begin, end = index.read_bytes()[:-48], index.read_bytes()[-8:]
        index.write_bytes(begin + (b"\x00" + b"\xff" * 8 + b"\x01") * 4 + end)
        with self.assertRaisesRegex(ServingError, "variables.index is damaged"):
            SavedModel(str(self.folder / "1"))

    def test_a_function_that_is_missing(self):
        """TensorFlow's Python alone would look at its error for minutes."""
        shutil.copytree(self.model / "1", self.folder / "1")
        path = self.folder / "1" / "saved_model.pb"
        data = path.read_bytes()
        [name] = set(re.findall(rb"__inference__traced_restore_\d+", data))
        # In the library alone.
        model = saved_model_pb2.SavedModel.FromString(data)
        for function in model.meta_graphs[0].graph_def.library.function:
            if function.signature.name == name.decode():
                function.signature.name = "another"
        path.write_bytes(model.SerializeToString())
        with self.assertRaisesRegex(ServingError, f"without .'{name.decode()}"):
            SavedModel(str(self.folder / "1"))
        # Unlike one of TensorFlow's ops, by its name.
        graph = model.meta_graphs[0].graph_def
        graph.Clear()
        for called in ("Mul", "another"):
            graph.node.add(op="Any").attr["f"].func.name = called
        self.assertEqual(safety.missing_functions(graph), ["another"])

    def test_a_trainable_model_only_acts(self):
        """Clients change no weights of it, and read and write no files."""
        box = spaces.Box(-np.inf, np.inf, (4,))
        agent = small_agent.make((box, spaces.Box(LOW, HIGH)))
        model = SavedModel(agent.export(self.folder, "trainable"))
        self.assertEqual(set(model.signatures), {"act", "sample"})
        model.close()

    def test_what_is_loaded_can_be_freed(self):
        """Unlike what was there before, and is frozen."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        order = []

        def load(folder):
            order.append("load")
            return SavedModel(folder)

        with (
            mock.patch.object(gc, "freeze", lambda: order.append("freeze")),
            mock.patch.object(models, "SavedModel", load),
            mock.patch.object(
                server, "_tell", lambda *_: signal.raise_signal(signal.SIGTERM)
            ),
        ):
            addresses = server.Addresses(rest_port=0, grpc_port=0)
            server.run({"m": self.model}, addresses, Limits())
        self.assertEqual(order, ["freeze", "load"])

    def test_warm_up(self):
        """Requests beside the model are run, and one that fails is told."""
        shutil.copytree(self.model / "1", self.folder / "1")
        extra = self.folder / "1" / "assets.extra"
        extra.mkdir()
        path = str(extra / "tf_serving_warmup_requests")
        for shape, error in (((2, 4), None), ((2, 3), "size-incompatible")):
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(
                serving_server.request_of(
                    "any", {"observations": np.ones(shape, np.float32)}
                )
            )
            with tf.io.TFRecordWriter(path) as writer:
                writer.write(log.SerializeToString())
            with serving_server.Held() as held:
                held.release()
                if error is None:
                    SavedModel(str(self.folder / "1")).close()
                else:
                    with self.assertRaisesRegex(tf.errors.OpError, error):
                        SavedModel(str(self.folder / "1"))
                self.assertEqual(held.calls, [2])


class CommandTest(serving_server.ServingTestCase):
    def start(self, *args):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", *map(str, args)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_serves_until_it_is_stopped(self):
        process = self.start(
            *(self.model, f"other={self.model}"),
            *("--rest-port", 0, "--grpc-port", 0),
        )
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("Status"):
                break
        self.assertIn(f"other from {self.model}", told)
        url = re.search(r"http://(127\.0\.0\.1):(\d+)/v1", told)
        address = url[1], int(url[2])
        body = json.dumps({"instances": [[0, 0, 0, 1]]})
        for name in ("model", "other"):
            with socket.create_connection(address) as connection:
                connection.sendall(
                    f"POST /v1/models/{name}:predict HTTP/1.1\r\n"
                    f"Host: localhost\r\nContent-Length: {len(body)}\r\n"
                    f"Connection: close\r\n\r\n{body}".encode()
                )
                answer = connection.makefile().read()
            self.assertIn('{"predictions": [[10.0, 11.0, 12.0]]}', answer)
        process.send_signal(signal.SIGTERM)
        _, errors_ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, msg=errors_)
        self.assertNotIn("Traceback", errors_)

    def test_user_errors_are_one_line(self):
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        taken = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        port = taken.getsockname()[1]
        for args, expected in (
            (["no/such/folder"], "Expected a model's folder. Received"),
            ([f"a:b={self.model}"], "without / and :"),
            ([self.model, self.model], "'model' twice"),
            ([self.model, "--max-requests", 0], "at least 1"),
            ([self.model, "--rest-port", port], "address already in use"),
            (
                [self.model, "--rest-port", 0, "--grpc-port", port],
                f"Cannot listen on 127.0.0.1:{port}",
            ),
        ):
            code, _, told = cli_test.call("serve", *args)
            self.assertEqual(code, 2, msg=told)
            self.assertIn(expected, told)
            self.assertLen(told.splitlines(), 1)

    def test_without_its_packages(self):
        block = "import sys; sys.modules['aiohttp'] = None; "
        process = subprocess.run(
            [sys.executable, "-c", block + COMMAND, "serve", self.model],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 2)
        self.assertIn("pip install 'tfsac[serve]'", process.stderr)


class DefaultsTest(tf.test.TestCase):
    def test_documented_containers(self):
        """Their arguments are options, and their ports and paths are ours."""
        from tfsac import SAC, cli

        text = (
            pathlib.Path(__file__).parents[1] / "docs/serving.md"
        ).read_text()
        entry = json.loads(re.search(r"ENTRYPOINT (\[.*\])", text)[1])
        self.assertEqual(entry[0], "tfsac")
        args = re.search(r"args: \[(/.*)\]", text)[1].split(", ")
        parsed = cli._parser(SAC).parse_args([*entry[1:], *args])
        self.assertEqual(parsed.host, "0.0.0.0")
        for port in (parsed.rest_port, parsed.grpc_port):
            self.assertIn(f"containerPort: {port}", text)
            self.assertIn(f"-p {port}:{port}", text)
        for path in ("/healthz", "/v1/models/pendulum"):
            self.assertIn(f"httpGet: {{path: {path}, port: 8501}}", text)

    def test_it_listens_to_this_machine_alone(self):
        from tfsac import SAC, cli

        args = cli._parser(SAC).parse_args(["serve", "some/model"])
        self.assertEqual(args.host, "127.0.0.1")


if __name__ == "__main__":
    tf.test.main()
