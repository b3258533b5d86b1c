"""Loads the C++ kernels once, or knows why they cannot serve.

`setup.py` puts `_kernels.so` beside this file, and `_kernels.json`, which
tells the TensorFlow that it was built for, or why it was not built. Where the
kernels cannot serve, pure TensorFlow does, with the same results. Set
`TFSAC_KERNELS=off` in the environment to choose that.
"""

import ctypes
import functools
import json
import os
import pathlib
import types
import warnings
from typing import Any

import tensorflow as tf

_FOLDER = pathlib.Path(__file__).parent
_BUILD = "build them with `pip install .` where a C++17 compiler is installed"


def kernels() -> types.ModuleType | None:
    """Returns the ops as a module of functions, or None without kernels."""
    return _load(_FOLDER, _switched_off())[0]


def loaded() -> bool:
    """Returns whether the kernels serve."""
    return kernels() is not None


def c_functions() -> ctypes.CDLL:
    """Returns the kernels' C functions, where `loaded`.

    They do per environment step what takes TensorFlow longer to dispatch than
    to do; `kernels/README.md` lists them. Arguments are not checked.
    """
    return _c_functions(_FOLDER / "_kernels.so")


def status() -> str:
    """Describes the kernels in one line: what they are, or why not there."""
    return " ".join(_load(_FOLDER, _switched_off())[1].split())


def warn_without_kernels() -> None:
    """Warns that pure TensorFlow serves, unless that was asked for."""
    module, explanation = _load(_FOLDER, _switched_off())
    if module is None and not _switched_off():
        warnings.warn(
            "tfsac: pure TensorFlow serves in place of the C++ kernels, with "
            f"the same results but slower. The kernels: {explanation}",
            RuntimeWarning,
            stacklevel=2,
        )


def _switched_off() -> bool:
    return os.environ.get("TFSAC_KERNELS", "on").lower() == "off"


@functools.cache
def _load(
    folder: pathlib.Path, switched_off: bool
) -> tuple[types.ModuleType | None, str]:
    """Returns the ops, and their status or the reason why there are none."""
    if switched_off:
        return None, "off, as TFSAC_KERNELS=off asks"
    library = folder / "_kernels.so"
    info = _build_info(folder / "_kernels.json")
    if not library.exists():
        reason = info.get("error", f"{library} does not exist; {_BUILD}")
        return None, f"not built: {reason}"
    built_for = info.get("tensorflow", "an unknown version")
    # TensorFlow's C++ interface is stable within a minor version only.
    if _minor(built_for) != _minor(tf.__version__):
        return None, (
            f"built for TensorFlow {built_for}, but this is "
            f"{tf.__version__}; {_BUILD}"
        )
    try:
        module = tf.load_op_library(str(library))
        # Some of which the library of an older tfsac has not.
        simd = _c_functions(library).tfsac_simd().decode()
    except (
        tf.errors.OpError,
        AttributeError,
        OSError,
        RuntimeError,
    ) as error:
        return None, f"cannot load {library}: {error}; {_BUILD}"
    wanted = os.environ.get("TFSAC_SIMD", simd)
    if wanted != simd:
        return None, (
            f"TFSAC_SIMD={wanted!r} names instructions that are not of this "
            "CPU; unset it, or choose amx, avx512, avx2 or portable"
        )
    return module, (
        f"loaded, built for TensorFlow {built_for} by "
        f"{info.get('compiler', 'an unknown compiler')}, for {simd}"
    )


@functools.cache
def _c_functions(path: pathlib.Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    act = library.tfsac_act
    act.restype = ctypes.c_char_p
    act.argtypes = [integer, pointer, integer, ctypes.c_bool]
    act.argtypes += [ctypes.c_uint64, ctypes.c_uint64, pointer]
    insert = library.tfsac_replay_insert
    insert.restype = None
    insert.argtypes = [integer, integer, *[pointer] * 7]
    library.tfsac_simd.restype = ctypes.c_char_p
    return library


def _build_info(path: pathlib.Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
