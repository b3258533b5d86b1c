"""What Keras' own callbacks remember from epoch to epoch.

Keras has no hook to save it; without it, a run that goes on in another process
would be patient for longer than one that never stopped.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

__all__ = ["callback_state", "is_state", "restore_callbacks"]

_Check: TypeAlias = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_history(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_list, value.values()))


# By class the attributes, and what is right for one.
_REMEMBERED: dict[type[keras.callbacks.Callback], dict[str, _Check]] = {
    keras.callbacks.EarlyStopping: {
        "wait": _is_number,
        "stopped_epoch": _is_number,
        "best": _is_number,
        "best_epoch": _is_number,
    },
    keras.callbacks.ReduceLROnPlateau: {
        "wait": _is_number,
        "cooldown_counter": _is_number,
        "best": _is_number,
    },
    keras.callbacks.ModelCheckpoint: {"best": _is_number},
    keras.callbacks.History: {"epoch": _is_list, "history": _is_history},
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
        weights = getattr(callback, "best_weights", None) or []
        for i, array in enumerate(weights):
            arrays[f"{key}/{i}"] = np.asarray(array)
    return state, arrays


def is_state(value: Any) -> bool:
    """Whether `restore_callbacks` can take it, wherever it comes from.

    Of callbacks and attributes that are not known here nothing is taken.
    """
    if not isinstance(value, dict):
        return False
    kinds = {kind.__name__: names for kind, names in _REMEMBERED.items()}
    return all(
        isinstance(attributes, dict)
        and all(
            name in attributes and is_right(attributes[name])
            for name, is_right in kinds.get(key.split(" ")[0], {}).items()
        )
        for key, attributes in value.items()
    )


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    state: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Gives callbacks back what `callback_state` returned.

    Who had stopped the training stops it again.

    Args:
        callbacks: Those of `fit`, after their `on_train_begin`.
        state: What `callback_state` returned, and `is_state` accepts.
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
        callback, names = remembering[key]
        for name in names:  # and no other that a file may hold
            setattr(callback, name, state[key][name])
        count = sum(name.startswith(f"{key}/") for name in arrays)
        if count and isinstance(callback, keras.callbacks.EarlyStopping):
            callback.best_weights = [arrays[f"{key}/{i}"] for i in range(count)]
        if getattr(callback, "stopped_epoch", 0):
            callback.model.stop_training = True


def _that_remember(
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, tuple[keras.callbacks.Callback, dict[str, _Check]]]:
    """Callbacks and their attributes, by class and order."""
    return {
        f"{kind.__name__} {i}": (callback, names)
        for kind, names in _REMEMBERED.items()
        for i, callback in enumerate(
            each for each in callbacks if isinstance(each, kind)
        )
    }
