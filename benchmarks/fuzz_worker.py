"""The cases of `fuzz.py`, from one number up to another, in one process.

python fuzz_worker.py calls|files SEED FIRST LAST [RESULTS]
"""

import collections
import json
import os
import pathlib
import resource
import sys
import time
import warnings

import numpy as np
import tensorflow as tf


def main() -> None:
    kind, *numbers = sys.argv[1:5]
    seed, first, last = map(int, numbers)
    results = pathlib.Path(sys.argv[5]) if len(sys.argv) > 5 else None
    warnings.simplefilter("ignore")
    if kind == "calls":
        from fuzz_calls import Calls as Cases
    else:
        from fuzz_files import Files as Cases
    cases = Cases()
    counts: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    longest: dict[str, float] = collections.defaultdict(float)
    before = peak_mb()
    for number in range(first, last):
        if results is not None:
            # In place, for the one who watches; never half of a number.
            write(results.with_suffix(".case"), str(number))
        started = time.process_time()  # others may use the machine, too
        target, outcome = cases.run(np.random.default_rng([seed, number]))
        seconds = round(time.process_time() - started, 2)
        longest[target] = max(longest[target], seconds)
        counts[target][outcome] += 1
        if results is None:
            print(number, target, outcome, seconds)
        elif number % 100 == 99 or number == last - 1:
            result = {
                "counts": counts,
                "largest_growth_mb": peak_mb() - before,
                "longest": longest,
            }
            write(results, json.dumps(result))


def write(path: pathlib.Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    os.replace(aside, path)


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    tf.config.threading.set_inter_op_parallelism_threads(1)
    main()
