"""How fast does the server answer, at 1, 8 and 64 clients?

A policy 17 -> 256 -> 256 -> 6 behind `tfsac serve`, REST and gRPC, with and
without batching. Each client sends one observation, waits for the action and
sends the next; all clients are in this process, on one core. The columns: p50
and p99 of the latency, requests per second, and the server's own CPU time for
a request, which tells how it does on a machine that is busy otherwise.

Beside it the same policy in this process (`predict`, and the SavedModel's
signature), as native code in a C program (as `formats.py` times it), and
`predict` of Stable-Baselines3 with a policy of the same size, if there is a
Python that has it (`benchmarks/peers/setup.sh` makes one).

    python benchmarks/serving.py --out benchmarks/results/serving.csv
"""

import argparse
import asyncio
import json
import pathlib
import re
import tempfile
import time

import common
import formats
import grpc
import numpy as np
import serving_process
import tensorflow as tf
from gymnasium import spaces
from tensorflow_serving.apis import predict_pb2

import tfsac

SPACES = spaces.Box(-np.inf, np.inf, (17,)), spaces.Box(-1.0, 1.0, (6,))
CLIENTS = (1, 8, 64)
REQUESTS = 3_000  # for each number of clients
WARM_UP = 300
METHOD = "/tensorflow.serving.PredictionService/Predict"
SB3_PYTHON = common.ROOT / "build" / "peers" / "sb3" / "bin" / "python"


class RestClient(asyncio.Protocol):
    """Sends a request, waits for the answer, and sends the next.

    Args:
        request: Bytes of HTTP.
        seconds: Gets the time of each.
        count: How many.
    """

    def __init__(self, request, seconds, count):
        self._request, self._seconds, self._count = request, seconds, count
        self.done = asyncio.get_running_loop().create_future()
        self._received = b""

    def connection_made(self, transport):
        """Sends the first."""
        self._transport = transport
        self._send()

    def data_received(self, data):
        """Notes the time, once the answer is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if not found or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"Expected 200. Received: {self._received}")
        self._seconds.append(time.perf_counter() - self._start)
        self._received = b""
        self._count -= 1
        if self._count:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def _send(self):
        self._start = time.perf_counter()
        self._transport.write(self._request)


async def rest(port, row, clients, count):
    body = json.dumps({"instances": [row.tolist()]})
    request = (
        "POST /v1/models/policy:predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    loop, seconds = asyncio.get_running_loop(), []
    connected = [
        await loop.create_connection(
            lambda: RestClient(request, seconds, count // clients),
            "127.0.0.1",
            port,
        )
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in connected))
    return seconds


async def rpc(port, row, clients, count):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "policy"
    tensor = tf.make_tensor_proto(row[np.newaxis])
    request.inputs["observations"].CopyFrom(tensor)
    request, seconds = request.SerializeToString(), []

    async def client():
        # A connection of its own, as clients in other processes have.
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address, options) as channel:
            call = channel.unary_unary(METHOD)
            for _ in range(count // clients):
                start = time.perf_counter()
                await call(request)
                seconds.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def result(what, clients, seconds, wall, cpu=None):
    """A row of the CSV."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
    row = {
        "what": what,
        "clients": clients,
        "p50_us": round(p50),
        "p99_us": round(p99),
        "per_second": round(len(seconds) / wall),
        "server_cpu_us": "" if cpu is None else round(cpu / len(seconds) * 1e6),
    }
    print(row, flush=True)
    return row


def of_server(folder, batching, row, count):
    options = [] if batching else ["--no-batching"]
    rows = []
    with serving_process.Server(folder, *options) as server:
        for protocol, ask, port in (
            ("REST", rest, server.rest_port),
            ("gRPC", rpc, server.grpc_port),
        ):
            asyncio.run(ask(port, row, 1, WARM_UP))
            for clients in CLIENTS:
                cpu, start = server.cpu_seconds(), time.perf_counter()
                seconds = asyncio.run(ask(port, row, clients, count))
                wall = time.perf_counter() - start
                cpu = server.cpu_seconds() - cpu
                what = protocol + ("" if batching else ", no batching")
                rows.append(result(what, clients, seconds, wall, cpu))
    return rows


def of_function(what, function, count):
    seconds = []
    for _ in range(WARM_UP + count):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    seconds = seconds[WARM_UP:]
    return result(what, 1, seconds, sum(seconds))


def of_formats(row):
    """A row of `formats.py`, as one of this table."""
    p50, p99 = row["us_p50"], row["us_p99"]
    described = {"p50_us": p50, "p99_us": p99, "per_second": round(1e6 / p50)}
    row = {"what": row["what"], "clients": 1, **described, "server_cpu_us": ""}
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--sb3-python", type=pathlib.Path, default=SB3_PYTHON)
    args = parser.parse_args()
    agent = tfsac.SAC(SPACES, seed=0)
    row = np.random.default_rng(0).normal(size=17).astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root) / "policy"
        path = agent.export(folder)
        for batching in (True, False):
            rows += of_server(folder, batching, row, args.requests)
        model = tf.saved_model.load(path)
        act = model.signatures["serving_default"]
        rows += [
            of_formats(each)
            for cpu in formats.CPUS
            for each in formats.native(agent, root, cpu)
        ]
    one = tf.constant(row[np.newaxis])
    rows += [
        of_function(
            "SavedModel in Python",
            lambda: act(observations=one)["actions"].numpy(),
            args.requests,
        ),
        of_function("predict", lambda: agent.predict(row), args.requests),
    ]
    if args.sb3_python.exists():
        rows.append(of_formats(formats.sb3(str(args.sb3_python))))
    if args.out:
        common.write_csv(args.out, rows)


if __name__ == "__main__":
    main()
