"""What every exported format owes, and the agent that the tests export."""

import numpy as np
import small_agent
from gymnasium import spaces

# Rounding carries the first pair out of its bounds, if nothing stops it.
LOW, HIGH = np.float32([-1.9, 0, 5]), np.float32([0.5, 10, 5.5])
SPACES = spaces.Box(-np.inf, np.inf, (4,)), spaces.Box(LOW, HIGH)
COUNT = 10_000


def agent(**config):
    """An agent that has learned a little, so that its biases are not 0."""
    made = small_agent.make(SPACES, **config)
    made.replay.insert(small_agent.transitions(made, 20))
    made.update(updates=5)
    return made


def ordinary():
    """10,000 observations, `[10000, 4]`."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(COUNT, 4)).astype(np.float32) * 3


def extreme():
    """10,000 observations of which each holds extreme numbers."""
    rng = np.random.default_rng(1)
    values = np.float32([np.inf, -np.inf, 3.4e38, -1e30, 1e13, -1e-45, 0])
    rows = rng.choice(values, (COUNT, 4))
    rows[:, 0] = rng.choice(values[:4], COUNT)
    return rows


def difference(actions, expected):
    """The largest, in units of half the range."""
    half_range = (HIGH.astype(np.float64) - LOW) / 2
    return np.abs((actions - expected) / half_range).max()


def check(test, exported, act, tolerance=1e-5):
    """Checks what an exported policy does with 20,001 observations.

    Args:
        test: A `tf.test.TestCase`.
        exported: The agent.
        act: From rows `[B, 4]` to actions `[B, 3]`; is called once.
        tolerance: In units of half the range.
    """
    rows, nan = ordinary(), np.float32([[0, np.nan, 0, 0]])
    actions = act(np.concatenate([rows, extreme(), nan]))
    test.assertEqual(actions.shape, (2 * COUNT + 1, 3))
    expected = exported.predict(rows)
    test.assertLess(difference(actions[:COUNT], expected), tolerance)
    of_extreme = actions[COUNT : 2 * COUNT]
    test.assertTrue(np.isfinite(of_extreme).all())
    test.assertTrue(((LOW <= of_extreme) & (of_extreme <= HIGH)).all())
    test.assertTrue(np.isnan(actions[-1]).all())


def sampled(exported, rows, noise):
    """Actions and log densities of given noise, in float64.

    Args:
        exported: The agent.
        rows: `[B, 4]`.
        noise: `[B, 3]`.

    Returns:
        `[B, 3]` and `[B]`.
    """
    mean, log_std = (np.float64(each) for each in exported.actor(rows))
    low, high = exported.config.log_std_min, exported.config.log_std_max
    log_std = np.clip(log_std, low, high)
    unit = np.tanh(mean + np.exp(log_std) * noise)
    half_range = (HIGH.astype(np.float64) - LOW) / 2
    log_prob = -0.5 * (noise**2 + np.log(2 * np.pi)) - log_std
    log_prob -= np.log1p(-(unit**2)) + np.log(half_range)
    return LOW + half_range * (unit + 1), log_prob.sum(axis=1)
