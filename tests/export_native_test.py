"""The policy as native code, in programs that have no TensorFlow."""

import ctypes
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import export_contract
import keras
import numpy as np
import small_agent
import tensorflow as tf
import tools

TESTS = pathlib.Path(__file__).parent
# Of the address of an ELF file: what machine it is for.
E_MACHINE, X86_64, AARCH64 = slice(18, 20), 62, 183
# What a machine has that only runs programs.
BARE = {"PATH": "/usr/bin:/bin"}


def run(*command, **options):
    process = subprocess.run(command, capture_output=True, **options)
    if process.returncode != 0:
        raise AssertionError(f"{command}: {process.stderr[-4000:]}")
    return process


class NativeTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tools.need("c++")
        cls.agent = export_contract.agent()
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.path = pathlib.Path(cls.agent.export(folder, "native"))

    def _copy(self):
        """The exported folder alone, where nothing of TensorFlow is."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        return shutil.copytree(self.path, folder / "policy")

    def _check(self, program):
        linked = run("ldd", program, text=True).stdout
        self.assertNotRegex(linked, "(?i)tensorflow|absl|python")

        def act(rows):
            process = run(program, input=rows.tobytes(), env=BARE)
            return np.frombuffer(process.stdout, np.float32).reshape(-1, 3)

        export_contract.check(self, self.agent, act)

    def test_program_made_with_cmake(self):
        tools.need("cmake")
        folder = self._copy()
        run("cmake", "-S", ".", "-B", "build", cwd=folder, env=BARE)
        run("cmake", "--build", "build", cwd=folder, env=BARE)
        self._check(folder / "build" / "act")

    def test_program_made_by_the_documented_commands(self):
        folder = self._copy()
        text = (folder / "README.md").read_text()
        _, commands = re.findall(r"(?s)```sh\n(.*?)```", text)
        run("sh", "-e", "-c", commands, cwd=folder, env=BARE)
        self._check(folder / "act")

    def test_wrapper_has_no_warnings(self):
        flags = "-std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only"
        for name in ("policy_act.cc", "policy_sample.cc"):
            run("c++", *flags.split(), name, cwd=self.path)
        run("cc", "-std=c99", *flags.split()[1:], "act.c", cwd=self.path)

    def test_threads_and_memory(self):
        program = pathlib.Path(self.get_temp_dir()) / "threads"
        run(
            *("c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"),
            *("-pthread", "-I", self.path, "-o", program),
            *(TESTS / "native_threads.cc", self.path / "policy_act.cc"),
            *(self.path / "policy_sample.cc", *self.path.glob("xla/*.o")),
        )
        self.assertEqual(run(program, text=True).stdout, "ok\n")

    def _library(self):
        library = pathlib.Path(self.get_temp_dir()) / "libpolicy.so"
        run(
            *("c++", "-std=c++17", "-shared", "-fPIC", "-o", library),
            *(self.path / "policy_act.cc", self.path / "policy_sample.cc"),
            *self.path.glob("xla/*.o"),
        )
        return ctypes.CDLL(library)

    def test_sampling(self):
        library = self._library()

        def sample(row, seed):
            row, action = np.float32(row), np.zeros(3, np.float32)
            seed, log_prob = np.int64(seed), ctypes.c_float()
            status = library.policy_sample(
                *(each.ctypes for each in (row, seed, action)),
                ctypes.byref(log_prob),
            )
            self.assertEqual(status, 0)
            return action, log_prob.value

        for i, row in enumerate(export_contract.ordinary()[:200]):
            seed = [i - 3, 7 * i]
            actions, log_prob = self.agent.policy.seeded(
                row[None], tf.constant(seed, tf.int64)
            )
            actual = sample(row, seed)
            difference = export_contract.difference(actual[0], actions)
            self.assertLess(difference, 1e-5)
            self.assertAllClose(actual[1], log_prob[0], 1e-4, 1e-4)
        self.assertAllEqual(sample(row, [1, 2])[0], sample(row, [1, 2])[0])
        for other in ([1, 3], [2, 2]):
            self.assertNotAllClose(
                sample(row, [1, 2])[0], sample(row, other)[0]
            )

    def test_object_is_for_any_64_bit_pc(self):
        for name in ("act", "act_constants", "sample", "sample_constants"):
            self.assertEqual(machine(self.path / "xla" / f"{name}.o"), X86_64)
        code = run("objdump", "-d", self.path / "xla" / "act.o", text=True)
        self.assertNotRegex(code.stdout, r"%[yz]mm")
        card = json.loads((self.path / "tfsac.json").read_text())
        self.assertEqual(card["export"], {"format": "native"})

    def test_another_machine(self):
        triple = "aarch64-unknown-linux-gnu"
        path = pathlib.Path(
            self.agent.export(
                self.get_temp_dir(),
                "native",
                target_triple=triple,
                target_cpu="cortex-a72",
            )
        )
        for name in ("act", "act_constants", "sample", "sample_constants"):
            self.assertEqual(machine(path / "xla" / f"{name}.o"), AARCH64)
        card = json.loads((path / "tfsac.json").read_text())
        self.assertEqual(card["export"]["target_triple"], triple)
        self.assertEqual(card["export"]["target_cpu"], "cortex-a72")
        parity = json.loads((path / "parity.json").read_text())
        self.assertIn(triple, parity["unchecked"])

    def test_unknown_target(self):
        folder = pathlib.Path(self.get_temp_dir()) / "unknown"
        with self.assertRaisesRegex(ValueError, "that LLVM knows"):
            self.agent.export(folder, "native", target_cpu="z80")
        self.assertEmpty(list(folder.iterdir()))

    def test_what_needs_more_than_kernels_is_refused(self):
        observation = keras.Input((4,))
        x = keras.layers.Reshape((4, 1))(observation)
        x = keras.layers.Conv1D(8, 3)(x)
        x = keras.layers.Flatten()(x)
        heads = keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)
        agent = small_agent.make(
            export_contract.SPACES,
            models={"actor": keras.Model(observation, heads)},
        )
        with self.assertRaisesRegex(ValueError, "kernels alone"):
            agent.export(self.get_temp_dir() + "/convolution", "native")


def machine(path):
    return int.from_bytes(path.read_bytes()[E_MACHINE], "little")


if __name__ == "__main__":
    tf.test.main()
