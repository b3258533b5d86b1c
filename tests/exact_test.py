"""Exact solutions in continuous actions, and SAC against them."""

import math

import exact_agent
import exact_tasks
import gymnasium
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from exact_tasks import Circle, LinearQuadratic

from tfsac import tabular


class CircleTest(tf.test.TestCase):
    """What is claimed of the chosen task, found by other ways."""

    def setUp(self):
        super().setUp()
        self.task = Circle()

    def test_by_hand(self):
        # At the angle 0: means 0 and 0.5, deviations 0.6 e^0.3 and 0.6.
        action = np.tanh([0.2, 0.5])
        first = -(0.2**2) / (2 * (0.6 * math.exp(0.3)) ** 2)
        first -= math.log(0.6) + 0.3 + 0.5 * math.log(2 * math.pi)
        second = -math.log(0.6) - 0.5 * math.log(2 * math.pi)
        squash = sum(math.log(1 - math.tanh(u) ** 2) for u in (0.2, 0.5))
        expected = first + second - squash
        self.assertAllClose(self.task.log_prob(0.0, action), expected)

    def test_value_is_the_soft_maximum_of_q(self):
        # Q* = alpha log pi* + V, integrated over actions: one stands for its
        # volume, hence alpha log volume.
        task = self.task
        action, volume = exact_agent.quadrature(2)
        angle = task.angles[:, np.newaxis]
        q = task.alpha * task.log_prob(angle, action) + task.values(angle)
        value = tabular.soft_value(q + task.alpha * np.log(volume), task.alpha)
        self.assertAllClose(value, task.value, rtol=1e-6, atol=0)

    def test_steps_satisfy_the_soft_bellman_equation(self):
        # By samples of the environment itself, without the closed form of
        # E[V(s')]: r + gamma (1 - d) V(s') is Q* in the mean.
        env = gymnasium.make(exact_tasks.CIRCLE)
        task, space = env.unwrapped, env.action_space
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        ends = set()
        for unit in ([0.3, -0.5], [-0.2, 0.9], [0.8, 0.9]):
            angle = rng.uniform(-np.pi, np.pi)
            action = exact_tasks.from_unit(space, np.array(unit))
            samples = []
            for _ in range(2_000):
                env.reset()
                task.angle = angle
                _, reward, terminated, _, _ = env.step(action)
                follows = (1 - terminated) * task.values(task.angle)
                samples.append(reward + task.discount * follows)
                ends.add(terminated)
            log_prob = task.log_prob(angle, np.array(unit))
            expected = task.alpha * log_prob + task.values(angle)
            tolerance = 4 * np.std(samples) / 2_000**0.5 + 1e-9
            self.assertAllClose(
                np.mean(samples), expected, rtol=0, atol=tolerance
            )
        self.assertSameElements(ends, [False, True])

    def test_soft_value_iteration_finds_it(self):
        # From rewards, noise and ends alone, on a grid of angles and actions:
        # the periodic trapezoid and Gauss' rule converge exponentially. An
        # action stands for its volume, hence alpha log volume.
        task = self.task
        states = len(task.angles)
        action, volume = exact_agent.quadrature(2, nodes=32)
        target = task.angles[:, np.newaxis] + task.turn * action.sum(-1)
        distance = task.angles - target[..., np.newaxis]
        around = distance[..., np.newaxis] + 2 * np.pi * np.arange(-1, 2)
        arrival = np.exp(-0.5 * (around / task.noise) ** 2).sum(-1)
        arrival /= arrival.sum(-1, keepdims=True)
        over = task.ends(action)
        transition = np.zeros((states + 1, len(action), states + 1))
        transition[:-1, ~over, :-1] = arrival[:, ~over]
        transition[:-1, over, -1] = transition[-1, :, -1] = 1
        reward = np.zeros((states + 1, len(action)))
        angle = task.angles[:, np.newaxis]
        reward[:-1] = task.reward(angle, action) + task.alpha * np.log(volume)
        q = tabular.soft_value_iteration(
            tabular.MDP(
                transition=transition,
                reward=reward,
                terminal=np.arange(states + 1) == states,
                discount=task.discount,
            ),
            task.alpha,
        )[:-1]
        value = tabular.soft_value(q, task.alpha)
        self.assertAllClose(value, task.value, rtol=1e-4, atol=0)
        density = tabular.energy_based_policy(q, task.alpha) / volume
        expected = np.exp(task.log_prob(angle, action))
        self.assertAllClose(density, expected, rtol=1e-3, atol=1e-6)

    def test_entropy_is_that_of_the_density(self):
        action, volume = exact_agent.quadrature(2)
        log_prob = self.task.log_prob(self.task.angles[:, np.newaxis], action)
        self.assertAllClose(
            exact_agent.entropies(np.exp(log_prob) * volume, 2),
            self.task.entropy,
            atol=1e-5,
        )

    def test_it_stays_finite_at_the_bounds(self):
        for corner in ([-1, -1], [1, -1], [1, 1]):
            reward = self.task.reward(0.0, np.array(corner, np.float64))
            self.assertBetween(reward, -500, 500)


class LinearQuadraticTest(tf.test.TestCase):
    def test_solution_satisfies_the_soft_bellman_equation(self):
        # By quadratures over noise and actions, in place of the algebra.
        task = LinearQuadratic()
        eps, weights = np.polynomial.hermite_e.hermegauss(5)
        noise = np.stack(np.meshgrid(eps, eps), -1).reshape(-1, 2)
        chance = np.outer(weights, weights).ravel() / weights.sum() ** 2
        force = np.linspace(-15, 15, 3_001)[:, np.newaxis]
        volume = 0.01 / task.bound  # of [-1, 1]
        for i, state in enumerate(task.observations):
            next_mean = task.F @ state + force @ task.G.T
            next_state = next_mean[:, np.newaxis] + task.noise * noise
            q = task.reward(state, force)
            q += task.discount * task.values(next_state) @ chance
            [value] = tabular.soft_value(
                [q + task.alpha * np.log(volume)], task.alpha
            )
            self.assertAllClose(value, task.value[i], rtol=1e-9)
            log_prob = (q - value) / task.alpha
            probability = np.exp(log_prob) * volume
            mean = probability @ force / task.bound
            self.assertAllClose(mean, task.median[i], atol=1e-9)
            entropy = -probability @ log_prob
            self.assertAllClose(entropy, task.entropy[i, 0], rtol=1e-9)

    def test_bounds_are_far_away(self):
        task = LinearQuadratic()
        distance = task.bound * (1 - np.abs(task.median).max())
        self.assertGreater(distance, 5 * task.variance**0.5)


class SACTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(exact_tasks.CIRCLE, exact_tasks.LINEAR_QUADRATIC)
    def test_it_finds_the_optimum(self, env_id):
        agent = exact_agent.train(env_id, seed=0, steps=20_000)
        for name, error in exact_agent.errors(agent).items():
            self.assertLess(error, exact_agent.TOLERANCES[name], msg=name)


if __name__ == "__main__":
    tf.test.main()
