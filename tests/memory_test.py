"""What will not fit into memory is refused before it begins."""

import pathlib
import tempfile
from unittest import mock

import counting_env
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from small_agent import fit

import tfsac
from tfsac import memory

GB = 2**30


class AvailableTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def write(self, files):
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    def machine(self, group):
        self.write(
            {
                "proc/meminfo": "MemTotal: 9999999999 kB\nMemAvailable: "
                f"{8 * 2**20} kB\nSwapFree: {2**20} kB\nHugePages_Total: 0",
                "proc/self/cgroup": group,
            }
        )

    def test_this_machine(self):
        self.assertBetween(memory.available(), 2**20, 2**50)

    def test_a_machine(self):
        self.machine("0::/")
        self.assertEqual(memory.available(self.root), 9 * GB)

    def test_a_container(self):
        """Its files in the cache are not counted, they can be dropped."""
        self.machine("0::/a/b")
        self.write(
            {
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/b/memory.current": 3 * GB,
                "sys/fs/cgroup/a/memory.max": 6 * GB,
                "sys/fs/cgroup/a/memory.current": 4 * GB,
                "sys/fs/cgroup/a/memory.stat": f"inactive_file {GB}",
            }
        )
        self.assertEqual(memory.available(self.root), 3 * GB)

    def test_a_container_of_version_1(self):
        self.machine("7:cpu:/\n4:memory:/a\n0::/")
        folder = "sys/fs/cgroup/memory/a/memory"
        self.write(
            {
                f"{folder}.limit_in_bytes": 6 * GB,
                f"{folder}.usage_in_bytes": 4 * GB,
                f"{folder}.stat": f"inactive_file 1\ntotal_inactive_file {GB}",
            }
        )
        self.assertEqual(memory.available(self.root), 3 * GB)

    def test_a_system_that_does_not_tell(self):
        self.assertIsNone(memory.available(self.root))


class RequireTest(tf.test.TestCase):
    def fit(self, steps, left, **kwargs):
        agent = small_agent.make(counting_env.ID, replay_capacity=100)
        size = agent.replay.layout.row_dtype().itemsize
        with mock.patch.object(memory, "available", lambda: left * size):
            fit(agent, steps, **kwargs)
        return agent

    def test_fit_begins_with_what_there_is(self):
        self.fit(20, left=20)
        self.fit(200, left=100)  # the ring has no more rows
        self.fit(10, left=20, epochs=2)

    def test_fit_does_not_begin_with_less(self):
        for run in (
            {"steps": 20, "left": 19},
            {"steps": 200, "left": 99},
            {"steps": 10, "left": 19, "epochs": 2},
        ):
            with self.assertRaisesRegex(
                MemoryError, "(?s)replay buffer.*available.*replay_capacity"
            ):
                self.fit(**run)

    def test_a_run_that_goes_on_is_refused_before_it_is_restored(self):
        """On a smaller machine than that where it began."""
        folder = self.get_temp_dir()
        agent = self.fit(60, left=60, checkpoint_dir=folder)
        size = agent.replay.layout.row_dtype().itemsize
        agent = small_agent.make(counting_env.ID, replay_capacity=100)
        rows = rf"up to (60|100) transitions of {size} bytes.* are available"
        for epochs, left in ((1, 59), (2, 99)):
            with (
                mock.patch.object(
                    memory, "available", return_value=left * size
                ),
                self.assertRaisesRegex(MemoryError, f"(?s){rows}"),
            ):
                fit(agent, 60, epochs=epochs, checkpoint_dir=folder)
            self.assertEmpty(agent.replay)

    def test_an_agent_is_refused_before_its_rows_are_loaded(self):
        folder = self.get_temp_dir()
        agent = self.fit(60, left=60)
        agent.save(folder, include_replay=True)
        size = agent.replay.layout.row_dtype().itemsize
        with mock.patch.object(memory, "available", lambda: 60 * size):
            self.assertLen(tfsac.load(folder).replay, 60)
        with (
            mock.patch.object(memory, "available", lambda: 59 * size),
            self.assertRaisesRegex(MemoryError, "the 60 transitions.*saved in"),
        ):
            tfsac.load(folder)

    def test_what_is_there_already_is_not_counted(self):
        agent = self.fit(60, left=100)
        size = agent.replay.layout.row_dtype().itemsize
        with mock.patch.object(memory, "available", lambda: 40 * size):
            fit(agent, 60)
        with mock.patch.object(memory, "available", lambda: 0):
            fit(agent, 60)


if __name__ == "__main__":
    tf.test.main()
