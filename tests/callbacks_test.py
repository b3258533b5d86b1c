"""Each stock Keras callback acts, unchanged."""

import csv
import math
import pathlib
import tempfile
from unittest import mock

import counting_env
import keras
import numpy as np
import small_agent
import tensorflow as tf
from keras import callbacks
from small_agent import LEARNED, LOGS, changed, fit, state

import tfsac
from tfsac import sac_update


class CallbacksTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with mock.patch.object(
            sac_update, "update", wraps=sac_update.update
        ) as cls.traced:
            cls.agent = small_agent.make(counting_env.ID)
            fit(cls.agent)  # traces the step that all of the tests use

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.states = []  # at the end of each epoch
        # Optimizers keep what ReduceLROnPlateau did.
        for optimizer in self.agent.optimizer.optimizers:
            optimizer.learning_rate = 3e-4

    def fit(self, *stock, returns, agent=None, **kwargs):
        """Fits as if evaluation gave these returns, one an epoch."""
        agent = agent or self.agent
        note = callbacks.LambdaCallback(
            on_epoch_end=lambda *_: self.states.append(state(agent))
        )
        with small_agent.validating(*returns):
            return fit(
                agent,
                4,
                epochs=len(returns),
                validation_episodes=1,
                callbacks=[note, *stock],
                **kwargs,
            )

    def test_model_checkpoint_of_the_best(self):
        path = self.folder / "best.keras"
        self.fit(
            callbacks.ModelCheckpoint(
                path,
                monitor="val_episode_return",
                mode="max",
                save_best_only=True,
            ),
            returns=[-5, 3, -1],
        )
        best = tfsac.load(path)
        self.assertEmpty(changed(state(best), self.states[1]))
        self.assertEqual(best.env_steps, self.agent.env_steps - 4)

    def test_model_checkpoint_of_weights(self):
        path = self.folder / "{epoch}.weights.h5"
        self.fit(
            callbacks.ModelCheckpoint(path, save_weights_only=True),
            returns=[0, 0],
        )
        other = small_agent.make(counting_env.ID, seed=9)
        for epoch in (1, 2):
            other.load_weights(self.folder / f"{epoch}.weights.h5")
            self.assertEmpty(changed(state(other), self.states[epoch - 1]))

    def test_model_checkpoint_within_an_epoch(self):
        path = self.folder / "{batch}.keras"
        self.fit(callbacks.ModelCheckpoint(path, save_freq=2), returns=[0])
        saved = [tfsac.load(p) for p in sorted(self.folder.iterdir())]
        steps = self.agent.env_steps
        self.assertEqual([a.env_steps for a in saved], [steps - 2, steps])

    def test_early_stopping_stops_and_restores(self):
        history = self.fit(
            callbacks.EarlyStopping(
                monitor="val_episode_return",
                mode="max",
                patience=2,
                restore_best_weights=True,
            ),
            returns=[1, 5, 4, 3, 9, 9],
        )
        self.assertEqual(history.epoch, [0, 1, 2, 3])
        networks = {"actor", "critic", "target_critic", "log_alpha"}
        now = state(self.agent)
        self.assertContainsSubset(networks, changed(self.states[3], now))
        self.assertNoCommonElements(networks, changed(self.states[1], now))

    def test_csv_logger(self):
        path = self.folder / "log.csv"
        history = self.fit(callbacks.CSVLogger(path), returns=[1, 2, 3])
        with path.open() as file:
            rows = list(csv.DictReader(file))
        self.assertLen(rows, 3)
        keys = {*LOGS, "val_episode_return"}
        self.assertEqual(set(rows[0]), {"epoch", *keys})
        for key in keys:
            logged = [float(row[key]) for row in rows]
            self.assertAllEqual(logged, history.history[key])

    def test_csv_logger_from_the_random_phase_on(self):
        agent = small_agent.make(counting_env.ID, random_steps=6)
        path = self.folder / "log.csv"
        self.fit(callbacks.CSVLogger(path), returns=[1, 2], agent=agent)
        with path.open() as file:
            first, second = csv.DictReader(file)
        for key in LEARNED:
            self.assertEqual(first[key], "nan")
            self.assertTrue(math.isfinite(float(second[key])))

    def test_tensorboard(self):
        from tensorboard.backend.event_processing import event_accumulator

        history = self.fit(
            callbacks.TensorBoard(
                self.folder, histogram_freq=1, update_freq=1, write_graph=True
            ),
            returns=[1.5, 2.5],
        )

        def read(name):
            events = event_accumulator.EventAccumulator(
                str(self.folder / name)
            ).Reload()
            return {
                tag: [
                    tf.make_ndarray(event.tensor_proto)
                    for event in events.Tensors(tag)
                ]
                for tag in events.Tags()["tensors"]
            }

        train, validation = read("train"), read("validation")
        for key in LOGS:
            self.assertAllClose(train[f"epoch_{key}"], history.history[key])
        for name in ("actor", "critic", "temperature"):
            rates = train[f"epoch_learning_rate_{name}"]
            self.assertAllClose(rates, [3e-4] * 2)
        self.assertLen(train["batch_loss"], 8)
        self.assertAllClose(
            np.mean(train["batch_loss"][4:]), history.history["loss"][1]
        )
        self.assertAllClose(validation["epoch_episode_return"], [1.5, 2.5])
        histograms = [tag for tag in train if tag.endswith("/histogram")]
        self.assertLen(histograms, 4 + 4 + 4)

    def test_lambda_callback_stops(self):
        def stop(epoch, logs):
            self.agent.stop_training = logs["val_episode_return"] > 2

        note = callbacks.LambdaCallback(on_epoch_end=stop)
        history = self.fit(note, returns=[1, 3, 0])
        self.assertEqual(history.epoch, [0, 1])

    def test_terminate_on_nan(self):
        agent = small_agent.make(counting_env.ID)
        poison = small_agent.transitions(agent, 20)
        poison.reward[:] = math.nan
        agent.replay.insert(poison)
        history = self.fit(
            callbacks.TerminateOnNaN(), returns=[0, 0], agent=agent
        )
        self.assertEqual(history.epoch, [0])
        # It was the first batch, and nothing was done with such weights.
        self.assertEqual(agent.updates, 1)
        self.assertAllEqual(history.history["loss"], [math.nan])
        self.assertAllEqual(history.history["val_episode_return"], [math.nan])

    def test_reduce_lr_on_plateau(self):
        history = self.fit(
            callbacks.ReduceLROnPlateau(
                monitor="val_episode_return", mode="max", factor=0.1, patience=2
            ),
            returns=[5, 4, 3, 2],
        )
        for name in ("actor", "critic", "temperature"):
            rates = history.history[f"learning_rate_{name}"]
            # As it was when the epoch began.
            self.assertAllClose(rates, [3e-4, 3e-4, 3e-4, 3e-5])

    def test_reduced_rate_reaches_the_compiled_step(self):
        self.fit(
            callbacks.ReduceLROnPlateau(
                monitor="val_episode_return", mode="max", factor=0.0, patience=1
            ),
            returns=[5, 4, 3],
        )
        learned = {"actor", "critic", "log_alpha"}
        first, second, third = self.states
        self.assertContainsSubset(learned, changed(first, second))
        self.assertNoCommonElements(learned, changed(second, third))
        # Adam's moments tell that there were updates.
        self.assertIn("actor_optimizer", changed(second, third))
        self.assertEqual(self.traced.call_count, 1)

    def test_learning_rate_scheduler(self):
        history = self.fit(
            callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
            returns=[0, 0],
        )
        for name in ("actor", "critic", "temperature"):
            rates = history.history[f"learning_rate_{name}"]
            self.assertAllClose(rates, [1.5e-4, 0.75e-4])
            optimizer = getattr(self.agent, f"{name}_optimizer")
            self.assertAllClose(optimizer.learning_rate, 0.75e-4)

    def test_backup_and_restore(self):
        def backup():
            return callbacks.BackupAndRestore(self.folder / "backup")

        class Crash(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise RuntimeError("power cut")

        agent = small_agent.make(counting_env.ID)
        with self.assertRaisesRegex(RuntimeError, "power cut"):
            self.fit(Crash(), backup(), returns=[0] * 4, agent=agent)
        other = small_agent.make(counting_env.ID)
        before = []
        note = callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: before.append(state(other))
        )
        history = self.fit(backup(), note, returns=[0] * 4, agent=other)
        self.assertEqual(history.epoch, [2, 3])
        self.assertEmpty(changed(self.states[1], before[0]))
        self.assertEqual(history.history["env_steps"], [12, 16])
        # It is over: the next fit begins at its own epoch.
        history = self.fit(backup(), returns=[0], agent=other)
        self.assertEqual(history.epoch, [0])


if __name__ == "__main__":
    tf.test.main()
