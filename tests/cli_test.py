"""The command line, mostly as a user meets it: in fresh processes."""

import argparse
import contextlib
import csv
import dataclasses
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from unittest import mock

import gymnasium
import small_agent
import tensorflow as tf
from absl.testing import parameterized

import tfsac
from tfsac import cli, cli_train

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from tfsac.cli import main; sys.exit(main())",
]
SMALL = ["--hidden-units", "8,8", "--batch-size", "16", "--random-steps", "50"]


def start(*args, new_group=False, **env):
    return subprocess.Popen(
        [*COMMAND, *map(str, args)],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0 if new_group else None,
    )


def run(*args, **env):
    """Returns exit code, output and errors of a command."""
    process = start(*args, **env)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def living(group):
    """Processes of a group that have not ended."""
    command = ["ps", "-eo", "pgid=,stat=,pid=,args="]
    lines = subprocess.check_output(command, text=True).splitlines()
    processes = [line.split(maxsplit=2) for line in lines]
    return [p for p in processes if int(p[0]) == group and p[1][0] not in "ZX"]


def call(*args):
    """The same in this process, which takes no seconds to start."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = cli.main([*map(str, args)])
        except SystemExit as exit_:
            code = exit_.code
    return code, output.getvalue(), errors.getvalue()


class TrainTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.out = self.folder / "run"

    def train(self, env_id, steps, *options, **env):
        options = ["--steps", steps, "--out", self.out, *options]
        return run("train", env_id, *options, **env)

    def history(self):
        header, *rows = (self.out / "history.csv").read_text().splitlines()
        column = header.split(",").index("env_steps")
        return [int(float(row.split(",")[column])) for row in rows]

    def test_discrete_actions(self):
        steps = ["--steps", 60, "--out", self.out]
        for command in (
            ["train", "CartPole-v1", *steps, *SMALL],
            ["evaluate", self.out, "--episodes", 2],
            ["export", self.out, self.folder / "policy"],
        ):
            code, _, errors = call(*command)
            self.assertEqual(code, 0, msg=errors)

    def test_train_go_on_evaluate_export(self):
        code, output, errors = self.train("Pendulum-v1", 100, *SMALL)
        self.assertEqual(code, 0, msg=errors)
        self.assertIn("100 of 100 steps", output)
        self.assertEqual(self.history(), list(range(10, 101, 10)))

        with self.subTest("a larger number of steps goes on"):
            code, output, errors = self.train("Pendulum-v1", 125)
            self.assertEqual(code, 0, msg=errors)
            self.assertIn("Going on with", output)
            self.assertEqual(self.history()[10:], [112, 124, 125])
        with self.subTest("the same number has nothing to do"):
            options = ["--steps", 125, "--out", self.out]
            code, output, errors = call("train", "Pendulum-v1", *options)
            self.assertEqual(code, 0, msg=errors)
            self.assertIn("125 of 125 steps", output)
            self.assertLen(self.history(), 13)
        with self.subTest("another option is refused"):
            options = ["--steps", 200, "--out", self.out, "--tau", 0.5]
            code, _, errors = call("train", "Pendulum-v1", *options)
            self.assertEqual(code, 2)
            self.assertIn("holds a run with tau=0.005", errors)
        with self.subTest("evaluate"):
            code, output, errors = run("evaluate", self.out, "--episodes", 2)
            self.assertEqual(code, 0, msg=errors)
            self.assertRegex(output, r"episode_return -\d+")
            self.assertIn("episode_length 200", output)
        with self.subTest("play and plot"):
            for command, name in (("play", "x.gif"), ("plot", "x.png")):
                picture = self.out / name
                code, _, errors = call(command, self.out, "--out", picture)
                self.assertEqual(code, 0, msg=errors)
                self.assertTrue(picture.exists())
        with self.subTest("export"):
            model = self.out / "exported"
            code, output, errors = run("export", self.out, model)
            self.assertEqual(code, 0, msg=errors)
            self.assertEqual(output.strip(), str(model / "1"))
            self.assertTrue((model / "1" / "saved_model.pb").exists())
        with self.subTest("export in another format"):
            options = "--format", "trainable"
            code, output, errors = run("export", self.out, model, *options)
            self.assertEqual(code, 0, msg=errors)
            signatures = tf.saved_model.load(output.strip()).signatures
            self.assertIn("train", signatures)

    def test_soft_q_learning(self):
        small = [*SMALL, "--num-particles", 8, "--num-proposals", 8]
        options = ["--algorithm", "sql", *small]
        code, _, errors = self.train("Pendulum-v1", 60, *options)
        self.assertEqual(code, 0, msg=errors)
        self.assertIsInstance(tfsac.load(self.out), tfsac.SoftQLearning)

        go_on = ["train", "Pendulum-v1", "--steps", 80, "--out", self.out]
        for option in ("--algorithm sac", "--target-entropy -1"):
            code, _, errors = call(*go_on, *option.split())
            self.assertEqual(code, 2)
            self.assertIn("holds a run with algorithm='sql'", errors)
        code, output, errors = call(*go_on)  # it knows what it is
        self.assertEqual(code, 0, msg=errors)
        self.assertIn("80 of 80 steps", output)
        code, output, errors = call("evaluate", self.out, "--episodes", 1)
        self.assertEqual(code, 0, msg=errors)
        self.assertIn("episode_length 200", output)
        code, output, errors = call("export", self.out, self.out / "exported")
        self.assertEqual(code, 0, msg=errors)

    def test_killed_and_begun_again_it_is_the_same_run(self):
        options = ["--steps", 505, "--checkpoint-every", 30, *SMALL]
        train = ["train", "Pendulum-v1", *options, "--out"]
        whole = self.folder / "whole"
        code, _, errors = call(*train, whole)
        self.assertEqual(code, 0, msg=errors)

        process = start(*train, self.out)
        while not (self.out / "checkpoint-3.json").exists():
            self.assertIsNone(process.poll())
        process.kill()
        process.communicate()
        self.assertLess(tfsac.load(self.out).env_steps, 505)
        code, output, errors = call(*train, self.out)
        self.assertEqual(code, 0, msg=errors)
        self.assertIn("Going on with", output)
        agents = map(tfsac.load, (whole, self.out))
        self.assertEmpty(small_agent.changed(*map(small_agent.state, agents)))
        histories = []
        for folder in (whole, self.out):
            with (folder / "history.csv").open() as file:
                rows = [*csv.DictReader(file)]
            histories.append([r | {"steps_per_second": None} for r in rows])
        self.assertEqual(*histories)

    @parameterized.parameters((signal.SIGINT, 130), (signal.SIGTERM, 143))
    def test_a_signal_stops_saves_and_can_go_on(self, number, exit_code):
        process = start(
            "train", "Pendulum-v1", "--steps", 50_000, "--out", self.out, *SMALL
        )
        for line in process.stdout:  # the first epoch has begun
            if "Epoch" in line:
                break
        process.send_signal(number)
        output, errors = process.communicate(timeout=300)
        self.assertEqual(process.returncode, exit_code, msg=errors)
        self.assertIn("To go on, give the same command again", output)
        self.assertIn("Stopping after this step", errors)
        self.assertNotIn("Traceback", errors)
        [steps] = self.history()
        self.assertLess(steps, 5_000)

        code, output, errors = self.train("Pendulum-v1", steps + 5)
        self.assertEqual(code, 0, msg=errors)
        self.assertIn(f"from step {steps:,}", output)
        self.assertEqual(self.history()[-1], steps + 5)

    @parameterized.parameters((signal.SIGINT, 130), (signal.SIGTERM, 143))
    def test_a_signal_to_processes_too(self, number, exit_code):
        """As a terminal sends Ctrl-C, and systemd and Slurm send SIGTERM."""
        options = ["--num-envs", 2, "--async-envs", "--env-timeout", 60]
        arguments = ["--steps", 50_000, "--out", self.out, *options, *SMALL]
        process = start("train", "Pendulum-v1", *arguments, new_group=True)
        for line in process.stdout:
            if "Epoch" in line:
                break
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=300)
        self.assertEqual(process.returncode, exit_code, msg=errors)
        self.assertNotIn("Traceback", errors)
        self.assertIn("To go on, give the same command again", output)
        [steps] = self.history()
        self.assertIn(f"{steps:,} of 50,000 steps are saved", output)
        deadline = time.monotonic() + 30  # which their server may take to end
        while left := living(process.pid):
            self.assertLess(time.monotonic(), deadline, msg=left)
            time.sleep(0.05)

    def test_a_signal_matters_more_than_the_environment_that_it_ended(self):
        """One that handles it by itself, and is gone before the step is."""
        (self.folder / "mortal.py").write_text(
            textwrap.dedent("""
                import os, signal
                import gymnasium
                from gymnasium.envs.classic_control import PendulumEnv

                class Mortal(PendulumEnv):
                    steps = 0

                    def step(self, action):
                        self.steps += 1
                        if self.steps == 20:
                            os.kill(os.getpid(), signal.SIGTERM)
                            raise OSError("it is gone")
                        return super().step(action)

                gymnasium.register("Mortal-v0", Mortal, max_episode_steps=200)
            """)
        )
        code, output, errors = self.train(
            "mortal:Mortal-v0", 500, *SMALL, PYTHONPATH=str(self.folder)
        )
        self.assertEqual(code, 143, msg=errors)
        self.assertIn("19 of 500 steps are saved", output)
        self.assertIn("To go on, give the same command again", output)

    def test_interrupt_twice_stops_at_once(self):
        process = start(
            "train", "Pendulum-v1", "--steps", 50_000, "--out", self.out, *SMALL
        )
        for line in process.stdout:
            if "Epoch" in line:
                break
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "Stopping after this step" in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        # Ended by the signal itself, which a shell reports as 130 too; or the
        # first one was done before the second came.
        self.assertIn(process.returncode, (-signal.SIGINT, 130), msg=errors)
        self.assertNotIn("Traceback", errors)

    def test_an_env_of_a_module_is_named_by_the_user(self):
        """And not by a file: nothing is imported that it asks for."""
        (self.folder / "mine.py").write_text(
            textwrap.dedent("""
                import gymnasium
                from gymnasium.envs.classic_control import PendulumEnv
                gymnasium.register("Mine-v0", PendulumEnv, max_episode_steps=9)
            """)
        )

        def call_anew(*args):
            gymnasium.registry.pop("Mine-v0", None)
            sys.modules.pop("mine", None)
            return call(*args)

        self.enter_context(mock.patch.object(sys, "path", [*sys.path]))
        sys.path.append(str(self.folder))
        train = ["train", "mine:Mine-v0", "--out", self.out]
        for steps, options in ((20, SMALL), (25, [])):
            code, _, errors = call_anew(*train, "--steps", steps, *options)
            self.assertEqual(code, 0, msg=errors)
        evaluate = ["evaluate", self.out, "--episodes", 2]
        with self.assertWarnsRegex(UserWarning, "names the module 'mine'"):
            code, _, errors = call_anew(*evaluate)
        self.assertEqual(code, 2)
        self.assertNotIn("mine", sys.modules)
        code, output, errors = call_anew(*evaluate, "--env", "mine:Mine-v0")
        self.assertEqual(code, 0, msg=errors)
        self.assertIn("episode_length 9", output)

    def test_failing_env_keeps_what_was_learned(self):
        (self.folder / "broken.py").write_text(
            textwrap.dedent("""
                import gymnasium
                from gymnasium.envs.classic_control import PendulumEnv

                class Broken(PendulumEnv):
                    steps = 0

                    def step(self, action):
                        Broken.steps += 1
                        if Broken.steps > 70:
                            raise OSError("the cable is loose")
                        return super().step(action)

                gymnasium.register("Broken-v0", Broken, max_episode_steps=200)
            """)
        )
        code, _, errors = self.train(
            "broken:Broken-v0", 500, *SMALL, PYTHONPATH=str(self.folder)
        )
        self.assertEqual(code, 2, msg=errors)
        self.assertIn("the cable is loose", errors.splitlines()[-1])
        self.assertNotIn("Traceback", errors)
        self.assertLen(list(self.out.glob("checkpoint-*.keras")), 1)


class InfoTest(tf.test.TestCase):
    def test_versions_kernels_and_devices(self):
        code, output, errors = run("info", "--require-kernels")
        self.assertEqual(code, 0, msg=output + errors)
        self.assertIn(f"tensorflow {tf.__version__}", output)
        self.assertIn("kernels loaded", output)
        self.assertIn("dense layers by the kernels", output)
        self.assertIn("device /physical_device:CPU:0", output)

    def test_without_kernels(self):
        code, output, _ = run("info", TFSAC_KERNELS="off")
        self.assertEqual(code, 0)
        self.assertIn("kernels off, as TFSAC_KERNELS=off asks", output)
        self.assertIn("dense layers by TensorFlow", output)
        code, output, _ = run("info", "--require-kernels", TFSAC_KERNELS="off")
        self.assertEqual(code, 1)
        self.assertIn("kernels off", output)


class OptionsTest(parameterized.TestCase, tf.test.TestCase):
    """Options are fields of the config, and a wrong one gets one line."""

    @parameterized.parameters(
        ("", tfsac.SACConfig, "upper bound on the same. Defaults to `2.0`."),
        (
            "--algorithm sac",
            tfsac.SACConfig,
            "B, transitions in one update. Defaults to `256`.",
        ),
        (
            "--algorithm sql",
            tfsac.SQLConfig,
            "B, transitions in one update. Defaults to `64`.",
        ),
    )
    def test_help_names_every_field_with_its_description(
        self, algorithm, config, help_
    ):
        code, output, _ = call("train", *algorithm.split(), "--help")
        self.assertEqual(code, 0)
        text = " ".join(output.split())
        for field in dataclasses.fields(config):
            self.assertIn(f"--{field.name.replace('_', '-')} ", text)
        self.assertIn("gamma, in [0, 1]. Defaults to `0.99`.", text)
        self.assertIn(help_, text)

    @parameterized.parameters(
        ("--discount=0.5", "discount", 0.5),
        ("--temperature=0.1", "temperature", 0.1),
        ("--temperature=none", "temperature", None),
        ("--no-backup-entropy", "backup_entropy", False),
        ("--backup-entropy", "backup_entropy", True),
        ("--overlap", "overlap", True),
        ("--batch-size=64", "batch_size", 64),
        ("--hidden-units=64,32", "hidden_units", (64, 32)),
        ("--hidden-units=64", "hidden_units", (64,)),
        ("--activation=tanh", "activation", "tanh"),
    )
    def test_option_becomes_a_field(self, option, name, value):
        parser = argparse.ArgumentParser()
        cli_train.add_options(parser, tfsac.SAC)
        args = parser.parse_args(["E", "--steps=1", "--out=o", option])
        self.assertEqual(getattr(args, name), value)
        self.assertIs(type(getattr(args, name)), type(value))

    @parameterized.parameters(
        ("train E --out o", "--steps"),
        ("train E --out o --steps 0", "at least 1. Received: '0'"),
        ("train E --out o --steps 1e4", "at least 1. Received: '1e4'"),
        ("train E --out o --steps 9 --tau big", "--tau: invalid float"),
        ("train E --out o --steps 9 --tau 2", "tau must be a number in (0, 1]"),
        ("train E --out o --steps 9 --temperature x", "float or none"),
        ("train E --out o --steps 9 --hidden-units 8,", "comma-separated int"),
        ("train E --out o --steps 9 --discoun 0.9", "--discoun"),
        ("train NoSuchEnv-v0 --out o --steps 9", "NoSuchEnv"),
        ("train E --out o --steps 9 --algorithm dqn", "'dqn'"),
        ("train E --out o --steps 9 --algorithm", "expected one argument"),
        ("train E --out o --steps 9 --num-particles 9", "--num-particles"),
        (
            "train E --out o --steps 9 --algorithm sql --log-std-min 1",
            "--log-std-min",
        ),
        ("train CartPole-v1 --out o --steps 9 --algorithm sql", "a Box space"),
        ("evaluate no/such/run", "no/such/run"),
        ("evaluate o --episodes none", "at least 1. Received: 'none'"),
        ("export no/such/run o", "no/such/run"),
        ("export r o --format pickle", "'pickle'"),
        ("export r o --target-cpu haswell", "only with --format native"),
        ("export r o --dynamic-range", "only with --format litert"),
        ("fly", "'fly'"),
        ("", "COMMAND"),
    )
    def test_user_error_is_one_line(self, command, expected):
        code, _, errors = call(*command.split())
        self.assertEqual(code, 2)
        self.assertIn(expected, errors)
        self.assertLen(errors.splitlines(), 1)

    @parameterized.parameters(
        ("", "tf_saved_model", {}),
        ("--format onnx", "onnx", {}),
        (
            "--format native --target-triple aarch64-unknown-linux-gnu",
            "native",
            {"target_triple": "aarch64-unknown-linux-gnu"},
        ),
        (
            "--format native --target-cpu haswell",
            "native",
            {"target_cpu": "haswell"},
        ),
        (
            "--format litert --dynamic-range",
            "litert",
            {"optimizations": [tf.lite.Optimize.DEFAULT]},
        ),
    )
    def test_options_of_export(self, command, format, options):
        with mock.patch.object(tfsac, "load") as load:
            load().export.return_value = "out/1"
            code, output, _ = call("export", "run", "out", *command.split())
        self.assertEqual((code, output), (0, "out/1\n"))
        load().export.assert_called_once_with("out", format, **options)


if __name__ == "__main__":
    tf.test.main()
