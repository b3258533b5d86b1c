"""Exact solutions, against closed forms, loops, and what theorems promise."""

import dataclasses
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import numpy as np
import tabular_reference as reference
import tensorflow as tf
from absl.testing import parameterized

from tfsac import sac, tabular

LOG2, LOG3, LOG5 = np.log([2.0, 3.0, 5.0])
GOLDEN_RATIO = (1 + 5**0.5) / 2


class Problem(NamedTuple):
    """A random MDP, with a random temperature, policies and values."""

    mdp: tabular.MDP
    alpha: float
    policy: np.ndarray
    q: np.ndarray
    other_q: np.ndarray

    @property
    def scale(self):
        """How large values get."""
        states, actions = self.mdp.reward.shape
        step = np.abs(self.mdp.reward).max() + self.alpha * np.log(actions)
        return max(step, np.abs(self.q).max()) / (1 - self.mdp.discount)

    @property
    def rounding(self):
        return 1e-11 * self.scale


@st.composite
def problems(draw, ending=True):
    """Problems with terminal states and others, unless none may ever end."""
    states = draw(st.integers(2 if ending else 1, 6))
    actions = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Some next states and actions get no probability at all.
    transition = rng.dirichlet([0.3] * states, size=(states, actions))
    transition[rng.uniform(size=(states, actions)) < 0.3] = np.eye(states)[0]
    policy = rng.dirichlet([1.0] * actions, size=states)
    policy[rng.uniform(size=states) < 0.2] = np.eye(actions)[0]
    reward_scale = 10 ** rng.uniform(-1, 1)
    reward, q, other_q = reward_scale * rng.normal(size=(3, states, actions))
    terminal = np.zeros(states, bool)
    if ending:
        terminal[rng.permutation(states)[: rng.integers(1, states)]] = True
    mdp = tabular.MDP(
        transition=transition,
        reward=reward,
        terminal=terminal,
        discount=rng.uniform(0, 0.9),
    )
    return Problem(mdp, 10 ** rng.uniform(-2, 1), policy, q, other_q)


def each(strategy):
    """Runs a test with 200 random problems."""
    given = hypothesis.given(strategy)
    settings = hypothesis.settings(max_examples=200, deadline=None)
    return lambda test: settings(given(test))


def one_state(reward, discount):
    """A state that never ends."""
    reward = np.array([reward])
    return tabular.MDP(
        transition=np.ones((*reward.shape, 1)),
        reward=reward,
        terminal=np.array([False]),
        discount=discount,
    )


def chain():
    """From 0 to 1 (or its end, evenly) or to the end; from 1 to the end."""
    return tabular.MDP(
        transition=np.array(
            [
                [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
                [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
                [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
            ]
        ),
        reward=np.array([[0.0, 1.0], [LOG3, LOG2], [7.0, 7.0]]),
        terminal=np.array([False, False, True]),
        discount=0.5,
    )


class TestCase(parameterized.TestCase, tf.test.TestCase):
    def assertNear(self, first, second, error):
        second = np.broadcast_to(second, np.shape(first))
        self.assertAllClose(first, second, rtol=0, atol=error)

    def assertAtLeast(self, first, second, error=0.0):
        self.assertEmpty(np.extract(first < second - error, first - second))


class SoftValueTest(TestCase):
    def test_by_hand(self):
        # exp(q / 2) = 9 and 4
        q = [[4 * LOG3, 4 * LOG2], [0.0, 0.0]]
        self.assertNear(
            tabular.soft_value(q, 2.0), [2 * np.log(13), 2 * LOG2], 1e-15
        )
        self.assertNear(
            tabular.energy_based_policy(q, 2.0),
            [[9 / 13, 4 / 13], [0.5, 0.5]],
            1e-15,
        )

    def test_without_temperature_it_is_the_maximum(self):
        q = [[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]
        self.assertAllEqual(tabular.soft_value(q, 0.0), [3.0, 2.0])
        self.assertAllEqual(
            tabular.energy_based_policy(q, 0.0), [[0, 0.5, 0.5], [1, 0, 0]]
        )

    @each(problems())
    def test_value_and_policy_belong_together(self, problem):
        """Seed eqs. 14 and 16, and SAC 2018b eq. 3."""
        mdp, alpha, _, q, _ = problem
        value = tabular.soft_value(q, alpha)
        policy = tabular.energy_based_policy(q, alpha)
        expected = [reference.soft_maximum(row, alpha) for row in q]
        self.assertNear(value, expected, problem.rounding)
        self.assertNear(policy, np.exp((q - value[:, None]) / alpha), 1e-10)
        self.assertNear(
            value, tabular.policy_value(q, policy, alpha), problem.rounding
        )

    @each(problems())
    def test_another_policy_loses_its_divergence(self, problem):
        """So the energy-based policy has the most of E[Q] + alpha H."""
        _, alpha, policy, q, _ = problem
        best = tabular.energy_based_policy(q, alpha)
        # Where a divergence can be computed.
        hypothesis.assume(best.min() > 1e-300)
        lost = [
            alpha * reference.divergence(p, p_best)
            for p, p_best in zip(policy, best, strict=True)
        ]
        self.assertNear(
            tabular.policy_value(q, policy, alpha),
            tabular.soft_value(q, alpha) - lost,
            problem.rounding,
        )

    @each(problems())
    def test_it_goes_from_the_maximum_to_the_uniform_policy(self, problem):
        q, actions = problem.q, problem.q.shape[1]
        excess = tabular.soft_value(q, problem.alpha) - q.max(axis=1)
        self.assertAllInRange(excess, 0, problem.alpha * np.log(actions) + 1e-9)
        self.assertNear(
            tabular.soft_value(q, 1e-12), q.max(axis=1), 1e-12 * LOG5
        )
        gap = np.ptp(q)
        self.assertNear(
            tabular.energy_based_policy(q, 1e6 * gap + 1), 1 / actions, 1e-6
        )

    @parameterized.parameters(
        ([1e308, -1e308], 1e-308, 1e308, [1, 0]),
        ([-1e308, 0.0], 1.0, 0.0, [0, 1]),
        ([5e5, 5e5 - 1], 1e-3, 5e5, [1, 0]),
        ([1e300, 1e300], 1e300, 1e300 * (1 + LOG2), [0.5, 0.5]),
        ([1e9, 1e9 - LOG2], 1.0, 1e9 + np.log(1.5), [2 / 3, 1 / 3]),
    )
    def test_nothing_overflows(self, q, alpha, value, policy):
        with np.errstate(all="raise"):
            self.assertAllClose(
                tabular.soft_value(q, alpha), value, rtol=1e-15, atol=0
            )
            got = tabular.energy_based_policy(q, alpha)
            self.assertNear(got, policy, 1e-7)
            self.assertNear(
                tabular.entropy(got), reference.entropy(policy), 1e-7
            )

    def test_entropy(self):
        policy = [[0.25, 0.75, 0.0], [1.0, 0.0, 0.0], [1 / 3] * 3]
        expected = [2 * LOG2 - 0.75 * LOG3, 0.0, LOG3]
        self.assertNear(tabular.entropy(policy), expected, 1e-15)

    @parameterized.parameters(-1.0, np.inf, np.nan)
    def test_alpha_out_of_range(self, alpha):
        with self.assertRaisesRegex(ValueError, "alpha must be .* Received"):
            tabular.soft_value([[1.0]], alpha)


class BackupTest(TestCase):
    def test_by_hand(self):
        q = [[9.0, 9.0], [3.0, 1.0], [5.0, 5.0]]
        policy = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
        # V(1) = 2 + 2 log 2; the values of 0 and of the end reach nobody.
        expected = [[0.5 * 0.5 * (2 + 2 * LOG2), 1.0], [LOG3, LOG2], [7.0, 7.0]]
        self.assertNear(
            tabular.soft_backup(chain(), q, policy, 2.0), expected, 1e-14
        )
        expected[0][0] = 0.5 * 0.5 * 2 * LOG2
        self.assertNear(
            tabular.soft_reward(chain(), policy, 2.0), expected, 1e-14
        )

    @each(problems())
    def test_they_are_the_equations(self, problem):
        mdp, alpha, policy, q, _ = problem
        self.assertNear(
            tabular.soft_backup(mdp, q, policy, alpha),
            reference.policy_backup(mdp, q, policy, alpha),
            problem.rounding,
        )
        self.assertNear(
            tabular.soft_optimality_backup(mdp, q, alpha),
            reference.optimality_backup(mdp, q, alpha),
            problem.rounding,
        )

    @each(problems())
    def test_both_forms_agree(self, problem):
        """Entropy added to Q (seed eq. 6) or to the reward (seed eq. 7)."""
        mdp, alpha, policy, q, _ = problem
        added = tabular.soft_backup(mdp, q, policy, alpha)
        folded = tabular.folded_soft_backup(mdp, q, policy, alpha)
        self.assertNear(added, folded, problem.rounding)
        for s, a in np.ndindex(*q.shape):
            hoped = mdp.transition[s, a] * ~mdp.terminal
            entropies = [reference.entropy(row) for row in policy]
            self.assertNear(
                tabular.soft_reward(mdp, policy, alpha)[s, a],
                mdp.reward[s, a] + mdp.discount * alpha * hoped @ entropies,
                problem.rounding,
            )

    @each(problems())
    def test_the_target_of_sac_is_a_sample_of_it(self, problem):
        """Its mean over all next states and actions is the soft backup."""
        mdp, alpha, policy, q, _ = problem
        # Of an action that has no probability SAC never sees the logarithm.
        policy = 0.99 * policy + 0.01 / q.shape[1]
        s, a, s2, a2 = (i.ravel() for i in np.indices(q.shape * 2))
        next_value = sac.soft_value(
            q[None, s2, a2], np.log(policy[s2, a2]), alpha
        )
        target = sac.soft_q_target(
            reward=mdp.reward[s, a],
            terminated=mdp.terminal[s2].astype(float),
            next_value=next_value,
            discount=mdp.discount,
        )
        probability = mdp.transition[s, a, s2] * policy[s2, a2]
        mean = np.zeros_like(q)
        np.add.at(mean, (s, a), probability * target)
        backup = tabular.soft_backup(mdp, q, policy, alpha)
        self.assertNear(mean, backup, problem.rounding)

    @each(problems())
    def test_the_target_of_sac_with_discrete_actions_leaves_out_a_sum(
        self, problem
    ):
        """Only the next state is a sample; over actions it is exact."""
        mdp, alpha, policy, q, _ = problem
        policy = 0.99 * policy + 0.01 / q.shape[1]
        s, a, s2 = (i.ravel() for i in np.indices(mdp.transition.shape))
        next_value = sac.soft_value_discrete(
            q[None, s2], np.log(policy[s2]), alpha
        )
        target = sac.soft_q_target(
            reward=mdp.reward[s, a],
            terminated=mdp.terminal[s2].astype(float),
            next_value=next_value,
            discount=mdp.discount,
        )
        mean = np.zeros_like(q)
        np.add.at(mean, (s, a), mdp.transition[s, a, s2] * target)
        backup = tabular.soft_backup(mdp, q, policy, alpha)
        self.assertNear(mean, backup, problem.rounding)

    @each(problems())
    def test_they_contract_by_gamma(self, problem):
        mdp, alpha, policy, q, other_q = problem
        allowed = mdp.discount * np.abs(q - other_q).max() + problem.rounding
        for backup in (
            lambda q: tabular.soft_backup(mdp, q, policy, alpha),
            lambda q: tabular.soft_optimality_backup(mdp, q, alpha),
        ):
            change = np.abs(backup(q) - backup(other_q)).max()
            self.assertLessEqual(change, allowed)

    @each(problems(ending=False))
    def test_without_an_end_the_rate_is_attained(self, problem):
        mdp, alpha, policy, q, _ = problem
        for backup in (
            lambda q: tabular.soft_backup(mdp, q, policy, alpha),
            lambda q: tabular.soft_optimality_backup(mdp, q, alpha),
        ):
            shift = backup(q + 3.0) - backup(q)
            self.assertNear(shift, 3.0 * mdp.discount, problem.rounding)


class PolicyEvaluationTest(TestCase):
    def test_by_hand(self):
        uniform = np.full((3, 2), 0.5)
        # V(1) = (log 3 + log 2) / 2 + log 2
        value = (LOG3 + LOG2) / 2 + LOG2
        self.assertNear(
            tabular.soft_policy_evaluation(chain(), uniform, 1.0),
            [[0.25 * value, 1.0], [LOG3, LOG2], [7.0, 7.0]],
            1e-14,
        )
        # V = 3/4 + 2 H + V / 2
        mdp = one_state([0.0, 1.0], discount=0.5)
        value = 1.5 + 4 * (2 * LOG2 - 0.75 * LOG3)
        self.assertNear(
            tabular.soft_policy_evaluation(mdp, [[0.25, 0.75]], 2.0),
            [[0.5 * value, 1 + 0.5 * value]],
            1e-14,
        )

    @each(problems())
    def test_it_is_the_discounted_sum_of_rewards_and_entropies(self, problem):
        mdp, alpha, policy, _, _ = problem
        self.assertNear(
            tabular.soft_policy_evaluation(mdp, policy, alpha),
            reference.discounted_sum(mdp, policy, alpha),
            problem.rounding,
        )

    @each(problems())
    def test_it_is_where_repeated_backups_lead(self, problem):
        mdp, alpha, policy, q, _ = problem
        fixed_point = tabular.soft_policy_evaluation(mdp, policy, alpha)
        self.assertNear(
            tabular.soft_backup(mdp, fixed_point, policy, alpha),
            fixed_point,
            problem.rounding,
        )
        for _ in range(20):
            q = tabular.folded_soft_backup(mdp, q, policy, alpha)
        distance = np.abs(fixed_point - problem.q).max()
        allowed = mdp.discount**20 * distance + problem.rounding
        self.assertNear(q, fixed_point, allowed)


class PolicyImprovementTest(TestCase):
    @each(problems())
    def test_no_value_falls(self, problem):
        """Theorem 4: and V rises by at least alpha times the divergence."""
        mdp, alpha, policy, _, _ = problem
        q = tabular.soft_policy_evaluation(mdp, policy, alpha)
        better = tabular.energy_based_policy(q, alpha)
        better_q = tabular.soft_policy_evaluation(mdp, better, alpha)
        self.assertAtLeast(better_q, q, problem.rounding)

        hypothesis.assume(better.min() > 1e-300)
        rise = tabular.policy_value(
            better_q, better, alpha
        ) - tabular.policy_value(q, policy, alpha)
        divergence = [
            reference.divergence(p, p_better)
            for p, p_better in zip(policy, better, strict=True)
        ]
        gain = alpha * np.array(divergence)
        self.assertAtLeast(rise, gain, problem.rounding)
        strictly = gain > 2 * problem.rounding
        self.assertTrue(np.all(rise[strictly] > 0))

    @each(problems())
    def test_only_the_optimum_improves_no_more(self, problem):
        mdp, alpha, policy, _, _ = problem
        q = tabular.soft_policy_iteration(mdp, alpha)
        best = tabular.energy_based_policy(q, alpha)
        self.assertNear(
            tabular.soft_policy_evaluation(mdp, best, alpha),
            q,
            problem.rounding,
        )
        other = tabular.soft_policy_evaluation(mdp, policy, alpha)
        self.assertAtLeast(q, other, problem.rounding)

    def test_by_hand(self):
        # Of the uniform policy Q = V / 2 and 1 + V / 2, so that the better one
        # has odds of e.
        mdp = one_state([0.0, 1.0], discount=0.5)
        q = tabular.soft_policy_evaluation(mdp, [[0.5, 0.5]], 1.0)
        self.assertNear(
            tabular.energy_based_policy(q, 1.0),
            [[1 / (1 + np.e), np.e / (1 + np.e)]],
            1e-15,
        )


def iterations():
    return parameterized.named_parameters(
        ("policy_iteration", tabular.soft_policy_iteration),
        ("value_iteration", tabular.soft_value_iteration),
    )


class OptimumTest(TestCase):
    @iterations()
    def test_one_state_by_hand(self, solve):
        # V = (2 log(exp(r_0 / 2) + exp(r_1 / 2))) / (1 - 0.9)
        q = solve(one_state([2 * LOG3, 0.0], discount=0.9), 2.0)
        self.assertNear(tabular.soft_value(q, 2.0), [20 * 2 * LOG2], 2e-8)
        policy = tabular.energy_based_policy(q, 2.0)
        self.assertNear(policy, [[0.75, 0.25]], 1e-8)

    @iterations()
    def test_chain_by_hand(self, solve):
        # V(1) = log(3 + 2), and half of it is reached after half a discount.
        q = solve(chain(), 1.0)
        self.assertNear(
            q, [[0.25 * LOG5, 1.0], [LOG3, LOG2], [7.0, 7.0]], 1e-14
        )
        self.assertNear(
            tabular.soft_value(q, 1.0)[:2],
            [np.log(5**0.25 + np.e), LOG5],
            1e-14,
        )
        self.assertNear(
            tabular.energy_based_policy(q, 1.0)[1], [0.6, 0.4], 1e-14
        )

    def stay_or_leave(self):
        return tabular.MDP(
            transition=np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]] * 2]),
            reward=np.zeros((2, 2)),
            terminal=np.array([False, True]),
            discount=0.5,
        )

    @iterations()
    def test_who_stays_has_more_entropy_to_come(self, solve):
        # V = log(exp(V / 2) + 1), so that exp(V / 2) is the golden ratio.
        q = solve(self.stay_or_leave(), 1.0)
        value = 2 * np.log(GOLDEN_RATIO)
        self.assertNear(q[0], [value / 2, 0.0], 1e-8)
        self.assertNear(
            tabular.energy_based_policy(q, 1.0)[0],
            [1 / GOLDEN_RATIO, 1 / GOLDEN_RATIO**2],
            1e-8,
        )

    @each(problems())
    def test_both_iterations_find_the_fixed_point(self, problem):
        mdp, alpha = problem.mdp, problem.alpha
        q = tabular.soft_policy_iteration(mdp, alpha)
        self.assertNear(
            reference.optimality_backup(mdp, q, alpha), q, problem.rounding
        )
        for tolerance in (1.0, 1e-3, 1e-7):
            other = tabular.soft_value_iteration(mdp, alpha, tolerance)
            self.assertNear(other, q, tolerance + problem.rounding)

    def test_the_tolerance_is_kept_where_the_bound_is_attained(self):
        mdp = one_state([1.0, 1.0], discount=0.95)
        q = tabular.soft_value_iteration(mdp, 1.0, tolerance=0.1)
        exact = 1 + 0.95 * (1 + LOG2) / 0.05
        self.assertNear(q, [[exact] * 2], 0.1)
        self.assertNotAllClose(q, [[exact] * 2], rtol=0, atol=0.05)

    def test_a_tolerance_below_rounding_ends_too(self):
        """Most of these settle in the last digit; some go round for ever."""
        for seed in range(300):
            rng = np.random.default_rng(seed)
            mdp = tabular.MDP(
                transition=rng.dirichlet([1.0] * 6, size=(6, 3)),
                reward=rng.normal(size=(6, 3)),
                terminal=np.zeros(6, bool),
                discount=0.3,
            )
            q = tabular.soft_value_iteration(mdp, 1.0, tolerance=1e-100)
            exact = tabular.soft_policy_iteration(mdp, 1.0)
            self.assertLess(np.abs(q - exact).max(), 1e-14)

    @parameterized.parameters(0.0, -1.0, np.nan, np.inf)
    def test_a_tolerance_out_of_range(self, tolerance):
        with self.assertRaisesRegex(ValueError, "tolerance must be"):
            tabular.soft_value_iteration(chain(), 1.0, tolerance)


class LimitsTest(TestCase):
    @each(problems())
    def test_without_temperature_it_is_value_iteration(self, problem):
        expected = reference.best_ordinary_values(problem.mdp)
        for solve in (
            tabular.soft_policy_iteration,
            tabular.soft_value_iteration,
        ):
            q = solve(problem.mdp, 0.0)
            self.assertNear(q, expected, 1e-8 + problem.rounding)

    @each(problems())
    def test_a_small_alpha_gives_nearly_ordinary_values(self, problem):
        mdp, policy = problem.mdp, problem.policy
        hard = reference.best_ordinary_values(mdp)
        best = np.where(mdp.terminal, 0.0, hard.max(axis=1))
        horizon = 1 / (1 - mdp.discount)
        for alpha in (1e-1, 1e-5):
            q = tabular.soft_policy_iteration(mdp, alpha)
            most = alpha * np.log(q.shape[1]) * horizon
            self.assertAtLeast(q, hard, problem.rounding)
            # The first action's entropy is no part of Q, hence gamma.
            highest = hard + mdp.discount * most
            self.assertAtLeast(highest, q, problem.rounding)
            # What the policy collects, without its entropy.
            policy = tabular.energy_based_policy(q, alpha)
            collected = reference.discounted_sum(mdp, policy, 0.0)
            value = np.sum(policy * collected, axis=1)
            value[mdp.terminal] = 0.0
            self.assertAtLeast(value, best - most, problem.rounding)

    @each(problems(ending=False))
    def test_a_large_alpha_gives_the_uniform_policy(self, problem):
        mdp, alpha, actions = problem.mdp, 1e6, problem.q.shape[1]
        # Differences of rewards at most, over the whole future.
        spread = np.ptp(mdp.reward) / (1 - mdp.discount)
        policy = tabular.energy_based_policy(
            tabular.soft_policy_iteration(mdp, alpha), alpha
        )
        self.assertNear(actions * policy, 1.0, 1.1 * spread / alpha + 1e-9)

    @each(problems())
    def test_with_an_end_a_large_alpha_forgets_the_rewards(self, problem):
        """What remains is to keep the most entropy ahead: not uniform."""
        mdp, alpha = problem.mdp, 1e6
        spread = np.abs(mdp.reward).max() / (1 - mdp.discount)
        free = dataclasses.replace(mdp, reward=np.zeros_like(mdp.reward))
        policy, expected = (
            tabular.energy_based_policy(
                tabular.soft_policy_iteration(each_mdp, each_alpha), each_alpha
            )
            for each_mdp, each_alpha in ((mdp, alpha), (free, 1.0))
        )
        self.assertNear(policy / expected, 1.0, 1.1 * 2 * spread / alpha + 1e-9)


class InvarianceTest(TestCase):
    @each(problems(ending=False))
    def test_a_constant_in_the_reward_shifts_all_values(self, problem):
        mdp, alpha = problem.mdp, problem.alpha
        shifted = dataclasses.replace(mdp, reward=mdp.reward + 3.0)
        q = tabular.soft_policy_iteration(mdp, alpha)
        shifted_q = tabular.soft_policy_iteration(shifted, alpha)
        shift = 3.0 / (1 - mdp.discount)
        self.assertNear(shifted_q, q + shift, problem.rounding + 1e-10)

    @each(problems())
    def test_only_reward_relative_to_alpha_matters(self, problem):
        mdp, alpha = problem.mdp, problem.alpha
        larger = dataclasses.replace(mdp, reward=mdp.reward * 50)
        q = tabular.soft_policy_iteration(mdp, alpha)
        larger_q = tabular.soft_policy_iteration(larger, alpha * 50)
        self.assertNear(larger_q, 50 * q, 50 * problem.rounding)


class ArgumentsTest(TestCase):
    @parameterized.named_parameters(
        ("q", (1, 2), (3, 2), "q must be"),
        ("policy", (3, 2), (1, 2), "policy must be"),
    )
    def test_functions_refuse_other_shapes(self, q_shape, policy_shape, error):
        mdp = chain()
        q, policy = np.zeros(q_shape), np.full(policy_shape, 0.5)
        for backup in (tabular.soft_backup, tabular.folded_soft_backup):
            with self.assertRaisesRegex(ValueError, error):
                backup(mdp, q, policy, 1.0)

    def test_functions_refuse_what_is_no_policy(self):
        mdp = chain()
        for function in (tabular.soft_policy_evaluation, tabular.soft_reward):
            with self.assertRaisesRegex(ValueError, "divide by the sum"):
                function(mdp, np.ones((3, 2)), 1.0)
        with self.assertRaisesRegex(
            ValueError, r"policy must be .* = \[3, 2\]"
        ):
            tabular.soft_policy_evaluation(mdp, np.ones((2, 1)), 1.0)


if __name__ == "__main__":
    tf.test.main()
