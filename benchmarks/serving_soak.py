"""How does the server stand minutes of good and bad requests and new versions?

Six clients send valid and malformed requests by REST and gRPC, while a new
version replaces the old one every two seconds. Then 64 clients ask for more
than the server admits. It fails (exit code 1) if a request below the bound is
lost or gets another status than it should, if memory grows, if overload brings
anything but 200 and 503, or if the server does not recover.

    python benchmarks/serving_soak.py --seconds 300 \
        --out benchmarks/results/serving_soak.csv
"""

import argparse
import collections
import http.client
import json
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

import common
import grpc
import numpy as np
import serving_process
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

MODEL = common.ROOT / "saved_models" / "pendulum_v1" / "1"
BOUND = 8  # requests at the same time
CLIENTS = 6
OVERLOAD_CLIENTS = 64
SWAP_SECONDS = 2.0
# Of growth from the first third to the last one: caches of the allocator.
MAX_GROWTH_MIB = 40.0

ROW = [0.5, -0.5, 1.0]
GOOD = {"instances": [ROW]}
# Path, body, status.
REST = (
    *[("policy:predict", json.dumps(GOOD), 200)] * 6,
    ("policy:predict", "", 400),
    ("policy:predict", "{", 400),
    ("policy:predict", '{"instances": [[1, 2]]}', 400),
    ("policy:predict", '{"instances": [[1, 2, "x"]]}', 400),
    ("policy:predict", '{"instances": [[1, 2, NaN]]}', 400),
    ("policy:predict", json.dumps({"instances": [ROW] * 2_000}), 400),
    ("policy:predict", " " * 2_000_000, 413),
    ("policy/versions/999999999:predict", json.dumps(GOOD), 404),
    ("other:predict", json.dumps(GOOD), 404),
)


class Counts:
    """Of what came, by protocol and status; for several threads."""

    def __init__(self):
        self.counter = collections.Counter()
        self.wrong = []
        self._lock = threading.Lock()

    def add(self, protocol, status, problem=None):
        """Counts one answer, and keeps what was wrong with it."""
        with self._lock:
            self.counter[f"{protocol} {status}"] += 1
            if problem:
                self.wrong.append(problem)


def rest_client(server, counts, done, requests, tolerated=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
    choose = random.Random(threading.get_ident())
    while not done.is_set():
        path, body, expected = choose.choice(requests)
        try:
            connection.request("POST", f"/v1/models/{path}", body)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            # A server that refuses a body may close the connection under it.
            connection.close()
            lost = expected != 413
            counts.add("REST", "lost", repr(error) if lost else None)
            continue
        problem = None
        if response.status not in (expected, *tolerated):
            problem = f"{path} {body[:50]}: {response.status} {answer[:200]}"
        counts.add("REST", response.status, problem)


def grpc_client(server, counts, done, tolerated=()):
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    requests = [
        (np.float32([ROW]), "OK"),
        (np.float32([ROW])[:, :2], "INVALID_ARGUMENT"),
        (np.float64([ROW]), "INVALID_ARGUMENT"),
        (np.float32([ROW]) * np.nan, "INVALID_ARGUMENT"),
    ]
    choose = random.Random(threading.get_ident())
    while not done.is_set():
        rows, expected = choose.choice(requests)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "policy"
        tensor = tf.make_tensor_proto(rows)
        request.inputs["observations"].CopyFrom(tensor)
        try:
            stub.Predict(request, timeout=30)
            code, words = "OK", ""
        except grpc.RpcError as error:
            code, words = error.code().name, error.details()
        problem = None
        if code not in (expected, *tolerated):
            problem = f"{rows}: {code} {words}"
        counts.add("gRPC", code, problem)
    channel.close()


def swap(folder, done, swaps):
    """Puts a new version, and deletes all but the last three."""
    number = 1
    while not done.wait(SWAP_SECONDS):
        number += 1
        aside = folder / f".{number}.tmp"
        shutil.copytree(MODEL, aside)
        aside.rename(folder / str(number))
        swaps.append(number)
        shutil.rmtree(folder / str(number - 3), ignore_errors=True)


def run(server, threads, seconds, watch):
    """Runs threads for some seconds, and calls `watch` now and then."""
    done = threading.Event()
    started = [
        threading.Thread(target=target, args=(*args[:2], done, *args[2:]))
        for target, *args in threads
    ]
    for thread in started:
        thread.start()
    interval = max(1.0, seconds / 20)
    for _ in range(round(seconds / interval)):
        time.sleep(interval)
        watch()
    done.set()
    for thread in started:
        thread.join()


def below_the_bound(server, folder, seconds):
    """The soak; returns rows of the CSV and what was wrong."""
    counts, swaps, rows = Counts(), [], []
    start = time.monotonic()

    def watch():
        rows.append(
            {
                "seconds": round(time.monotonic() - start),
                "requests": counts.counter.total(),
                "ok": counts.counter["REST 200"] + counts.counter["gRPC OK"],
                "refused": sum(
                    counts.counter[f"REST {status}"]
                    for status in (400, 404, 413)
                )
                + counts.counter["gRPC INVALID_ARGUMENT"],
                "wrong": len(counts.wrong),
                "swaps": len(swaps),
                "rss_mib": round(server.rss_mib(), 1),
            }
        )
        print(rows[-1], flush=True)

    done = threading.Event()
    swapper = threading.Thread(target=swap, args=(folder, done, swaps))
    swapper.start()
    rest = [(rest_client, server, counts, REST)] * (CLIENTS - 2)
    rpc = [(grpc_client, server, counts)] * 2
    run(server, rest + rpc, seconds, watch)
    done.set()
    swapper.join()
    print(dict(counts.counter))
    wrong = counts.wrong[:5]
    third = len(rows) // 3
    first = max(row["rss_mib"] for row in rows[: third + 1])
    last = max(row["rss_mib"] for row in rows[-third - 1 :])
    if last > first + MAX_GROWTH_MIB:
        wrong.append(f"Memory grew from {first} to {last} MiB")
    return rows, wrong


def above_the_bound(server, seconds):
    """Returns what was wrong."""
    counts = Counts()
    body = json.dumps({"instances": [ROW] * 1_000})
    requests = [("policy:predict", body, 200)]
    clients = [
        (rest_client, server, counts, requests, (503,))
    ] * OVERLOAD_CLIENTS
    run(server, clients, seconds, lambda: None)
    print(dict(counts.counter))
    wrong = counts.wrong[:5]
    if not counts.counter["REST 503"] or not counts.counter["REST 200"]:
        wrong.append(f"Expected 200 and 503: {counts.counter}")
    recovered = Counts()
    good = REST[:1]
    run(server, [(rest_client, server, recovered, good)], 1, lambda: None)
    return wrong + recovered.wrong[:5]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root) / "policy"
        shutil.copytree(MODEL, folder / "1")
        options = ["--max-requests", BOUND, "--max-payload-mib", 1]
        with serving_process.Server(folder, *options) as server:
            rows, wrong = below_the_bound(server, folder, args.seconds)
            wrong += above_the_bound(server, max(3, args.seconds / 20))
        code = server.process.returncode
        if code:
            wrong.append(f"The server ended with {code}")
    if args.out:
        common.write_csv(args.out, rows)
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
