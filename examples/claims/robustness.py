"""Claim: a maximum entropy policy is robust to disturbance.

Pendulum-v1 as it was trained on, with other masses, and with pushes: every 10
steps its speed changes by a normal number of the given standard deviation. All
act by their deterministic action. A row of the CSV is a run on one task; `lost`
is what the task costs it of its return on the undisturbed one.

    python examples/claims/robustness.py
"""

from typing import Any

import comparison
import drawing
import gymnasium
import numpy as np
from comparison import DETERMINISTIC, GREEDY, SAC

SIDES = (SAC, DETERMINISTIC, GREEDY)
CONFIG = {
    "discount": 0.95,
    "hidden_units": (64, 64),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "replay_capacity": 50_000,
    "train_every": 5,
}
MASSES, PUSHES = (0.5, 0.75, 1.25, 1.5), (0.5, 1.0, 2.0)
EPISODES = 30


class Pushed(gymnasium.Wrapper):
    """A pendulum that is pushed every 10 steps.

    Args:
        env: Pendulum-v1.
        push: Standard deviation of the change of its speed, rad/s.
    """

    def __init__(self, env: gymnasium.Env, push: float):
        super().__init__(env)
        self._push, self._steps = push, 0

    def step(self, action: Any) -> Any:
        """Pushes before each tenth step."""
        self._steps += 1
        if self._steps % 10 == 0:
            angle, speed = self.unwrapped.state
            speed += self._push * self.unwrapped.np_random.normal()
            self.unwrapped.state = np.array([angle, np.clip(speed, -8, 8)])
        return self.env.step(action)


def tasks() -> dict[str, gymnasium.Env]:
    """What the agents are tried on, by its name."""
    made = {"as trained": gymnasium.make("Pendulum-v1")}
    for mass in MASSES:
        env = gymnasium.make("Pendulum-v1")
        env.unwrapped.m = mass
        made[f"mass {mass}"] = env
    for push in PUSHES:
        made[f"push {push}"] = Pushed(gymnasium.make("Pendulum-v1"), push)
    return made


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains on the usual pendulum, and tries all of them."""
    agent = comparison.make(side, "Pendulum-v1", seed, None, **CONFIG)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    rows: list[comparison.Row] = []
    for task, env in tasks().items():
        result = agent.evaluate(env, EPISODES)["episode_return"]
        usual = rows[0]["episode_return"] if rows else result
        rows.append(
            {
                "task": task,
                "episode_return": round(result, 1),
                "lost": round(usual - result, 1),
            }
        )
    return rows


def draw(rows: list[comparison.Row]) -> Any:
    """The return of each side on each task."""
    figure, axes = drawing.figure(1)
    groups = {task: {"task": task} for task in tasks()}
    drawing.bars(axes[0], rows, "episode_return", groups, SIDES)
    axes[0].tick_params(labelsize="small")
    figure.legend(loc="outside upper center", ncols=len(SIDES))
    figure.set_size_inches(9, 3.5)
    return figure


def report(rows: list[comparison.Row]) -> list[str]:
    """What is shown, and what follows."""
    names = list(tasks())
    # The returns by themselves, and against those without disturbance.
    claims = {}
    for key, claim, sign in (
        ("episode_return", "has more return", 1),
        ("lost", "loses less", -1),
    ):
        for task in names if key == "episode_return" else names[1:]:
            ours, theirs = (
                sign * comparison.values(rows, key, side=side, task=task)
                for side in (SAC, DETERMINISTIC)
            )
            claims[f"{task}: {SAC} {claim} than {DETERMINISTIC}"] = ours, theirs
    lines = {task: ("episode_return", {"task": task}) for task in names}
    return [
        *comparison.table(rows, lines, SIDES, 0),
        "",
        *comparison.verdicts(claims, 0),
    ]


if __name__ == "__main__":
    args = comparison.parse(__doc__, "robustness", steps=10_000)
    rows = comparison.collect(args, SIDES, run)
    print(*report(rows), sep="\n")
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
