"""The worker of Stable-Baselines3; run.py starts it with threads."""

import sys

import sb3_api
import torch
from stable_baselines3 import SAC
from worker import serve

PACKAGES = ("stable-baselines3", "torch", "gymnasium", "numpy")


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    serve(PACKAGES, sb3_api.kinds(SAC))


if __name__ == "__main__":
    main()
