"""What is measured: cases, and which side can run them."""

import dataclasses
from typing import Any

PEERS = ("sb3", "sbx", "tf_agents")
ENVS = ("HalfCheetah-v5", "Humanoid-v5", "Pendulum-v1")
GROWTH = {
    "batch": (64, 256, 1024, 4096),
    "hidden": (64, 128, 256, 512, 1024),
    "observation": (3, 17, 100, 400),
    "critics": (2, 3, 5, 10),
    "num_envs": (1, 4, 16, 64),
}
# tfsac without and with `SACConfig(overlap=True)`, which only it has.
OVERLAP = ("tfsac", "tfsac_overlap")
WAITING = "waiting_env:Waiting-v0"


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure; the defaults are the paper's, on HalfCheetah.

    Args:
        kind: "update" samples from replay and learns, "step" only learns, on
            batches that are there already, "end_to_end" is the training loop,
            "end_to_end_overlap" that of tfsac with and without overlap.
        updates: K, the updates in one call; in "end_to_end" also the
            environment steps between two calls.
        growth: The size that grows, where the case is one of a series.
        env: The environment's id, in "end_to_end"; sizes are its own there.
        num_envs: Environments at once, in "end_to_end".
        vectorization: "sync" steps them one after another, "async" each in a
            process of its own.
        observation: Size of an observation.
        action: Size of an action.
        hidden: Width of both hidden layers, of actor and critics.
        batch: Transitions in one update.
        critics: N, members of the critic ensemble.
    """

    kind: str
    updates: int = 1
    growth: str = ""
    env: str = ""
    num_envs: int = 1
    vectorization: str = "sync"
    observation: int = 17
    action: int = 6
    hidden: int = 256
    batch: int = 256
    critics: int = 2

    @property
    def is_loop(self) -> bool:
        """Whether it is a training loop: its number is steps per second."""
        return self.kind.startswith("end_to_end")

    def runs_on(self, side: str) -> bool:
        """Whether a side has what the case asks for."""
        if self.kind == "end_to_end_overlap":
            return side in OVERLAP
        if side == "tf_agents":
            # Its agent has two critics, and it knows no Gymnasium.
            return not self.is_loop and self.critics == 2
        # In the others sampling is a part of the call that learns.
        return self.kind != "step" or side == "tfsac"


def main_cases() -> list[Case]:
    """The paper's sizes: time of an update, and whole training loops."""
    updates = [Case(kind, k) for kind in ("update", "step") for k in (1, 20)]
    return updates + [_loop(k, env=env) for env in ENVS for k in (1, 20)]


def overlap_cases() -> list[Case]:
    """Whole training loops of tfsac, without and with overlap."""
    kind = "end_to_end_overlap"
    envs = *ENVS[:2], WAITING
    cases = [_loop(k, kind, env=each) for each in envs for k in (1, 20)]
    return cases + [
        _loop(8, kind, env=ENVS[0], num_envs=8, vectorization=each)
        for each in ("sync", "async")
    ]


def growth_cases() -> list[Case]:
    """One size at a time away from the paper's; one update for each step."""
    cases = []
    for name, values in GROWTH.items():
        for value in values:
            case = Case("update", growth=name)
            if name == "num_envs":
                case = _loop(value, growth=name, env=ENVS[0])
            cases.append(dataclasses.replace(case, **{name: value}))
    return cases


def _loop(updates: int, kind: str = "end_to_end", **fields: Any) -> Case:
    """A case of a training loop: its environment has sizes of its own."""
    return Case(kind, updates, observation=0, action=0, **fields)
