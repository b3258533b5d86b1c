"""The policy in onnxruntime."""

import importlib.util
import pathlib
import shutil
import tempfile
from unittest import mock

import export_contract
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf


class OnnxTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = export_contract.agent()
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.path = pathlib.Path(cls.agent.export(folder, "onnx"))

    def _session(self, name):
        return onnxruntime.InferenceSession(self.path / f"{name}.onnx")

    def test_acts_as_the_agent(self):
        session = self._session("model")
        export_contract.check(
            self,
            self.agent,
            lambda rows: session.run(["actions"], {"observations": rows})[0],
        )

    def test_sampling_takes_its_noise(self):
        session = self._session("sample")
        rows = export_contract.ordinary()[:50]
        noise = np.random.default_rng(2).normal(size=(50, 3))
        actions, log_prob = session.run(
            ["actions", "log_prob"],
            {"observations": rows, "noise": noise.astype(np.float32)},
        )
        expected = export_contract.sampled(self.agent, rows, noise)
        self.assertAllClose(actions, expected[0], 1e-5, 1e-5)
        self.assertAllClose(log_prob, expected[1], 1e-4, 1e-4)

    def test_no_custom_ops(self):
        for name in ("model", "sample"):
            model = onnx.load(self.path / f"{name}.onnx")
            onnx.checker.check_model(model, full_check=True)
            self.assertEqual({node.domain for node in model.graph.node}, {""})

    def test_options_are_keras(self):
        path = self.agent.export(self.get_temp_dir(), "onnx", opset_version=18)
        model = onnx.load(pathlib.Path(path) / "model.onnx")
        [opset] = [each for each in model.opset_import if each.domain == ""]
        self.assertEqual(opset.version, 18)

    def test_missing_package(self):
        with (
            mock.patch.object(importlib.util, "find_spec", lambda name: None),
            self.assertRaisesRegex(ImportError, r"'tfsac\[onnx\]'"),
        ):
            self.agent.export(self.get_temp_dir() + "/none", "onnx")


if __name__ == "__main__":
    tf.test.main()
