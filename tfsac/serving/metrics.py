"""What the server counts: for Prometheus, and for the status page."""

import collections
import time

import grpc
import prometheus_client

__all__ = ["Metrics"]

# 0.1 ms to 30 s: a small policy's answer to the longest timeout.
_SECONDS = (
    *(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_RECENT = 1_000


class Metrics:
    """Counts and times of requests.

    Only models that are served become labels: a client that asks for many
    names makes no series.

    Args:
        models: Their names.
    """

    def __init__(self, models: list[str]) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._requests = prometheus_client.Counter(
            "tfsac_serving_requests",
            "Requests for predictions, by status.",
            ["model", "protocol", "code"],
            registry=self.registry,
        )
        self._seconds = prometheus_client.Histogram(
            "tfsac_serving_request_seconds",
            "Time of a request that was answered, in the server.",
            ["model", "protocol"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = prometheus_client.Histogram(
            "tfsac_serving_batch_rows",
            "Rows of a batch.",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self._available = prometheus_client.Gauge(
            "tfsac_serving_version_available",
            "1 for a version that answers.",
            ["model", "version"],
            registry=self.registry,
        )
        self.started = time.time()
        self.counts = {name: collections.Counter[str]() for name in models}
        self._recent = {
            name: collections.deque[float](maxlen=_RECENT) for name in models
        }

    def answered(
        self, model: str, protocol: str, code: grpc.StatusCode, seconds: float
    ) -> None:
        """Counts one request.

        Args:
            model: Which was asked for, served or not.
            protocol: `"REST"` or `"gRPC"`.
            code: Its status.
            seconds: Its time.
        """
        if model not in self.counts:
            self._requests.labels("", protocol, code.name).inc()
            return
        self._requests.labels(model, protocol, code.name).inc()
        self.counts[model][code.name] += 1
        if code is grpc.StatusCode.OK:
            self._seconds.labels(model, protocol).observe(seconds)
            self._recent[model].append(seconds)

    def batch(self, model: str, rows: int) -> None:
        """Counts a batch.

        Args:
            model: Whose.
            rows: How many.
        """
        self._rows.labels(model).observe(rows)

    def version(self, model: str, version: int, is_available: bool) -> None:
        """Notes that a version came or went.

        Args:
            model: Whose.
            version: Which.
            is_available: Whether it answers now.
        """
        labels = model, str(version)
        if is_available:
            self._available.labels(*labels).set(1)
        else:
            self._available.remove(*labels)

    def latencies(self, model: str) -> tuple[float, float] | None:
        """The median and the 99th percentile of the last 1,000 answers.

        Args:
            model: Whose.

        Returns:
            Both in seconds, or `None` before the first answer.
        """
        recent = sorted(self._recent[model])
        if not recent:
            return None
        return recent[len(recent) // 2], recent[int(len(recent) * 0.99)]

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format.

        Returns:
            UTF-8.
        """
        return prometheus_client.generate_latest(self.registry)
