"""Versions that come and go, batches, limits: nobody's request is lost."""

import json
import pathlib
import shutil
import tempfile
import threading
import time
from concurrent import futures
from unittest import mock

import grpc
import numpy as np
import serving_server
import tensorflow as tf
from absl.testing import parameterized
from serving_server import WEIGHTS, put

from tfsac.serving import models, server
from tfsac.serving.intake import Limits

ROW = np.float32([[1, 2, 3, 4]])


def wait_for(condition):
    """Waits until a condition holds, for at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("It never came true.")
        time.sleep(0.01)


class VersionsTest(serving_server.ServingTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.versions = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.versions)
        for number in (1, 2):
            serving_server.save(cls.versions / str(number), 100.0 * number)

    def actions(self, version=None):
        """The bias of the version that answers."""
        response = self.server.predict(
            "m", {"observations": ROW}, version=version
        )
        actions = tf.make_ndarray(response.outputs["actions"])
        [bias] = set((actions - ROW @ WEIGHTS).ravel().tolist())
        number = response.model_spec.version.value
        return number, bias

    def serve(self, *versions, **options):
        for number in versions:
            put(self.versions / str(number), self.folder / str(number))
        self.server = serving_server.Server({"m": self.folder}, **options)
        self.enterContext(self.server)

    def test_a_swap_loses_no_request(self):
        self.serve(1)
        seen, errors, done = set(), [], threading.Event()

        def rest():
            body = {"instances": ROW.tolist()}
            while not done.is_set():
                status, answer = self.server.post("m:predict", body)
                if status != 200:
                    errors.append(answer)

        def rpc():
            while not done.is_set():
                seen.add(self.actions())

        with futures.ThreadPoolExecutor() as pool:
            running = [pool.submit(each) for each in (rest, rest, rpc, rpc)]
            wait_for(lambda: (1, 100.0) in seen)
            put(self.versions / "2", self.folder / "2")
            wait_for(lambda: (2, 200.0) in seen)
            wait_for(lambda: self.server.states("m")[1] == "END")
            done.set()
        for each in running:
            each.result()
        self.assertEmpty(errors)
        self.assertEqual(seen, {(1, 100.0), (2, 200.0)})

    def test_the_highest_is_served_and_others_are_skipped(self):
        for name in ("latest", ".9.tmp", "3.old"):
            (self.folder / name).mkdir()
        (self.folder / "7").write_text("no folder")
        self.serve(1, 2)
        self.assertEqual(self.server.states("m"), {2: "AVAILABLE"})
        self.assertEqual(self.actions(), (2, 200.0))
        self.assertEqual(self.actions(version=2), (2, 200.0))
        with self.assertRaises(grpc.RpcError) as raised:
            self.actions(version=1)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_the_old_one_stays_until_its_requests_are_answered(self):
        self.serve(1)
        with (
            futures.ThreadPoolExecutor() as pool,
            serving_server.Held() as held,
        ):
            running = pool.submit(self.actions)
            held.began.acquire()
            put(self.versions / "2", self.folder / "2")
            states = {1: "UNLOADING", 2: "AVAILABLE"}
            wait_for(lambda: self.server.states("m") == states)
            latest = pool.submit(self.actions)
            held.began.acquire()
            self.assertFalse(running.done())
            held.release()
            self.assertEqual(running.result(), (1, 100.0))
            self.assertEqual(latest.result(), (2, 200.0))
        wait_for(lambda: self.server.states("m")[1] == "END")

    def test_a_version_that_fails_changes_nothing(self):
        self.serve(1)
        broken = self.folder / ".aside"
        shutil.copytree(self.versions / "2", broken)
        (broken / "saved_model.pb").write_bytes(b"nothing that can be parsed")
        broken.rename(self.folder / "2")
        wait_for(lambda: self.server.states("m").get(2) == "END")
        self.assertEqual(self.actions(), (1, 100.0))
        _, answer = self.server.get("m/versions/2")
        [status] = answer["model_version_status"]
        self.assertNotEqual(status["status"]["error_code"], "OK")
        self.assertIn("saved_model.pb", status["status"]["error_message"])
        self.assertEqual(self.server.http("GET", "/healthz")[0], 200)
        # It may be mended by one more.
        put(self.versions / "2", self.folder / "3")
        wait_for(lambda: self.server.states("m").get(3) == "AVAILABLE")
        self.assertEqual(self.actions(), (3, 200.0))

    def test_a_version_that_is_still_being_copied_is_tried_again(self):
        self.enterContext(mock.patch.object(models, "_RETRY_SECONDS", 0.05))
        self.serve(1)
        (self.folder / "2").mkdir()
        wait_for(lambda: self.server.states("m").get(2) == "END")
        shutil.copytree(
            self.versions / "2", self.folder / "2", dirs_exist_ok=True
        )
        wait_for(lambda: self.server.states("m").get(2) == "AVAILABLE")
        self.assertEqual(self.actions(), (2, 200.0))

    def test_looking_for_versions_never_ends(self):
        self.serve(1)
        for error in (PermissionError, RuntimeError):
            with (
                mock.patch.object(models, "_find_versions", side_effect=error),
                self.assertLogs(server.__name__, "ERROR") as told,
            ):
                wait_for(lambda told=told: told.output)
            self.assertIn("versions of m", told.output[0])
        self.assertEqual(self.actions(), (1, 100.0))
        put(self.versions / "2", self.folder / "2")
        wait_for(lambda: self.actions() == (2, 200.0))

    def test_a_rollback(self):
        self.serve(1)
        put(self.versions / "2", self.folder / "2")
        wait_for(lambda: self.actions() == (2, 200.0))
        shutil.rmtree(self.folder / "2")
        wait_for(lambda: self.actions() == (1, 100.0))

    def test_without_versions(self):
        self.serve()
        status, answer = self.server.post("m:predict", {"instances": [1]})
        self.assertEqual(status, 404)
        self.assertIn("Latest(m)", answer["error"])
        status, _, body = self.server.http("GET", "/healthz")
        self.assertEqual(
            (status, body), (503, b"No version is available of: m\n")
        )
        put(self.versions / "1", self.folder / "1")
        wait_for(lambda: self.server.http("GET", "/healthz")[0] == 200)
        shutil.rmtree(self.folder / "1")
        wait_for(lambda: self.server.http("GET", "/healthz")[0] == 503)
        shutil.rmtree(self.folder)
        time.sleep(0.1)  # some polls
        self.folder.mkdir()
        put(self.versions / "2", self.folder / "2")
        wait_for(lambda: self.server.http("GET", "/healthz")[0] == 200)


class BatchingTest(parameterized.TestCase, serving_server.ServingTestCase):
    def send(self, count, server):
        """Requests that wait together, and the rows of each call for them."""
        request = serving_server.request_of
        rows = np.random.default_rng(0).normal(size=(count, 3, 4))
        rows = rows.astype(np.float32)
        with serving_server.Held() as held:
            first = server.prediction.Predict.future(
                request("m", {"observations": ROW}), timeout=60
            )
            held.began.acquire()
            answers = [
                server.prediction.Predict.future(
                    request("m", {"observations": each}), timeout=60
                )
                for each in rows
            ]
            wait_for(lambda: server.service.intake.requests == count + 1)
            held.release()
            first.result()
            for each, answer in zip(rows, answers, strict=True):
                actions = tf.make_ndarray(answer.result().outputs["actions"])
                self.assertAllClose(actions, each @ WEIGHTS, atol=1e-4)
        return held.calls[1:]

    def test_what_waits_runs_together(self):
        limits = Limits(max_batch_rows=10)
        with serving_server.Server({"m": self.model}, limits) as server:
            self.assertEqual(self.send(7, server), [9, 9, 3])

    def test_without_batching(self):
        with serving_server.Server({"m": self.model}, batching=False) as server:
            self.assertEqual(self.send(4, server), [3, 3, 3, 3])

    def test_nobody_gets_an_error_of_others(self):
        request = serving_server.request_of
        good = {"indices": np.int32([0, 2])}
        bad = {"indices": np.int32([99])}
        shape = {"indices": np.int32([[0], [2]])}
        with (
            serving_server.Server({"m": self.model}) as server,
            serving_server.Held() as held,
        ):
            answers = [
                server.prediction.Predict.future(
                    request("m", inputs, signature="pick"), timeout=60
                )
                for inputs in (good, good, bad, shape, good)
            ]
            held.began.acquire()
            wait_for(lambda: server.service.intake.requests == len(answers))
            held.release()
            for index, answer in enumerate(answers):
                if index == 2:
                    code = answer.exception().code()
                    self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT)
                    continue
                values = answer.result().outputs["values"].float_val
                self.assertAllEqual(values, [5, 7])

    def test_rows_of_any_width(self):
        """Widths that no array holds together are no call together."""
        request = serving_server.request_of
        with (
            serving_server.Server({"m": self.model}) as server,
            serving_server.Held() as held,
        ):
            answers = {
                server.prediction.Predict.future(
                    request(
                        "m",
                        {"rows": np.ones([2, width], np.float32)},
                        signature="width",
                    ),
                    timeout=60,
                ): width
                for width in (1, 2, 3, 3, 2)
            }
            held.began.acquire()
            wait_for(lambda: server.service.intake.requests == len(answers))
            held.release()
            for answer, width in answers.items():
                total = answer.result().outputs["total"].float_val
                self.assertAllEqual(total, [width, width])

    def test_whatever_a_batch_does_each_is_answered(self):
        request = serving_server.request_of("m", {"observations": ROW})
        with (
            serving_server.Server({"m": self.model}) as server,
            serving_server.Held() as held,
            mock.patch.object(np, "concatenate", side_effect=MemoryError),
        ):
            answers = [
                server.prediction.Predict.future(request, timeout=60)
                for _ in range(4)
            ]
            held.began.acquire()
            wait_for(lambda: server.service.intake.requests == len(answers))
            held.release()
            for answer in answers:
                actions = tf.make_ndarray(answer.result().outputs["actions"])
                self.assertAllClose(actions, ROW @ WEIGHTS)

    def test_a_seed_is_its_requests_own(self):
        request = serving_server.request_of
        with (
            serving_server.Server({"m": self.model}) as server,
            serving_server.Held() as held,
        ):
            answers = [
                server.prediction.Predict.future(
                    request(
                        "m",
                        {"observations": ROW, "seed": np.int64([seed, 0])},
                        signature="sample",
                    ),
                    timeout=60,
                )
                for seed in range(5)
            ]
            wait_for(lambda: server.service.intake.requests == len(answers))
            held.release()
            for seed, answer in enumerate(answers):
                actions = tf.make_ndarray(answer.result().outputs["actions"])
                self.assertAllClose(actions, ROW @ WEIGHTS + seed)

    def test_overload_is_told_and_ends(self):
        body = json.dumps({"instances": ROW.tolist()})
        limits = Limits(max_requests=3)
        with serving_server.Server({"m": self.model}, limits) as server:
            with (
                futures.ThreadPoolExecutor() as pool,
                serving_server.Held(),
            ):
                admitted = [
                    pool.submit(server.post, "m:predict", body)
                    for _ in range(3)
                ]
                wait_for(lambda: server.service.intake.requests == 3)
                status, answer = server.post("m:predict", body)
                self.assertEqual(status, 503)
                self.assertIn("is full", answer["error"])
                with self.assertRaises(grpc.RpcError) as raised:
                    server.predict("m", {"observations": ROW})
                code = raised.exception.code()
                self.assertEqual(code, grpc.StatusCode.UNAVAILABLE)
                self.assertEqual(server.http("GET", "/healthz")[0], 200)
                self.assertEqual(server.http("GET", "/")[0], 200)
            for each in admitted:
                self.assertEqual(each.result()[0], 200)
            self.assertEqual(server.post("m:predict", body)[0], 200)

    def test_clients_that_leave(self):
        with serving_server.Server({"m": self.model}) as server:
            with serving_server.Held() as held:
                request = serving_server.request_of("m", {"observations": ROW})
                gone = [
                    server.prediction.Predict.future(request, timeout=60)
                    for _ in range(3)
                ]
                held.began.acquire()
                wait_for(lambda: server.service.intake.requests == 3)
                for each in gone:
                    each.cancel()
                wait_for(lambda: server.service.intake.requests == 0)
            server.predict("m", {"observations": ROW})


if __name__ == "__main__":
    tf.test.main()
