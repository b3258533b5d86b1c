"""From nothing to a policy that acts without this library, in two minutes.

Trains SAC on Pendulum-v1, evaluates it, exports it as a SavedModel, and acts
with that in a fresh process that cannot import tfsac.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np

import tfsac
from tfsac.evaluation import evaluate

ENV = "Pendulum-v1"
ACT = pathlib.Path(__file__).with_name("act_from_saved_model.py")
# What `python ACT MODEL ENV` does where tfsac is not installed.
ACT_WITHOUT_TFSAC = f"""
import runpy, sys
sys.modules["tfsac"] = None
runpy.run_path({str(ACT)!r}, run_name="__main__")
"""
NEXT = """
Next:
  tfsac train HalfCheetah-v5 --steps 200000 --out runs/cheetah
  tfsac train --help, for every hyperparameter
  examples/, for a loop of your own
  docs/sac.md, for the maths
(The commands are in .venv/bin; HalfCheetah-v5 needs the extra [mujoco].)"""


def main(steps: int, episodes: int, threshold: float, out: str) -> int:
    """Returns the exit code: 1 if the mean return is below the threshold."""
    print(f"1. Train SAC on {ENV} for {steps:,} steps")
    # A short horizon and a large step, for a small task in few steps.
    config = tfsac.SACConfig(discount=0.95, learning_rate=1e-3, train_every=5)
    agent = tfsac.SAC(ENV, config, seed=0)
    agent.fit(epochs=5, steps_per_epoch=steps // 5, validation_episodes=5)

    print(f"\n2. Evaluate it from {episodes} fixed starts")
    mean_return = agent.evaluate(episodes=episodes, seed=0)["episode_return"]
    print(f"mean return of the trained policy: {mean_return:.0f}")
    print(f"mean return of random actions: {play_randomly(episodes):.0f}")

    print("\n3. Export it")
    model = agent.export(out)
    print(f"SavedModel: {model}")

    print("\n4. Act with that in a fresh process, without tfsac", flush=True)
    command = [sys.executable, "-c", ACT_WITHOUT_TFSAC, model, ENV]
    subprocess.run(command, check=True)

    if mean_return < threshold:
        print(f"\nThe mean return should be at least {threshold:.0f}.")
        return 1
    print(NEXT)
    return 0


def play_randomly(episodes: int) -> float:
    """Returns the mean return of uniformly random actions, same starts."""
    rng = np.random.default_rng(0)
    low, high = -2.0, 2.0  # the torque's bounds
    return evaluate(
        ENV,
        lambda observations: rng.uniform(low, high, (len(observations), 1)),
        episodes,
        seed=0,
    ).returns.mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--threshold", type=float, default=-200.0)
    parser.add_argument("--out", default="runs/quickstart")
    args = parser.parse_args()
    sys.exit(main(args.steps, args.episodes, args.threshold, args.out))
