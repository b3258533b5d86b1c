"""Requests that are big, slow or many keep nobody else from being answered."""

import contextlib
import json
import socket
import threading
from concurrent import futures
from unittest import mock

import grpc
import numpy as np
import serving_server
import tensorflow as tf
from serving_models_test import wait_for

from tfsac.serving import (
    connections,
    errors,
    json_tensors,
    proto_tensors,
    rpc,
)
from tfsac.serving.intake import Limits

ROW = [1, 2, 3, 4]
GOOD = {"instances": [ROW]}


class BigTest(serving_server.ServingTestCase):
    def meanwhile(self, module, name, ask):
        """Holds the conversion of a big request, and sends small ones."""
        began, go_on = threading.Event(), threading.Event()
        convert = getattr(module, name)

        def wait(*args):
            if threading.current_thread().name.startswith("convert"):
                began.set()
                go_on.wait()
            return convert(*args)

        with (
            serving_server.Server({"m": self.model}) as server,
            futures.ThreadPoolExecutor() as pool,
            mock.patch.object(module, name, wait),
            contextlib.ExitStack() as stack,
        ):
            stack.callback(go_on.set)
            big = pool.submit(ask, server)
            self.assertTrue(began.wait(60))
            self.assertEqual(server.post("m:predict", GOOD)[0], 200)
            server.predict("m", {"observations": np.float32([ROW])})
            self.assertFalse(big.done())
            go_on.set()
            return big.result()

    def test_rest_answers_others_meanwhile(self):
        body = {"instances": [ROW] * 900 + [[1, 2, 3, "x" * 2**17]]}
        status, answer = self.meanwhile(
            json_tensors, "to_arrays", lambda s: s.post("m:predict", body)
        )
        self.assertEqual(status, 400)
        self.assertIn("element: 900", answer["error"])

    def test_grpc_answers_others_meanwhile(self):
        rows = np.ones([2, 2**16], np.float32)
        response = self.meanwhile(
            proto_tensors,
            "from_protos",
            lambda s: s.predict("m", {"rows": rows}, signature="width"),
        )
        total = response.outputs["total"].float_val
        self.assertAllEqual(total, [2**16, 2**16])

    def test_finding_what_is_wrong_takes_no_longer_than_converting(self):
        spec = tf.TensorSpec(None, tf.float32, "x")
        for wrong in (0, 1, 999, 1_000, 1_001, 29_999):
            rows = [1.0] * 30_000
            rows[wrong] = "x"
            convert = mock.Mock(wraps=json_tensors._tensor)
            with (
                mock.patch.object(json_tensors, "_tensor", convert),
                self.assertRaisesRegex(
                    errors.ServingError, f"element: {wrong} of .*String"
                ),
            ):
                json_tensors.to_arrays({"instances": rows}, {"x": spec}, 1e9)
            self.assertLess(convert.call_count, 2_000)

    def test_too_many_rows_are_not_converted(self):
        spec = tf.TensorSpec([None], tf.float32, "x")
        for document in ({"instances": [1, 2, 3]}, {"inputs": [1, 2, 3]}):
            with (
                mock.patch.object(json_tensors, "_tensor") as convert,
                self.assertRaisesRegex(errors.ServingError, "Task size 3"),
            ):
                json_tensors.to_arrays(document, {"x": spec}, 2)
            convert.assert_not_called()


class SlowTest(serving_server.ServingTestCase):
    def begin(self, server, sent, length):
        """Sends the head of a request and a part of its body."""
        address = "127.0.0.1", server.addresses.rest_port
        connection = socket.create_connection(address, timeout=60)
        self.enterContext(connection)
        connection.sendall(
            b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (length, sent)
        )
        return connection

    def test_a_slow_client_takes_no_slot(self):
        limits = Limits(max_requests=3)
        with serving_server.Server({"m": self.model}, limits) as server:
            body = json.dumps(GOOD).encode()
            slow = [self.begin(server, body[:1], len(body)) for _ in range(9)]
            wait_for(lambda: server.service.intake._bytes == 9)
            self.assertEqual(server.post("m:predict", GOOD)[0], 200)
            for connection in slow[:2]:
                connection.sendall(body[1:])
                answer = connection.recv(1_000)
                self.assertIn(b"HTTP/1.1 200 OK", answer)
            for connection in slow:  # or the server waits for them at its end
                connection.close()

    def test_it_is_given_up(self):
        limits = Limits(timeout=0.2)
        with serving_server.Server({"m": self.model}, limits) as server:
            connection = self.begin(server, b"{", 100)
            self.assertIn(b"HTTP/1.1 504", connection.recv(1_000))
            connection.close()

    def test_what_is_half_read_is_bounded(self):
        limits = Limits(max_payload=1_000)
        with serving_server.Server({"m": self.model}, limits) as server:
            intake = server.service.intake
            slow = [self.begin(server, b" " * 999, 1_000) for _ in range(16)]
            wait_for(lambda: intake._bytes == 16 * 999)
            status, answer = server.post("m:predict", GOOD)
            self.assertEqual(status, 503)
            self.assertIn("is full", answer["error"])
            for connection in slow:
                connection.close()
            wait_for(lambda: intake._bytes == 0)
            self.assertEqual(server.post("m:predict", GOOD)[0], 200)


class ConnectionsTest(serving_server.ServingTestCase):
    def connect(self, server):
        address = "127.0.0.1", server.addresses.rest_port
        return self.enterContext(socket.create_connection(address, 60))

    def test_they_are_bounded(self):
        with (
            mock.patch.object(connections, "most", return_value=3),
            serving_server.Server({"m": self.model}) as server,
        ):
            idle = [self.connect(server) for _ in range(3)]
            # It is told so at once: who sends first may find the line closed.
            with self.connect(server).makefile("rb") as refused:
                head, _, body = refused.read().partition(b"\r\n\r\n")
            self.assertIn(b"HTTP/1.1 503 ", head)
            self.assertEqual(
                json.loads(body), {"error": "Too many connections"}
            )
            server.predict("m", {"observations": np.float32([ROW])})
            idle[0].close()
            wait_for(lambda: self.is_served(server))

    def is_served(self, server):
        try:
            return server.post("m:predict", GOOD)[0] == 200
        except OSError:  # refused while it was being sent
            return False

    def test_idle_ones_are_closed(self):
        with (
            mock.patch.object(connections, "IDLE_SECONDS", 1),
            serving_server.Server({"m": self.model}) as server,
        ):
            silent, used = self.connect(server), self.connect(server)
            used.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200 OK", used.recv(1_000))
            self.assertEqual((silent.recv(1), used.recv(1)), (b"", b""))

    def test_descriptors_are_left(self):
        for descriptors, expected in ((1_024, 341), (2**20, 10_000)):
            limits = descriptors, descriptors
            with mock.patch.object(
                connections.resource, "getrlimit", return_value=limits
            ):
                self.assertEqual(connections.most(), expected)


class CallsTest(serving_server.ServingTestCase):
    """Clients of gRPC that begin a call and send nothing."""

    def slow(self, server, count):
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{server.addresses.grpc_port}"
        channel = self.enterContext(grpc.insecure_channel(address, options))
        call = channel.stream_unary(
            "/tensorflow.serving.PredictionService/Predict"
        )
        end = threading.Event()
        self.addCleanup(end.set)

        def messages():
            end.wait()
            yield b""

        return [call.future(messages(), timeout=60) for _ in range(count)]

    def test_they_take_no_slot_and_are_given_up(self):
        limits = Limits(max_requests=3, timeout=1)
        with serving_server.Server({"m": self.model}, limits) as server:
            slow = self.slow(server, 3)
            server.predict("m", {"observations": np.float32([ROW])})
            codes = {each.exception().code() for each in slow}
            self.assertEqual(codes, {grpc.StatusCode.DEADLINE_EXCEEDED})

    def test_calls_are_bounded(self):
        limits = Limits(max_requests=3)

        def ask():
            try:
                server.predict("m", {"observations": np.float32([ROW])})
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        with (
            mock.patch.object(rpc, "_BEING_READ", 3),
            serving_server.Server({"m": self.model}, limits) as server,
        ):
            # Of one client that many are taken, and the others wait with it.
            first = self.slow(server, 9)
            self.assertEqual(ask(), grpc.StatusCode.OK)
            second = self.slow(server, 3)
            wait_for(lambda: ask() is grpc.StatusCode.RESOURCE_EXHAUSTED)
            for each in first + second:
                each.cancel()
            wait_for(lambda: ask() is grpc.StatusCode.OK)


if __name__ == "__main__":
    tf.test.main()
