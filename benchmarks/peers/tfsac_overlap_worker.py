"""The worker of tfsac with `overlap=True`; run.py starts it with threads."""

import tfsac_worker

if __name__ == "__main__":
    tfsac_worker.main(overlap=True)
