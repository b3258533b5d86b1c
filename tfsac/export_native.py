"""The policy as native code, which needs neither TensorFlow nor Python.

XLA compiles it ahead of time; `native/` has what goes beside the objects.
"""

import functools
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfsac import endpoints, parity

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["write"]

_TEMPLATES = pathlib.Path(__file__).parent / "native"
# What native/xla_runtime.h stands in for.
_HEADERS = {
    "absl/log/check.h",
    "absl/synchronization/blocking_counter.h",
    "tensorflow/compiler/tf2xla/xla_compiled_cpu_function.h",
    "tensorflow/core/platform/types.h",
    "xla/backends/cpu/runtime/kernel_c_api.h",
    "xla/types.h",
}
# The generated code is not ours to warn of.
_INCLUDE = '#pragma GCC system_header\n#include "../xla_runtime.h"\n'
_BASELINES = {"x86_64": "x86-64"}
_C_TYPES = {
    "float32": "float",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
}


def write(
    agent: "Agent",
    folder: pathlib.Path,
    target_triple: str = "x86_64-unknown-linux-gnu",
    target_cpu: str | None = None,
) -> parity.Act:
    """Writes objects, a C header, and a CMake project that makes a library.

    The header is `native/policy.h.in`; `native/README.md` lists the files and
    has the command line. Code for one machine can be written on another.

    Args:
        agent: Whose policy.
        folder: Where to write.
        target_triple: The machine, in LLVM's words. Defaults to
            `"x86_64-unknown-linux-gnu"`.
        target_cpu: The CPU with the fewest instructions that it is to run on,
            in LLVM's words, such as `"haswell"`. Defaults to `"x86-64"`, which
            any 64-bit PC is, or `"generic"` for other machines.

    Returns:
        What builds and runs a program of it, if this is such a machine.

    Raises:
        ValueError: If XLA does not know the target, or needs more than plain
            kernels for the policy.
    """
    if target_cpu is None:
        target_cpu = _BASELINES.get(_machine(target_triple), "generic")
    target = {"target_triple": target_triple, "target_cpu": target_cpu}
    shutil.copytree(
        _TEMPLATES,
        folder,
        ignore=shutil.ignore_patterns("*.in", "__pycache__"),
        dirs_exist_ok=True,
    )
    (folder / "policy.h").write_text(_header(agent))
    (folder / "xla").mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        module = endpoints.module(agent.policy, batch=1)
        signatures = {"act": module.act, "sample": module.sample}
        model = os.path.join(temporary, "model")
        tf.saved_model.save(module, model, signatures)
        compilers = {
            name: _start_compiler(model, name, folder / "xla", target)
            for name in signatures
        }
        outputs = {n: each.communicate()[0] for n, each in compilers.items()}
        for name, compiler in compilers.items():
            _check(compiler.returncode, outputs[name], target)
            _make_standalone(folder / "xla", name)
    return functools.partial(_act, agent, folder, target)


def _header(agent: "Agent") -> str:
    flatten = agent.policy.flatten
    rows = np.zeros([1, flatten.size], flatten.dtype)
    actions = agent.policy.act(rows)
    values = {
        "observation_size": flatten.size,
        "action_size": math.prod(actions.shape),
        "observation_type": _C_TYPES[flatten.dtype.name],
        "action_type": _C_TYPES[actions.dtype.name],
    }
    text = (_TEMPLATES / "policy.h.in").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _start_compiler(
    model: str, name: str, folder: pathlib.Path, target: dict[str, str]
) -> subprocess.Popen[str]:
    """Starts XLA for one signature: a process takes one."""
    [cli] = importlib.metadata.entry_points(
        group="console_scripts", name="saved_model_cli"
    )
    options = {
        "dir": model,
        "tag_set": "serve",
        "signature_def_key": name,
        "output_prefix": f"./{name}",
        "cpp_class": f"tfsac::{name.capitalize()}",
        **target,
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", cli.module, "aot_compile_cpu"),
            *(f"--{key}={value}" for key, value in options.items()),
        ],
        cwd=folder,
        env=os.environ
        | {"CUDA_VISIBLE_DEVICES": "-1", "TMPDIR": os.path.dirname(model)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _check(code: int, output: str, target: dict[str, str]) -> None:
    """Raises what XLA says."""
    # LLVM takes an unknown CPU for the simplest, and goes on.
    signs = "is not a recognized processor", "No available targets"
    if any(sign in output for sign in signs):
        raise ValueError(
            "Expected a machine that LLVM knows, such as "
            "x86_64-unknown-linux-gnu and haswell, or "
            f"aarch64-unknown-linux-gnu and cortex-a72. Received: {target}."
        )
    if code != 0:
        raise RuntimeError(
            f"XLA could not compile the policy ahead of time: {output[-2000:]}"
        )


def _make_standalone(folder: pathlib.Path, name: str) -> None:
    """Has the header that XLA made include `xla_runtime.h` alone."""
    header = folder / f"{name}.h"
    includes = re.compile(r'^#include "(.*)"\n', re.MULTILINE)
    text = header.read_text()
    unknown = set(includes.findall(text)) - _HEADERS
    if unknown:
        raise ValueError(
            "Expected a policy that XLA compiles to kernels alone, as it does "
            "dense layers. Received: one that needs XLA's own "
            f"{', '.join(sorted(unknown))}. Export it as tf_saved_model."
        )
    header.write_text(_INCLUDE + includes.sub("", text))
    for left_over in (f"{name}_metadata.o", f"{name}_makefile.inc"):
        (folder / left_over).unlink()


def _machine(target_triple: str) -> str:
    return target_triple.partition("-")[0]


def _act(
    agent: "Agent",
    folder: pathlib.Path,
    target: dict[str, str],
    rows: np.ndarray,
) -> np.ndarray:
    """Builds `act.c` and acts with it."""
    triple, cpu = target.values()
    if sys.platform not in triple or _machine(triple) != platform.machine():
        raise parity.Unchecked(f"It is for {triple}; this machine is another.")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise parity.Unchecked("There is no C++ compiler to build it with.")
    with tempfile.TemporaryDirectory() as temporary:
        program = os.path.join(temporary, "act")
        build = subprocess.run(
            [
                *(compiler, "-std=c++17", "-O1", "-o", program),
                *("-x", "c++", "act.c", "policy_act.cc"),
                *("-x", "none", "xla/act.o", "xla/act_constants.o"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if build.returncode != 0:
            raise RuntimeError(
                f"{compiler} could not build the policy: {build.stderr[:2000]}"
            )
        process = subprocess.run(
            [program], input=rows.tobytes(), stdout=subprocess.PIPE
        )
    if process.returncode == -signal.SIGILL:
        raise parity.Unchecked(f"This CPU lacks instructions of {cpu}.")
    process.check_returncode()
    like = agent.policy.act(rows[:1])
    return np.frombuffer(process.stdout, like.dtype).reshape(
        len(rows), *like.shape[1:]
    )
