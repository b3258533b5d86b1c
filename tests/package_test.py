"""What importing the package does, each time in a fresh process."""

import os
import pathlib
import subprocess
import sys
import tomllib

import tensorflow as tf
from packaging.requirements import Requirement

PROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"


def run(code, **environment):
    """Runs code in a fresh process; returns the process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
    )


class ImportTest(tf.test.TestCase):
    def test_another_keras_backend_is_refused(self):
        process = run("import tfsac", KERAS_BACKEND="jax")
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(
            "ImportError: tfsac needs Keras' TensorFlow backend. Received: "
            "KERAS_BACKEND='jax'",
            process.stderr,
        )

    def test_the_backend_in_keras_json_gives_way(self):
        home = self.get_temp_dir()
        with open(os.path.join(home, "keras.json"), "w") as file:
            file.write('{"backend": "jax"}')
        code = "import os; os.environ.pop('KERAS_BACKEND', 0); import tfsac"
        process = run(code, KERAS_HOME=home)
        self.assertEqual(process.returncode, 0, msg=process.stderr)

    def test_the_kernels_serve_and_nothing_warns_of_them(self):
        process = run("import tfsac; print(tfsac.ops.loaded())")
        self.assertEqual(process.stdout.strip(), "True")
        self.assertNotIn("tfsac", process.stderr)


class RequirementsTest(tf.test.TestCase):
    def test_a_keras_that_runs_what_files_hold_is_refused(self):
        """3.13.2 is the first without the holes that are known."""
        project = tomllib.loads(PROJECT.read_text())["project"]
        requirements = map(Requirement, project["dependencies"])
        [keras] = [r for r in requirements if r.name == "keras"]
        for version in ("3.12.1", "3.13.1"):
            self.assertNotIn(version, keras.specifier)
        self.assertIn("3.13.2", keras.specifier)


if __name__ == "__main__":
    tf.test.main()
