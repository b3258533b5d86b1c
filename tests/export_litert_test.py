"""The policy in the LiteRT interpreter."""

import importlib.util
import json
import pathlib
import shutil
import tempfile
from unittest import mock

import export_contract
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter


class LiteRTTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = export_contract.agent()
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.path = pathlib.Path(cls.agent.export(cls.folder, "litert"))

    def _interpreter(self, name, path=None):
        path = (path or self.path) / f"{name}.tflite"
        return Interpreter(model_path=str(path))

    def test_acts_as_the_agent(self):
        run = self._interpreter("model").get_signature_runner()
        export_contract.check(
            self, self.agent, lambda rows: run(observations=rows)["actions"]
        )

    def test_sampling_takes_its_noise(self):
        run = self._interpreter("sample").get_signature_runner()
        rows = export_contract.ordinary()[:50]
        noise = np.random.default_rng(2).normal(size=(50, 3))
        results = run(observations=rows, noise=noise.astype(np.float32))
        actions, log_prob = export_contract.sampled(self.agent, rows, noise)
        self.assertAllClose(results["actions"], actions, 1e-5, 1e-5)
        self.assertAllClose(results["log_prob"], log_prob, 1e-4, 1e-4)

    def test_built_in_ops_alone(self):
        for name in ("model", "sample"):
            interpreter = self._interpreter(name)
            ops = {op["op_name"] for op in interpreter._get_ops_details()}
            self.assertContainsSubset(["FULLY_CONNECTED", "TANH"], ops)
            for op in ops:
                self.assertNotRegex(op, "(?i)flex|custom")

    def test_dynamic_range(self):
        agent = export_contract.agent(hidden_units=(128, 128))
        whole, small = (
            pathlib.Path(agent.export(self.folder, "litert", **options))
            for options in (
                {},
                {"optimizations": [tf.lite.Optimize.DEFAULT]},
            )
        )
        run = self._interpreter("model", small).get_signature_runner()
        export_contract.check(
            self, agent, lambda rows: run(observations=rows)["actions"], 0.1
        )
        sizes = [(p / "model.tflite").stat().st_size for p in (whole, small)]
        self.assertLess(sizes[1], 0.5 * sizes[0])
        parity = json.loads((small / "parity.json").read_text())
        worst = parity["ordinary"]["worst_difference"]
        self.assertBetween(worst, 1e-5, 0.1)

    def test_missing_package(self):
        with (
            mock.patch.object(importlib.util, "find_spec", lambda name: None),
            self.assertRaisesRegex(ImportError, r"'tfsac\[litert\]'"),
        ):
            self.agent.export(self.get_temp_dir(), "litert")


if __name__ == "__main__":
    tf.test.main()
