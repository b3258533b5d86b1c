"""The worker of SBX; run.py starts it with the number of threads."""

import os
import sys

from worker import serve

PACKAGES = ("sbx-rl", "jax", "stable-baselines3", "torch", "gymnasium", "numpy")


def main() -> None:
    threads = int(sys.argv[1])
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        # JAX takes as many threads as the process has cores; this keeps it
        # from handing its work to the only one of them.
        os.environ["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    # After the flags, which JAX reads once.
    import sb3_api
    import torch
    from sbx import SAC

    torch.set_num_threads(threads)
    serve(PACKAGES, sb3_api.kinds(SAC))


if __name__ == "__main__":
    main()
