"""How does the server stand minutes of good and bad requests and new versions?

Six clients send valid and malformed requests of each kind by REST and gRPC, two
more send theirs slowly, while a new version replaces the old one every two
seconds. Then 64 clients ask for more than the server admits, by REST and then
by gRPC, and after each of them one asks for what it may. It fails (exit code 1)
if a request below the bound is lost or gets another status than it should, if
memory grows, if overload brings anything but answers and 503, or `UNAVAILABLE`,
or if the server does not recover. Each phase is in the CSV.

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
import socket
import sys
import tempfile
import threading
import time

import common
import grpc
import numpy as np
import serving_process
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODEL = common.ROOT / "saved_models" / "pendulum_v1" / "1"
BOUND = 8  # requests at the same time
CLIENTS = 6
OVERLOAD_CLIENTS = 64
SWAP_SECONDS = 2.0
# Of growth from the first third to the last one: caches of the allocator.
MAX_GROWTH_MIB = 40.0

ROW = [0.5, -0.5, 1.0]
GOOD = json.dumps({"instances": [ROW]})
SAMPLE = {"observations": [ROW], "seed": [1, 2]}
PREDICT = "policy:predict"
# Method, path, body, status.
REST = (
    *[("POST", PREDICT, GOOD, 200)] * 6,
    (
        "POST",
        PREDICT,
        json.dumps({"signature_name": "sample", "inputs": SAMPLE}),
        200,
    ),
    ("GET", "policy", None, 200),
    ("GET", "policy/metadata", None, 200),
    ("GET", "other", None, 404),
    ("POST", PREDICT, "", 400),
    ("POST", PREDICT, "{", 400),
    ("POST", PREDICT, '{"instances": [[1, 2]]}', 400),
    ("POST", PREDICT, '{"instances": [[1, 2, "x"]]}', 400),
    ("POST", PREDICT, '{"instances": [[1, 2, NaN]]}', 400),
    ("POST", PREDICT, json.dumps({"instances": [ROW] * 2_000}), 400),
    ("POST", PREDICT, " " * 2_000_000, 413),
    ("POST", "policy/versions/999999999:predict", GOOD, 404),
    ("POST", "other:predict", GOOD, 404),
)
BIG = [("POST", PREDICT, json.dumps({"instances": [ROW] * 1_000}), 200)]
ROWS = np.float32([ROW])
# Observations, what else is sent, code.
RPC = (
    (ROWS, {}, "OK"),
    (ROWS, {"seed": np.int64([1, 2])}, "OK"),
    (ROWS[:, :2], {}, "INVALID_ARGUMENT"),
    (np.float64(ROWS), {}, "INVALID_ARGUMENT"),
    (ROWS * np.nan, {}, "INVALID_ARGUMENT"),
    (np.repeat(ROWS, 2_000, 0), {}, "INVALID_ARGUMENT"),
    (np.repeat(ROWS, 100_000, 0), {}, "RESOURCE_EXHAUSTED"),
)
BIG_RPC = [(np.repeat(ROWS, 1_000, 0), {}, "OK")]
OVERLOAD = {"REST 503", "gRPC UNAVAILABLE"}
# What tells of a fault of the server's.
FAULTS = {
    f"gRPC {code}"
    for code in ("UNKNOWN", "INTERNAL", "DATA_LOSS", "DEADLINE_EXCEEDED")
}


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

    def row(self, phase, seconds, server, swaps):
        """A row of the CSV."""
        total = self.counter.total()
        ok = self.counter["REST 200"] + self.counter["gRPC OK"]
        overload = sum(self.counter[each] for each in OVERLOAD)
        faults = sum(
            count
            for each, count in self.counter.items()
            if each in FAULTS or each.startswith("REST 5")
        )
        faults -= self.counter["REST 503"]
        described = {
            "phase": phase,
            "seconds": round(seconds),
            "requests": total,
            "ok": ok,
            "refused": total - ok - overload - faults,
            "overload": overload,
            "other_5xx": faults,
            "wrong": len(self.wrong),
            "swaps": swaps,
            "rss_mib": round(server.rss_mib(), 1),
        }
        print(described, flush=True)
        return described


def rest_client(server, counts, done, requests, tolerated=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
    choose = random.Random(threading.get_ident())
    while not done.is_set():
        method, path, body, expected = choose.choice(requests)
        try:
            connection.request(method, f"/v1/models/{path}", body)
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
            problem = f"{path} {body and body[:50]}: {response.status} {answer}"
        counts.add("REST", response.status, problem)


def slow_client(server, counts, done):
    """Sends a request in two parts, a second apart."""
    head = (
        f"POST /v1/models/{PREDICT} HTTP/1.1\r\nHost: localhost\r\n"
        f"Connection: close\r\nContent-Length: {len(GOOD)}\r\n\r\n{GOOD[0]}"
    )
    while not done.is_set():
        address = "127.0.0.1", server.rest_port
        with socket.create_connection(address) as connection:
            connection.sendall(head.encode())
            done.wait(1)
            connection.sendall(GOOD[1:].encode())
            answer = connection.makefile().readline()
        status = answer.split()[1] if answer else "lost"
        counts.add("REST", status, None if status == "200" else answer)


def grpc_client(server, counts, done, requests, tolerated=()):
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = f"127.0.0.1:{server.grpc_port}"
    channel = grpc.insecure_channel(address, options)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    status = model_service_pb2_grpc.ModelServiceStub(channel)
    choose = random.Random(threading.get_ident())
    while not done.is_set():
        rows, more, expected = choose.choice(requests)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "policy"
        request.model_spec.signature_name = "sample" if more else ""
        for name, value in {"observations": rows, **more}.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            stub.Predict(request, timeout=30)
            if more:
                about = get_model_status_pb2.GetModelStatusRequest()
                about.model_spec.name = "policy"
                status.GetModelStatus(about, timeout=30)
            code, words = "OK", ""
        except grpc.RpcError as error:
            code, words = error.code().name, error.details()
        problem = None
        if code not in (expected, *tolerated):
            problem = f"{rows[:2]}: {code} {words}"
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
        passed = time.monotonic() - start
        rows.append(counts.row("mixed", passed, server, len(swaps)))

    done = threading.Event()
    swapper = threading.Thread(target=swap, args=(folder, done, swaps))
    swapper.start()
    clients = [(rest_client, server, counts, REST)] * (CLIENTS - 2)
    clients += [(grpc_client, server, counts, RPC)] * 2
    clients += [(slow_client, server, counts)] * 2
    run(server, clients, seconds, watch)
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


def above_the_bound(server, seconds, name, client, requests, told):
    """Overload by one protocol; returns rows of the CSV and what was wrong."""
    rows, wrong = [], []
    for phase, clients, tolerated, takes in (
        ("overload", OVERLOAD_CLIENTS, (told,), seconds),
        ("recovery", 1, (), 1),
    ):
        counts = Counts()
        each = client, server, counts, requests, tolerated
        run(server, [each] * clients, takes, lambda: None)
        rows.append(counts.row(f"{phase}, {name}", takes, server, 0))
        wrong += counts.wrong[:5]
        if not rows[-1]["ok"]:
            wrong.append(f"No answer in {phase}: {counts.counter}")
        if tolerated and not rows[-1]["overload"]:
            wrong.append(f"Expected {told}: {counts.counter}")
    return rows, wrong


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
            seconds = max(3, args.seconds / 20)
            for more in (
                ("REST", rest_client, BIG, 503),
                ("gRPC", grpc_client, BIG_RPC, "UNAVAILABLE"),
            ):
                found, problems = above_the_bound(server, seconds, *more)
                rows += found
                wrong += problems
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
