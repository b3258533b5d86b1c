"""Small models, and servers of them on a thread of the test's process."""

import asyncio
import contextlib
import http.client
import json
import pathlib
import shutil
import tempfile
import threading
from unittest import mock

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfsac.serving import savedmodel, server
from tfsac.serving.intake import Limits

WEIGHTS = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])


def save(folder, bias=0.0):
    """Writes a model with a signature for each thing that a test wants.

    | signature | does |
    |---|---|
    | `serving_default` | `actions = observations @ WEIGHTS + bias` |
    | `sample` | the same plus `seed[0]`, which makes it not batchable |
    | `two` | `sum = a + b`, `difference = a - b` |
    | `text` | strings, lower case |
    | `pick` | `values[i]` for each of `indices`; fails outside |
    | `width` | `total`, of each row of `rows`, which are of any width |
    """
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    module.bias = tf.Variable(bias)
    rows = tf.TensorSpec([None, 4], tf.float32, "observations")

    @tf.function(input_signature=[rows])
    def act(observations):
        return {"actions": observations @ module.weights + module.bias}

    @tf.function(input_signature=[rows, tf.TensorSpec([2], tf.int64, "seed")])
    def sample(observations, seed):
        return {
            "actions": observations @ module.weights
            + module.bias
            + tf.cast(seed[0], tf.float32)
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "a"),
            tf.TensorSpec([None], tf.int32, "b"),
        ]
    )
    def two(a, b):
        b = tf.cast(b, tf.float32)
        return {"sum": a + b, "difference": a - b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])
    def text(words):
        return {"lower": tf.strings.lower(words)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "indices")])
    def pick(indices):
        return {"values": tf.gather(tf.constant([5.0, 6.0, 7.0]), indices)}

    wide = tf.TensorSpec([None, None], tf.float32, "rows")

    @tf.function(input_signature=[wide])
    def width(rows):
        return {"total": tf.reduce_sum(rows, 1)}

    signatures = {
        "serving_default": act,
        "sample": sample,
        "two": two,
        "text": text,
        "pick": pick,
        "width": width,
    }
    tf.saved_model.save(module, str(folder), signatures)


def put(source, target):
    """Copies a version to where a server finds it, all at once."""
    aside = target.parent / f".{target.name}.tmp"
    shutil.copytree(source, aside)
    aside.rename(target)


class Server:
    """A server on a thread; a context manager.

    Args:
        folders: That of each model, by name.
        limits: Defaults to the server's own.
        options: Of `server.serve`.
    """

    def __init__(self, folders, limits=None, **options):
        self.folders = {name: pathlib.Path(f) for name, f in folders.items()}
        self.limits = limits or Limits()
        self.options = {"poll_seconds": 0.02} | options

    def __enter__(self):
        started = threading.Event()

        async def main():
            self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
            anywhere = server.Addresses(rest_port=0, grpc_port=0)
            try:
                async with server.serve(
                    self.folders, anywhere, self.limits, **self.options
                ) as (self.service, self.addresses):
                    started.set()
                    await self.stop.wait()
            finally:
                started.set()

        self.thread = threading.Thread(target=lambda: asyncio.run(main()))
        self.thread.start()
        started.wait()
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.addresses.grpc_port}"
        )
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.prediction = stub
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join()

    def http(self, method, path, body=None, headers=None):
        """Returns status, headers and body of a response."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.addresses.rest_port, timeout=60
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def post(self, path, body):
        """Returns status and JSON; `body` is bytes, text or becomes JSON."""
        if not isinstance(body, bytes | str):
            body = json.dumps(body)
        status, _, answer = self.http("POST", f"/v1/models/{path}", body)
        return status, json.loads(answer)

    def get(self, path):
        """The same of a GET."""
        status, _, answer = self.http("GET", f"/v1/models/{path}")
        return status, json.loads(answer)

    def predict(self, name, inputs, timeout=60, **spec):
        """A prediction by gRPC; `inputs` are arrays or protos by name."""
        request = request_of(name, inputs, **spec)
        return self.prediction.Predict(request, timeout=timeout)

    def states(self, name):
        """The state of each version, by its number; gRPC tells."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = self.models.GetModelStatus(request, timeout=60)
        state = get_model_status_pb2.ModelVersionStatus.State
        return {
            each.version: state.Name(each.state)
            for each in response.model_version_status
        }


def request_of(
    name, inputs, signature="", version=None, label=None, output_filter=()
):
    """A `PredictRequest`."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.output_filter.extend(output_filter)
    for key, value in inputs.items():
        if isinstance(value, np.ndarray):
            value = tf.make_tensor_proto(value)
        request.inputs[key].CopyFrom(value)
    return request


class Held:
    """Holds whatever runs until `release`, or until the context ends.

    Attributes:
        calls: The rows of each call that began.
        began: A semaphore that each of them releases.
    """

    def __enter__(self):
        self.calls, self.began = [], threading.Semaphore(0)
        self._go_on = threading.Event()
        run = savedmodel.Signature.__call__

        def wait(signature, arrays):
            self.calls.append(len(arrays[0]))
            self.began.release()
            self._go_on.wait()
            return run(signature, arrays)

        self._patch = mock.patch.object(savedmodel.Signature, "__call__", wait)
        self._patch.start()
        return self

    def __exit__(self, *_):
        self.release()
        self._patch.stop()

    def release(self):
        self._go_on.set()


class ServingTestCase(tf.test.TestCase):
    """Has a model at `cls.model`, saved once, and an empty `self.folder`."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        root = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, root)
        cls.model = root / "model"
        save(cls.model / "1")

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
