"""A finite Markov decision process, and checks of arrays over its actions."""

import dataclasses

import numpy as np
import numpy.typing as npt

__all__ = ["MDP", "distributions", "finite"]

# How far from 1 the probabilities of a distribution may sum up.
_SUM_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MDP:
    """A finite Markov decision process.

    Termination belongs to the transition, as everywhere in tfsac: an episode
    ends on arriving in a terminal state, and no value follows,
    `Q(s, a) = r + gamma (1 - d) V(s')`. Terminal states have rows like any
    other state (say, that they stay where they are, without reward), and so a
    value, that of an episode that began there; it reaches no other state.

    Example: in state 0, stay, or leave for the terminal state 1.

    ```python
    mdp = tfsac.tabular.MDP(
        transition=np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]] * 2]),
        reward=np.zeros((2, 2)),
        terminal=np.array([False, True]),
        discount=0.5,
    )
    ```

    Args:
        transition: `[S, A, S]`, the probability of each next state.
        reward: `[S, A]`; one that depends on the next state enters by its
            mean.
        terminal: `[S]`, booleans: where arriving ends the episode.
        discount: gamma, in [0, 1): below 1 each backup is a contraction, and
            each value finite, also where no episode ends.

    Raises:
        ValueError: If shapes do not fit, probabilities do not sum up to 1, or
            a number is out of its range.
    """

    transition: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    discount: float

    def __post_init__(self) -> None:
        """Checks every field, and keeps copies that cannot be written to."""
        shape = np.shape(self.transition)
        if len(shape) != 3 or shape[0] != shape[2]:
            raise ValueError(
                "MDP.transition must be [S, A, S]: states, actions, next "
                f"states. Received: shape {list(shape)}."
            )
        terminal = np.asarray(self.terminal)
        if terminal.dtype != bool or terminal.shape != shape[:1]:
            raise ValueError(
                f"MDP.terminal must be [S] = [{shape[0]}] booleans, one for "
                f"each state. Received: {terminal.dtype} of shape "
                f"{list(terminal.shape)}."
            )
        if not 0 <= self.discount < 1:
            raise ValueError(
                "MDP.discount must be a number in [0, 1): with 1, values need "
                "not be finite; take one close to 1. Received: "
                f"discount={self.discount!r}."
            )
        for name, array in (
            ("transition", distributions("MDP.transition", self.transition)),
            ("reward", finite("MDP.reward", self.reward, shape[:2])),
            ("terminal", terminal),
        ):
            array = array.copy()
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def finite(
    name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """The values in float64, if they are finite, and of that shape if given."""
    array = np.asarray(values, np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(
            f"{name} must be [S, A] = {list(shape)}. Received: shape "
            f"{list(array.shape)}."
        )
    if array.size == 0 or array.ndim == 0:
        raise ValueError(
            f"{name} must have a number for each of at least one action. "
            f"Received: shape {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite. Received: {array}.")
    return array


def distributions(
    name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """The same, if they are probabilities over the last axis."""
    array = finite(name, values, shape)
    error = np.max(np.abs(array.sum(axis=-1) - 1))
    if np.min(array) < 0 or error > _SUM_TOLERANCE:
        raise ValueError(
            f"{name} must hold probabilities, at least 0 and with sum 1 over "
            f"the last axis, to {_SUM_TOLERANCE:g}. Received: a least value of "
            f"{np.min(array):g}, and sums that differ from 1 by up to "
            f"{error:g}. In float64, divide by the sum."
        )
    return array
