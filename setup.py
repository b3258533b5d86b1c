"""Compiles `kernels/*.cc` into `tfsac/_kernels.so`; all else: pyproject.toml.

The library is loaded by TensorFlow, not by Python, so its name carries no
Python tag. Without a compiler, or where compiling fails, the installation goes
on, and `tfsac/_kernels.json` records why: pure TensorFlow serves then.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = sorted(
    path.as_posix()
    for path in pathlib.Path("kernels").glob("*.cc")
    if not path.stem.endswith("_test")
)
# Portable code: a wheel travels to other machines, so no -march=native.
FLAGS = "-O3 -fPIC -fvisibility=hidden -Wall -Wextra".split()

# TensorFlow is asked in a child process: it brings its own threads and logging,
# and a child sees the same packages, those of an isolated build too.
ASK_TENSORFLOW = """
import json, tensorflow as tf
print(json.dumps({
    "tensorflow": tf.__version__,
    "compile": tf.sysconfig.get_compile_flags(),
    "link": tf.sysconfig.get_link_flags(),
}))
"""


class BuildKernels(build_ext):
    """Compiles the kernels, or records why that was not possible."""

    def run(self):
        """Builds into the build folder, or in place for editable installs."""
        package = pathlib.Path("tfsac" if self.inplace else self._package())
        package.mkdir(parents=True, exist_ok=True)
        library = package / "_kernels.so"
        try:
            info, built = self._build()
            # A new file, since a process may have mapped the one of before.
            library.unlink(missing_ok=True)
            shutil.copy2(built, library)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            library.unlink(missing_ok=True)
            info = {"error": _explain(error)}
            print(
                "tfsac: the C++ kernels were not built, so pure TensorFlow "
                f"will serve:\n{info['error']}",
                file=sys.stderr,
            )
        (package / "_kernels.json").write_text(json.dumps(info, indent=2))

    def _package(self):
        return os.path.join(self.build_lib, "tfsac")

    def _build(self):
        temporary = pathlib.Path(self.build_temp).absolute()
        temporary.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        version = _output([*compiler, "--version"]).splitlines()[0]
        # Not from this folder: a file of its could shadow a package.
        answer = _output([sys.executable, "-c", ASK_TENSORFLOW], cwd=temporary)
        tensorflow = json.loads(answer.splitlines()[-1])
        own_flags = FLAGS + shlex.split(os.environ.get("CXXFLAGS", ""))
        flags = own_flags + _with_system_headers(tensorflow["compile"])

        def compile_source(source):
            target = temporary / (pathlib.Path(source).stem + ".o")
            _output([*compiler, *flags, "-c", source, "-o", str(target)])
            return str(target)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_source, SOURCES))
        library = temporary / "_kernels.so"
        link = ["-shared", *objects, "-o", str(library), *tensorflow["link"]]
        link.append("-l:libtensorflow_cc.so.2")  # has the XLA compiler
        _output([*compiler, *link])
        info = {
            "tensorflow": tensorflow["tensorflow"],
            "compiler": version,
            "flags": own_flags,
        }
        return info, library

    def get_outputs(self):
        """Lists what an installation holds beside the Python files."""
        names = ("_kernels.so", "_kernels.json")
        paths = [os.path.join(self._package(), name) for name in names]
        return [path for path in paths if os.path.exists(path)]

    def get_output_mapping(self):
        """Maps no build product to a source: `run` builds in place itself."""
        return {}


class PlatformWheel(bdist_wheel):
    """Tags the wheel with the platform, and with no version of Python."""

    def get_tag(self):
        """Returns (Python, ABI, platform)."""
        return "py3", "none", super().get_tag()[2]


def _with_system_headers(flags):
    """Exempts headers that are not ours from warnings; TensorFlow's need it.

    And adds two folders of its includes that it forgets, which XLA's need.
    """
    result = []
    for flag in flags:
        if not flag.startswith("-I"):
            result.append(flag)
            continue
        include = pathlib.Path(flag[2:])
        forgotten = ("highwayhash", "farmhash_archive/src")
        for folder in (
            include,
            *(include / "external" / name for name in forgotten),
        ):
            result += ["-isystem", str(folder)]
    return result


def _output(command, cwd=None):
    """Runs a command; returns what it printed."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    ).stdout


def _explain(error):
    if isinstance(error, subprocess.CalledProcessError):
        text = error.stderr.strip() or f"exit status {error.returncode}"
        return f"{shlex.join(error.cmd)}\n{text}"[:4000]
    return str(error)


setup(
    ext_modules=[Extension("tfsac._kernels", SOURCES)],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
