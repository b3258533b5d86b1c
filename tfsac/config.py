"""Every hyperparameter of the algorithms, with its symbol and source."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

__all__ = ["MOST_LAYERS", "AgentConfig", "SACConfig", "SQLConfig"]

# A file may name any number of layers; each takes milliseconds to make.
MOST_LAYERS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The hyperparameters that all algorithms have.

    "Transition" means one environment step of one environment: E environments
    that step once yield E transitions. "Update" means one gradient step on
    everything that the algorithm learns.

    Args:
        discount: gamma, in [0, 1]. Defaults to `0.99`.
        tau: step of the soft target update, in (0, 1]. Defaults to `0.005`.
        num_critics: N, the members of the critic ensemble; the smallest of
            their values counts. Defaults to `2`.
        reward_scale: factor on each reward before it is learned from; logged
            returns stay unscaled. Defaults to `1.0`.
        learning_rate: Adam's step size for everything that is learned;
            `agent.compile` takes other optimizers. Defaults to `3e-4`.
        batch_size: B, transitions in one update. Defaults to `256`.
        replay_capacity: transitions that the replay buffer holds. Defaults
            to `1_000_000`.
        random_steps: transitions with uniformly random actions before the
            first update; large tasks may want the 10,000 that are common
            for MuJoCo. Defaults to `1_000`.
        train_every: transitions collected between two calls of the train
            step. Defaults to `1`.
        updates_per_step: updates per transition; one call of the train step
            runs K = train_every * updates_per_step, a whole number. Defaults
            to `1`.
        overlap: whether `fit` collects the next transitions while the train
            step runs, acting with the weights from before it: one call, K
            updates, behind. It pays where environments are slow; let
            `train_every` be at least their number. Defaults to `False`.
        hidden_units: widths of the hidden layers of actor and critics, at
            most 100. Defaults to `(256, 256)`.
        activation: Keras activation of the hidden layers. Defaults to
            `"relu"`.

    Raises:
        ValueError: If a value is out of its range.
    """

    # Objective
    discount: float = 0.99
    tau: float = 0.005
    num_critics: int = 2
    reward_scale: float = 1.0
    # Optimisation and data
    learning_rate: float = 3e-4
    batch_size: int = 256
    replay_capacity: int = 1_000_000
    random_steps: int = 1_000
    train_every: int = 1
    updates_per_step: float = 1
    overlap: bool = False
    # Networks
    hidden_units: tuple[int, ...] = (256, 256)
    activation: str = "relu"

    def __post_init__(self) -> None:
        """Checks every field, and makes `hidden_units` a tuple."""
        object.__setattr__(self, "hidden_units", tuple(self.hidden_units))
        for name in (
            "num_critics",
            "batch_size",
            "replay_capacity",
            "train_every",
        ):
            self._require(name, _is_count, _COUNT)
        self._require(
            "random_steps",
            lambda n: n == 0 or _is_count(n),
            "a whole number of at least 0",
        )
        self._require("overlap", _is_switch, _SWITCH)
        self._require("discount", lambda x: 0 <= x <= 1, "a number in [0, 1]")
        self._require("tau", lambda x: 0 < x <= 1, "a number in (0, 1]")
        for name in ("learning_rate", "reward_scale"):
            self._require(name, _is_positive, _POSITIVE)
        self._require(
            "hidden_units",
            lambda units: (
                len(units) <= MOST_LAYERS and all(_is_count(n) for n in units)
            ),
            f"at most {MOST_LAYERS} whole numbers of at least 1",
        )
        updates = self.train_every * self.updates_per_step
        self._require(
            "updates_per_step",
            lambda _: updates >= 1 and abs(updates - round(updates)) < 1e-9,
            "such that train_every * updates_per_step is a whole number of at "
            f"least 1 (train_every={self.train_every})",
        )

    def _require(
        self, name: str, is_valid: Callable[[Any], bool], expected: str
    ) -> None:
        value = getattr(self, name)
        try:
            valid = is_valid(value)
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(
                f"{type(self).__name__}.{name} must be {expected}. "
                f"Received: {name}={value!r}"
            )

    @property
    def updates_per_call(self) -> int:
        """K, the updates that one call of the train step runs."""
        return round(self.train_every * self.updates_per_step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACConfig(AgentConfig):
    """The hyperparameters of SAC; the defaults are those of SAC 2018b.

    Example:

    ```python
    config = tfsac.SACConfig(discount=0.98, hidden_units=(64, 64))
    agent = tfsac.SAC("Pendulum-v1", config)
    ```

    Besides those of `AgentConfig`, which all algorithms have:

    Args:
        temperature: alpha, in reward units per nat. `None` learns it (SAC
            2018b, section 5), from `initial_temperature` on; a number fixes
            it. Defaults to `None`.
        initial_temperature: alpha at the start, if it is learned. Defaults
            to `1.0`.
        target_entropy: H-bar, in nats, for a learned temperature. `None` is
            -A, minus the number of action dimensions; with n discrete actions
            half of log n, the entropy of a uniform choice. Defaults to `None`.
        backup_entropy: whether the critics' target holds the entropy of the
            next action (seed eq. 6), as the maximum entropy objective
            demands; without it entropy only regularises the actor. Defaults
            to `True`.
        policy_delay: updates of the critics for each one of actor and
            temperature. Defaults to `1`.
        log_std_min: lower bound on the policy's log standard deviation, in
            nats. Defaults to `-20.0`.
        log_std_max: upper bound on the same. Defaults to `2.0`.

    Raises:
        ValueError: If a value is out of its range.

    References:
        - [SAC 2018a](https://arxiv.org/abs/1801.01290)
        - [SAC 2018b](https://arxiv.org/abs/1812.05905), table 1
    """

    temperature: float | None = None
    initial_temperature: float = 1.0
    target_entropy: float | None = None
    backup_entropy: bool = True
    policy_delay: int = 1
    log_std_min: float = -20.0
    log_std_max: float = 2.0

    def __post_init__(self) -> None:
        """Checks every field."""
        super().__post_init__()
        self._require("policy_delay", _is_count, _COUNT)
        self._require("backup_entropy", _is_switch, _SWITCH)
        self._require("initial_temperature", _is_positive, _POSITIVE)
        self._require(
            "temperature",
            lambda x: x is None or _is_positive(x),
            f"None, to learn it, or {_POSITIVE}",
        )
        self._require(
            "target_entropy",
            lambda x: x is None or math.isfinite(x),
            "None, for the action space's own, or a finite number",
        )
        self._require(
            "log_std_max",
            lambda x: -20 <= self.log_std_min < x <= 20,
            f"above log_std_min={self.log_std_min!r}, both in [-20, 20]",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SQLConfig(AgentConfig):
    """The hyperparameters of soft Q-learning.

    An update looks at B (M + K) actions, where SAC looks at 2 B: its batches
    are therefore smaller by default, as they are in the paper.

    Example:

    ```python
    config = tfsac.SQLConfig(temperature=0.2, num_particles=16)
    agent = tfsac.SoftQLearning("Pendulum-v1", config)
    ```

    Besides those of `AgentConfig`, which all algorithms have:

    Args:
        temperature: alpha, in reward units per nat; it stays as it is.
            Defaults to `0.1`.
        num_particles: M, actions of the sampling network for each state in
            an update, which push each other apart; at least 8, as fewer push
            too far. Defaults to `32`.
        num_proposals: K, uniformly random actions for each state that its
            value is estimated from. Defaults to `64`.
        batch_size: B, transitions in one update. Defaults to `64`.

    Raises:
        ValueError: If a value is out of its range.

    References:
        - [SQL](https://arxiv.org/abs/1702.08165), appendix D.1
    """

    temperature: float = 0.1
    num_particles: int = 32
    num_proposals: int = 64
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Checks every field."""
        super().__post_init__()
        self._require("temperature", _is_positive, _POSITIVE)
        self._require("num_proposals", _is_count, _COUNT)
        self._require(
            "num_particles",
            lambda m: _is_count(m) and m >= _MIN_PARTICLES,
            f"a whole number of at least {_MIN_PARTICLES} (fewer push each "
            "other too far apart, and the policy gets too wide)",
        )


# The median distance of fewer particles depends too much on each of them: the
# width at which they rest, 1 for the right one, is 1.13 with 4.
_MIN_PARTICLES = 8
_COUNT = "a whole number of at least 1"
_POSITIVE = "a finite number above 0"
_SWITCH = "True or False"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)
