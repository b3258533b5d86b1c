"""The hyperparameters: the paper's defaults, and what is refused."""

import dataclasses
import inspect

import tensorflow as tf
from absl.testing import parameterized

import tfsac


class SACConfigTest(parameterized.TestCase, tf.test.TestCase):
    def test_defaults_are_those_of_sac_2018b(self):
        config = tfsac.SACConfig()
        self.assertEqual(config.hidden_units, (256, 256))
        self.assertEqual(config.activation, "relu")
        self.assertEqual(config.learning_rate, 3e-4)
        self.assertEqual(config.batch_size, 256)
        self.assertEqual(config.tau, 0.005)
        self.assertEqual(config.discount, 0.99)
        self.assertIsNone(config.target_entropy)  # -A
        self.assertIsNone(config.temperature)  # learned
        self.assertEqual(config.replay_capacity, 1_000_000)
        self.assertEqual(config.num_critics, 2)
        self.assertEqual(config.updates_per_step, 1)
        self.assertEqual(config.policy_delay, 1)
        self.assertEqual(config.random_steps, 1_000)
        self.assertTrue(config.backup_entropy)
        self.assertFalse(config.overlap)

    @parameterized.parameters(
        ({"discount": 1.5}, r"\[0, 1\].*discount=1.5"),
        ({"discount": float("nan")}, "discount=nan"),
        ({"tau": 0.0}, r"\(0, 1\].*tau=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"learning_rate": "fast"}, "learning_rate='fast'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"random_steps": -1}, "random_steps=-1"),
        ({"hidden_units": (256, 0)}, r"hidden_units=\(256, 0\)"),
        ({"log_std_min": 3.0}, "log_std_max=2.0"),
        ({"target_entropy": float("inf")}, "target_entropy=inf"),
        ({"updates_per_step": 0.5}, "whole number"),
        ({"overlap": "false"}, "True or False.*overlap='false'"),
        ({"backup_entropy": 1}, "True or False.*backup_entropy=1"),
        ({"train_every": 3, "updates_per_step": 0.5}, "whole number"),
    )
    def test_a_value_out_of_its_range_is_named(self, fields, message):
        with self.assertRaisesRegex(ValueError, message):
            tfsac.SACConfig(**fields)

    @parameterized.parameters(
        (1, 1, 1), (4, 0.5, 2), (10, 0.1, 1), (8, 20, 160)
    )
    def test_updates_per_call(self, train_every, updates_per_step, expected):
        config = tfsac.SACConfig(
            train_every=train_every, updates_per_step=updates_per_step
        )
        self.assertEqual(config.updates_per_call, expected)

    def test_it_cannot_be_changed_behind_the_compiled_step(self):
        with self.assertRaises(dataclasses.FrozenInstanceError):
            tfsac.SACConfig().tau = 0.1


class SQLConfigTest(parameterized.TestCase, tf.test.TestCase):
    def test_defaults(self):
        config = tfsac.SQLConfig()
        self.assertEqual(config.temperature, 0.1)
        self.assertEqual(config.num_particles, 32)
        self.assertEqual(config.num_proposals, 64)
        self.assertEqual(config.batch_size, 64)
        shared = dataclasses.asdict(tfsac.AgentConfig(batch_size=64))
        self.assertContainsSubset(shared, dataclasses.asdict(config))

    @parameterized.parameters(
        ({"discount": 1.5}, r"SQLConfig.discount .*\[0, 1\].*discount=1.5"),
        ({"temperature": None}, "above 0. Received: temperature=None"),
        ({"temperature": 0}, "temperature=0"),
        ({"num_particles": 7}, "at least 8 .*wide.*Received: num_particles=7"),
        ({"num_proposals": 0}, "num_proposals=0"),
    )
    def test_a_value_out_of_its_range_is_named(self, fields, message):
        with self.assertRaisesRegex(ValueError, message):
            tfsac.SQLConfig(**fields)


class DocumentationTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        tfsac.AgentConfig, tfsac.SACConfig, tfsac.SQLConfig
    )
    def test_each_own_field_is_documented_with_its_default(self, config):
        doc = " ".join(inspect.getdoc(config).split())
        own = config.__annotations__
        for name in own:
            self.assertIn(f" {name}: ", doc)
            self.assertIn(f"Defaults to `{_literal(config, name)}`", doc)
        self.assertEqual(doc.count("Defaults to"), len(own))


def _literal(config, name):
    """How the documentation writes a field's default."""
    [default] = [
        f.default for f in dataclasses.fields(config) if f.name == name
    ]
    if isinstance(default, str):
        return f'"{default}"'
    if default == 3e-4:
        return "3e-4"
    return f"{default:_}" if type(default) is int else str(default)


if __name__ == "__main__":
    tf.test.main()
