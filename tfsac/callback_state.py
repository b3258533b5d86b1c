"""What Keras' own callbacks remember from epoch to epoch.

Keras has no hook to save it; without it, a run that goes on in another process
would be patient for longer than one that never stopped.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

__all__ = ["callback_state", "restore_callbacks"]

_REMEMBERED = {
    keras.callbacks.EarlyStopping: (
        "wait",
        "stopped_epoch",
        "best",
        "best_epoch",
        "best_weights",
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.History: ("epoch", "history"),
}


def callback_state(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns what callbacks remember.

    Args:
        callbacks: Those of `fit`; of one's own ones nothing is known.

    Returns:
        Their attributes, as JSON holds them, and their lists of weights.
    """
    state, arrays = {}, {}
    for key, (callback, names) in _that_remember(callbacks).items():
        state[key] = {name: getattr(callback, name) for name in names}
        for i, array in enumerate(state[key].pop("best_weights", None) or []):
            arrays[f"{key}/{i}"] = np.asarray(array)
    return state, arrays


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    state: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Gives callbacks back what `callback_state` returned.

    Who had stopped the training stops it again.

    Args:
        callbacks: Those of `fit`, after their `on_train_begin`.
        state: What `callback_state` returned.
        arrays: The same.
    """
    remembering = _that_remember(callbacks)
    if remembering.keys() != state.keys():
        warnings.warn(
            f"Expected the callbacks of the run: {', '.join(state)}. "
            f"Received: {', '.join(remembering)}. What the others remembered "
            "is lost.",
            stacklevel=2,
        )
    for key in remembering.keys() & state.keys():
        callback, _ = remembering[key]
        for name, value in state[key].items():
            setattr(callback, name, value)
        count = sum(name.startswith(f"{key}/") for name in arrays)
        if count:
            callback.best_weights = [arrays[f"{key}/{i}"] for i in range(count)]
        if getattr(callback, "stopped_epoch", 0):
            callback.model.stop_training = True


def _that_remember(
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, tuple[keras.callbacks.Callback, tuple[str, ...]]]:
    """Callbacks and the names of their attributes, by class and order."""
    return {
        f"{kind.__name__} {i}": (callback, names)
        for kind, names in _REMEMBERED.items()
        for i, callback in enumerate(
            each for each in callbacks if isinstance(each, kind)
        )
    }
