"""`tfsac plot`: the curves are those of the histories."""

import contextlib
import csv
import pathlib
import sys
import tempfile
from unittest import mock

import cli_test
import tensorflow as tf
from absl.testing import parameterized
from matplotlib import colors
from matplotlib.figure import Figure

from tfsac import cli_plot


def write(folder, values, name="val_episode_return"):
    """Writes a history: from transitions to a value."""
    folder.mkdir(parents=True)
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", name, "env_steps"])
        for epoch, (steps, value) in enumerate(values.items()):
            writer.writerow([epoch, 0.5, value, float(steps)])


class PlotTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.enter_context(mock.patch.object(cli_plot, "draw", self.draw))
        self.drawn = {}

    def draw(self, axis, runs, label, draw=cli_plot.draw):
        self.drawn[label] = runs
        draw(axis, runs, label)

    def plot(self, *args, code=0):
        """Plots; returns what was printed, as lines."""
        received, output, errors = cli_test.call("plot", *args)
        self.assertEqual(received, code, msg=errors)
        return (output if code == 0 else errors).splitlines()

    def test_a_run_is_a_curve_and_a_folder_of_runs_is_one(self):
        first, second = {10: -3.0, 20: -1.0}, {10: -5.0, 20: -2.0}
        write(self.folder / "sac" / "seed0", first)
        write(self.folder / "sac" / "seed1", second)
        write(self.folder / "one", {5: 1.0, 15: 2.0})
        out = self.folder / "pictures" / "learning.png"
        dirs = self.folder / "sac", self.folder / "one"
        self.assertEqual(self.plot(*dirs, "--out", out), [str(out)])
        self.assertEqual(out.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(
            self.drawn,
            {
                f"{dirs[0]}, 2 seeds": [first, second],
                str(dirs[1]): [{5: 1.0, 15: 2.0}],
            },
        )

    def test_another_metric_and_kind_of_file(self):
        write(self.folder / "run", {10: 0.7}, "alpha")
        out = self.folder / "alpha.svg"
        self.plot(self.folder / "run", "--metric", "alpha", "--out", out)
        self.assertIn("<svg", out.read_text())
        self.assertEqual([*self.drawn.values()], [[{10: 0.7}]])

    def test_epochs_in_which_no_episode_ended(self):
        write(self.folder / "run", {10: float("nan"), 20: -2.0})
        self.plot(self.folder / "run", "--out", self.folder / "x.png")
        self.assertEqual([*self.drawn.values()], [[{20: -2.0}]])

    def test_mean_and_band(self):
        axis = Figure().subplots()
        # The last seed has not come as far.
        runs = [{10: 1.0, 20: 5.0, 30: 8.0}, {10: 3.0, 20: 5.0, 30: 9.0}]
        cli_plot.draw(axis, [*runs, {10: 8.0, 20: 2.0}], "sac")
        [line] = axis.lines
        self.assertAllClose(line.get_xydata(), [[10, 4], [20, 4]])
        self.assertEqual(line.get_label(), "sac")
        [band] = axis.collections
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
        self.assertEqual(corners, {(10, 1), (10, 8), (20, 2), (20, 5)})
        color = colors.to_rgb(line.get_color())
        self.assertAllClose(band.get_facecolor()[0, :3], color)

    @parameterized.named_parameters(
        ("no_such_folder", ["none"], "with history.csv.* 'none'"),
        ("another_metric", ["run", "--metric", "x"], "loss, .*Received: 'x'"),
        ("seeds_apart", ["apart"], "apart, 2 seeds, which have none in common"),
        ("another_kind", ["run", "--out", "x.doc"], "doc"),
    )
    def test_user_error_is_one_line(self, args, expected):
        write(self.folder / "run", {10: 1.0})
        write(self.folder / "apart" / "0", {10: 1.0})
        write(self.folder / "apart" / "1", {11: 1.0})
        with contextlib.chdir(self.folder):
            [error] = self.plot(*args, code=2)
        self.assertRegex(error, expected)

    def test_missing_package(self):
        write(self.folder / "run", {10: 1.0})
        with mock.patch.dict(sys.modules, {"matplotlib.figure": None}):
            [error] = self.plot(self.folder / "run", code=2)
        self.assertIn("pip install 'tfsac[plot]'", error)


if __name__ == "__main__":
    tf.test.main()
