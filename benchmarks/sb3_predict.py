"""Stable-Baselines3's side of `formats.py`: prints "P50 P99" of `predict`, us.

It runs in an environment of its own, on one thread.
"""

import sys
import time

import gymnasium
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces


class Env(gymnasium.Env):
    """Spaces alone: nobody steps it."""

    observation_space = spaces.Box(-np.inf, np.inf, (int(sys.argv[1]),))
    action_space = spaces.Box(-1, 1, (int(sys.argv[2]),))


def main() -> None:
    torch.set_num_threads(1)
    agent = stable_baselines3.SAC("MlpPolicy", Env(), device="cpu")
    observation = np.zeros(Env.observation_space.shape, np.float32)
    times = []
    for call in range(-200, 2_000):  # warms up below 0
        start = time.perf_counter()
        agent.predict(observation, deterministic=True)
        if call >= 0:
            times.append(time.perf_counter() - start)
    print(*np.quantile(times, [0.5, 0.99]) * 1e6)


if __name__ == "__main__":
    main()
