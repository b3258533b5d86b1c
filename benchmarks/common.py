"""What every benchmark writes beside its numbers: command, commit, machine."""

import csv
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "gymnasium",
    "numpy",
)


def describe() -> dict[str, str | int]:
    """Describes this process: what ran, from which commit, on what.

    Returns:
        A dict of `command`, `commit` (with `-dirty` where the work tree
        differs from it), `cpu`, `cores` (those that this process may use),
        `versions` and `date` (UTC, to the second).
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "command": " ".join(["python", *map(_relative, sys.argv)]),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": _versions(),
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def write_csv(path: str | os.PathLike, rows: list[dict]) -> None:
    """Writes one CSV line per row, each followed by `describe()`.

    Args:
        path: The file; its folder is made where it is missing.
        rows: Dicts that all have the same keys.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = describe()
    described = [row | machine for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(described[0]))
        writer.writeheader()
        writer.writerows(described)


def fma_peak(threads: int) -> float:
    """Measures the GFLOP/s of fused multiply-adds, by `fma_peak.cc`.

    Args:
        threads: How many threads share this process's cores.
    """
    source = pathlib.Path(__file__).with_name("fma_peak.cc")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/fma_peak"
        flags = ["-O3", "-march=native", "-pthread", "-o", program]
        subprocess.run(["g++", *flags, str(source)], check=True)
        answer = subprocess.run(
            [program, str(threads)], check=True, capture_output=True, text=True
        )
    return float(answer.stdout)


def _relative(argument: str) -> str:
    """Keeps the folder of one's own checkout out of committed results."""
    path = pathlib.Path(argument)
    if path.is_absolute() and path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return argument


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    # Results are what a benchmark writes, not what it measures.
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return commit + ("-dirty" if changes else "")


def _cpu() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> str:
    versions = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
