"""Soft Q-learning on a problem of one step whose best policy has two modes.

    python benchmarks/bimodal.py --out benchmarks/results/bimodal.csv

The reward of an action is alpha times the log density of a mixture of two
normal distributions, and the episode ends: so Q is the reward, and that mixture
the best policy. In the state -1 it is mirrored. For each seed and state a line
tells the total variation between samples of the policy and the exact density,
in cells of a fortieth of the range, and each mode's share of the samples beside
its exact one; `q_` columns tell the same of exp(Q / alpha) by the critics. Of
50,000 exact samples the total variation would be some 0.01.
"""

import argparse
import pathlib
from typing import Any

import common
import gymnasium
import numpy as np

ALPHA = 0.5
WEIGHT = np.array([0.35, 0.65])
MEAN = np.array([-0.5, 0.45])
STD = 0.15
CELLS = 40
SAMPLES = 50_000
CONFIG = {
    "temperature": ALPHA,
    "hidden_units": (64, 64),
    "learning_rate": 1e-3,
    "train_every": 5,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=4_000)
    args = parser.parse_args()
    rows = [row for seed in args.seeds for row in run(seed, args.steps)]
    common.write_csv(args.out, rows)


def density(action: np.ndarray) -> np.ndarray:
    """That of the best policy in the state 1, over [-1, 1]."""
    z = (action[..., np.newaxis] - MEAN) / STD
    normal = np.exp(-0.5 * z**2) / (STD * np.sqrt(2 * np.pi))
    return normal @ WEIGHT


class Bimodal(gymnasium.Env):
    """One step; the state is 1, or -1 where all is mirrored."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Draws the state."""
        super().reset(seed=seed)
        self._state = np.float32([self.np_random.choice([-1, 1])])
        return self._state, {}

    def step(self, action):
        """Ends the episode with the reward of the action."""
        [value] = density(np.asarray(action * self._state, np.float64))
        return self._state, ALPHA * float(np.log(value)), True, False, {}


def run(seed: int, steps: int) -> list[dict[str, Any]]:
    """Trains one agent; returns a row for each state."""
    import keras

    import tfsac

    agent = tfsac.SoftQLearning(Bimodal(), tfsac.SQLConfig(**CONFIG), seed)
    # The particles' noise is averaged out by ever smaller steps.
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    agent.compile(actor_optimizer=keras.optimizers.Adam(rate))
    agent.fit(1, steps, validation_episodes=0, verbose=0)
    rows = []
    for state in (-1, 1):
        row = {"seed": seed, "steps": steps, "updates": agent.updates}
        row |= {"state": state, **measure(agent, state)}
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    return rows


def measure(agent: Any, state: int) -> dict[str, float]:
    """Compares the policy, and its energy, with what is exact."""
    edges = np.linspace(-1, 1, CELLS + 1)
    fine = np.linspace(-1, 1, 100 * CELLS + 1)[:-1] + 0.01 / CELLS
    exact = density(fine) / density(fine).sum()
    between = (MEAN[0] < fine) & (fine < MEAN[1])
    valley = fine[between][np.argmin(exact[between])]

    def states(count: int) -> np.ndarray:
        return np.full((count, 1), state, np.float32)

    observations = states(SAMPLES)
    samples = state * agent.predict(observations, deterministic=False)[:, 0]
    action = np.float32(state * fine)[:, np.newaxis]
    q = agent.critic((states(len(fine)), action)).numpy().min(axis=0)
    energy = np.exp((q - q.max()) / ALPHA)

    def in_cells(values: np.ndarray, weights: Any = None) -> np.ndarray:
        counts, _ = np.histogram(values, edges, weights=weights)
        return counts / counts.sum()

    cells = in_cells(fine, exact)
    left = exact[fine < valley].sum()
    figures = {
        "total_variation": np.abs(in_cells(samples) - cells).sum() / 2,
        "left_mode": np.mean(samples < valley),
        "left_mode_exact": left,
        "right_mode": np.mean(samples >= valley),
        "right_mode_exact": 1 - left,
        "q_total_variation": np.abs(in_cells(fine, energy) - cells).sum() / 2,
        "q_left_mode": energy[fine < valley].sum() / energy.sum(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
