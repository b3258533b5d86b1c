"""What is measured: cases, and which side can run them."""

import dataclasses

PEERS = ("sb3", "sbx", "tf_agents")
ENVS = ("HalfCheetah-v5", "Humanoid-v5", "Pendulum-v1")
GROWTH = {
    "batch": (64, 256, 1024, 4096),
    "hidden": (64, 128, 256, 512, 1024),
    "observation": (3, 17, 100, 400),
    "critics": (2, 3, 5, 10),
    "num_envs": (1, 4, 16, 64),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure; the defaults are the paper's, on HalfCheetah.

    Args:
        kind: "update" samples from replay and learns, "step" only learns, on
            batches that are there already, "end_to_end" is the training loop.
        updates: K, the updates in one call; in "end_to_end" also the
            environment steps between two calls.
        growth: The size that grows, where the case is one of a series.
        env: The environment's id, in "end_to_end"; sizes are its own there.
        num_envs: Environments at once, in "end_to_end".
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
    observation: int = 17
    action: int = 6
    hidden: int = 256
    batch: int = 256
    critics: int = 2

    def runs_on(self, side: str) -> bool:
        """Whether a side has what the case asks for."""
        if side == "tf_agents":
            # Its agent has two critics, and it knows no Gymnasium.
            return self.kind != "end_to_end" and self.critics == 2
        # In the others sampling is a part of the call that learns.
        return self.kind != "step" or side == "tfsac"


def main_cases() -> list[Case]:
    """The paper's sizes: time of an update, and whole training loops."""
    updates = [Case(kind, k) for kind in ("update", "step") for k in (1, 20)]
    return updates + [
        Case("end_to_end", k, env=env, observation=0, action=0)
        for env in ENVS
        for k in (1, 20)
    ]


def growth_cases() -> list[Case]:
    """One size at a time away from the paper's; one update for each step."""
    cases = []
    for name, values in GROWTH.items():
        for value in values:
            case = Case("update", growth=name)
            if name == "num_envs":
                sizes = {"env": ENVS[0], "observation": 0, "action": 0}
                case = Case("end_to_end", value, growth=name, **sizes)
            cases.append(dataclasses.replace(case, **{name: value}))
    return cases
