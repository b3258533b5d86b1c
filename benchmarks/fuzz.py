"""Calls ops with wrong arguments, or loads damaged files; counts crashes.

    python benchmarks/fuzz.py calls --cases 100000
    python benchmarks/fuzz.py files --cases 10000

Each case follows from the seed and its number. A process does many of them; if
one ends it, or takes a minute, that is told, with the command to see it again,
and another process goes on. A line of the CSV is what was called, or loaded:
how many cases, how they ended, the processor's seconds that the longest took,
and, of all together, the crashes. Damage that checksums tell has to be refused,
or to make no difference.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import common

WORKER = pathlib.Path(__file__).with_name("fuzz_worker.py")
MAX_SECONDS = 60.0  # for one case
MAX_SECONDS_TO_BEGIN = 600.0  # in which the good files are made
CASES_IN_A_PROCESS = 5_000
DIFFERENT = "accepted but different"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["calls", "files"])
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    counts, longest, facts, crashes = fuzz(args.kind, args.seed, args.cases)
    facts |= {"crashes_or_hangs": len(crashes)}
    rows = [
        {
            "target": target,
            "cases": sum(outcomes.values()),
            "accepted": outcomes["accepted"],
            "accepted_but_different": outcomes[DIFFERENT],
            "longest_seconds": longest[target],
            "errors": " ".join(
                f"{name}={count}"
                for name, count in sorted(outcomes.items())
                if name not in ("accepted", DIFFERENT)
            ),
        }
        for target, outcomes in sorted(counts.items())
    ]
    for row in rows:
        print(row)
    print(
        f"{sum(row['cases'] for row in rows):,} cases of {args.kind}: {facts}"
    )
    if args.out is not None:
        common.write_csv(args.out, [row | facts for row in rows])
    if crashes:
        raise SystemExit("\n".join(crashes))
    if any(row["accepted_but_different"] for row in rows):
        raise SystemExit("Damage was accepted, and changed what was loaded.")


def fuzz(
    kind: str, seed: int, cases: int
) -> tuple[dict[str, collections.Counter], dict, dict, list[str]]:
    """All cases of one kind: counts of outcomes, times, facts, crashes."""
    counts: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    longest: dict[str, float] = collections.defaultdict(float)
    facts = {"largest_growth_mb": 0}
    crashes: list[str] = []
    first = 0
    while first < cases:
        last = min(first + CASES_IN_A_PROCESS, cases)
        with tempfile.TemporaryDirectory() as folder:
            result, first, how = run(kind, seed, first, last, folder)
        if how is not None:
            command = f"{WORKER.name} {kind} {seed} {first - 1} {first}"
            crashes.append(f"{how}: python benchmarks/{command}")
            print(crashes[-1], flush=True)
        for target, outcomes in result.get("counts", {}).items():
            counts[target].update(outcomes)
            longest[target] = max(longest[target], result["longest"][target])
        for name in facts:
            facts[name] = max(facts[name], result.get(name, 0))
    return counts, longest, facts, crashes


def run(
    kind: str, seed: int, first: int, last: int, folder: str
) -> tuple[dict, int, str | None]:
    """One process; returns its result, the next case, and how it crashed."""
    results = pathlib.Path(folder, "results.json")
    numbers = map(str, (seed, first, last))
    process = subprocess.Popen(
        [sys.executable, str(WORKER), kind, *numbers, str(results)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
    )
    changed, seen = time.monotonic(), None
    while process.poll() is None:
        time.sleep(0.1)
        now = results.with_suffix(".case")
        now = now.read_bytes() if now.exists() else None
        if now != seen:
            changed, seen = time.monotonic(), now
        limit = MAX_SECONDS_TO_BEGIN if now is None else MAX_SECONDS
        if time.monotonic() - changed > limit:
            process.kill()
    case = results.with_suffix(".case")
    result = json.loads(results.read_text()) if results.exists() else {}
    if process.returncode == 0:
        return result, last, None
    if not case.exists():
        raise SystemExit("The worker does not begin; run it by hand.")
    hung = time.monotonic() - changed > MAX_SECONDS
    how = "hung" if hung else f"exit code {process.returncode}"
    return result, int(case.read_text()) + 1, how


if __name__ == "__main__":
    main()
