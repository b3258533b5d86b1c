"""Continuous tasks whose maximum entropy solution is known exactly.

Notation is that of docs/maximum-entropy.md; sums over actions are integrals,
and densities are per volume of actions in [-1, 1]^A, as SAC's are. The optimum
is the one fixed point of

    Q(s, a) = r(s, a) + gamma E[(1 - d) V(s')],
    V(s) = alpha log integral exp(Q(s, a) / alpha) da,
    pi*(a|s) = exp((Q(s, a) - V(s)) / alpha).

**Chosen.** Choose any density pi*(a|s) and any bounded V(s), and let

    r(s, a) = alpha log pi*(a|s) + V(s) - gamma E[(1 - d) V(s')].

Then Q* = alpha log pi* + V. For its soft maximum is V,

    alpha log integral exp(log pi*(a|s) + V(s) / alpha) da = V(s),

since pi* integrates to 1, and with that V the first equation is r's
definition. This holds for any dynamics. `Circle` chooses pi* among SAC's own
policies, squashed Gaussians, so that its projection loses nothing.

**Linear-quadratic.** Let s' = F s + G u + w, w ~ N(0, W), and
r(s, u) = -(s' M s + R u^2), for one action u in the env's units; there, as in
a textbook, ' of a matrix or a vector transposes. Try V(s) = c - s' P s:

    Q(s, u) = -(s' M s + R u^2) + gamma (c - tr(P W) - |F s + G u|_P^2),

a parabola in u. With S = R + gamma G' P G and K = gamma G' P F / S, it has its
top at u = -K s, and the curvature -2 S. So pi*(u|s) = N(-K s, alpha / (2 S)),
and V, the top plus alpha log of the integral, agrees with what was tried if

    P = M + gamma F' P F - S K' K,
    c = gamma (c - tr(P W)) + (alpha / 2) log(2 pi (alpha / (2 S))).

The first is Riccati's equation, without the temperature. SAC's actions are
a = u / h, inside the bounds +-h: its densities are h times those of u, and
alpha log h comes off c's right-hand side. This is exact without bounds; where
the policy keeps far from them, tanh is nearly straight.

Episodes are cut by a time limit, which is no part of the equations: what
follows it counts, so a learner has to bootstrap there.
"""

import gymnasium
import numpy as np

LOG_2PI = np.log(2 * np.pi)
# 0 < 1 - |a| at the bounds too, where the log density is then some -150.
EDGE = 2.0**-24


class Circle(gymnasium.Env):
    """A point on the circle, with a chosen policy and value.

    The state is an angle; an observation is its (cos, sin), `[2]`. Two actions,
    a in [-1, 1]^2, of bounds that differ, turn it by 0.6 (a_1 + a_2) and noise
    of 0.3. The episode ends where a_1 + a_2 > 1.5.

    The standard deviations stay near 0.6, where log pi* is nearly flat; only
    next to the bounds is it far below 0.

    Attributes:
        observations: `[S, 2]`, states to compare at.
        median: `[S, 2]`, the exact median of each action in [-1, 1].
        entropy: `[S, 2]`, that of each action, nats.
        value: `[S]`.
    """

    alpha = 0.5
    discount = 0.7
    turn, noise = 0.6, 0.3
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gymnasium.spaces.Box(
        np.float32([-2, 0]), np.float32([2, 10])
    )

    def __init__(self):
        self.angles = np.linspace(-np.pi, np.pi, 64, endpoint=False)
        self.observations = _on_circle(self.angles)
        mean, log_std = self.gaussian(self.angles)
        self.median = np.tanh(mean)
        self.entropy = squashed_entropy(mean, log_std)
        self.value = self.values(self.angles)

    def gaussian(self, angle):
        """Mean and log standard deviation of pi* before tanh, `[..., 2]`."""
        mean = [0.8 * np.sin(angle), 0.5 * np.cos(angle)]
        log_std = [0.3 * np.cos(angle), 0.3 * np.sin(angle)]
        return np.stack(mean, -1), np.log(0.6) + np.stack(log_std, -1)

    def log_prob(self, angle, action):
        """Log pi*(a|s), nats, of actions in [-1, 1]^2, `[..., 2]`."""
        return squashed_log_prob(*self.gaussian(angle), action)

    def values(self, angle):
        """V(s)."""
        return 3 + np.cos(angle - 1)

    def ends(self, action):
        """d: whether the episode ends by an action in [-1, 1]^2."""
        return action.sum(-1) > 1.5

    def reward(self, angle, action):
        """r(s, a), of actions in [-1, 1]^2."""
        # E cos(x + w) = cos(x) exp(-variance / 2), for normal noise w.
        turned = angle + self.turn * action.sum(-1)
        next_value = 3 + np.exp(-(self.noise**2) / 2) * np.cos(turned - 1)
        return (
            self.alpha * self.log_prob(angle, action)
            + self.values(angle)
            - self.discount * np.where(self.ends(action), 0, next_value)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angle = self.np_random.uniform(-np.pi, np.pi)
        return _on_circle(self.angle), {}

    def step(self, action):
        action = to_unit(self.action_space, action)
        reward = float(self.reward(self.angle, action))
        noise = self.noise * self.np_random.standard_normal()
        self.angle += self.turn * action.sum() + noise
        observation = _on_circle(self.angle)
        return observation, reward, bool(self.ends(action)), False, {}


class LinearQuadratic(gymnasium.Env):
    """A cart pushed to its place against the square of state and force.

    Observations are (position, velocity), `[2]`; episodes start at random in
    [-1, 1]^2. There the policy's mean is five of its standard deviations away
    from the bounds.

    Attributes:
        observations: `[S, 2]`, states to compare at, in [-1, 1]^2.
        median: `[S, 1]`, the exact median of the action in [-1, 1].
        entropy: `[S, 1]`, nats.
        value: `[S]`.
    """

    alpha = 1.0
    discount = 0.7
    noise = 0.05
    bound = 5.0
    F = np.array([[0.9, 0.3], [0.0, 0.8]])
    G = np.array([[0.0], [0.5]])
    M = np.eye(2)
    R = 0.6
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-bound, bound, (1,), np.float32)

    def __init__(self):
        axis = np.linspace(-1, 1, 9)
        self.observations = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        self.solve()
        self.median = -self.observations @ self.K.T / self.bound
        variance = self.variance / self.bound**2
        entropy = 0.5 * (LOG_2PI + 1 + np.log(variance))
        self.entropy = np.full_like(self.median, entropy)
        self.value = self.values(self.observations)

    def solve(self):
        """Riccati's equation, by iteration; it contracts by gamma at least."""
        self.P = self.M
        for _ in range(500):
            S = self.R + self.discount * (self.G.T @ self.P @ self.G).item()
            self.K = self.discount * self.G.T @ self.P @ self.F / S
            pulled = self.discount * self.F.T @ self.P @ self.F
            self.P = self.M + pulled - S * self.K.T @ self.K
        self.variance = self.alpha / (2 * S)
        log_integral = 0.5 * (LOG_2PI + np.log(self.variance))
        each_step = self.alpha * (log_integral - np.log(self.bound))
        each_step -= self.discount * self.noise**2 * np.trace(self.P)
        self.c = each_step / (1 - self.discount)

    def values(self, state):
        """V(s) of states `[..., 2]`."""
        return self.c - np.sum(state @ self.P * state, -1)

    def reward(self, state, force):
        """r(s, u) of states `[..., 2]` and forces `[..., 1]`."""
        cost = np.sum(state @ self.M * state, -1)
        return -cost - self.R * np.sum(force**2, -1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2)
        return self.state.copy(), {}

    def step(self, action):
        force = action.astype(np.float64)
        reward = float(self.reward(self.state, force))
        noise = self.noise * self.np_random.standard_normal(2)
        self.state = self.F @ self.state + self.G @ force + noise
        return self.state.copy(), reward, False, False, {}


def to_unit(space, action):
    """Actions of a `Box` scaled to [-1, 1], in float64."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (2 * action - low - high) / (high - low)


def from_unit(space, action):
    """The inverse of `to_unit`."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (low + high + (high - low) * action) / 2


def squashed_log_prob(mean, log_std, action):
    """The log density of a = tanh(mean + exp(log_std) eps), `[..., A]`."""
    action = np.clip(action, EDGE - 1, 1 - EDGE)
    eps = (np.arctanh(action) - mean) / np.exp(log_std)
    gaussian = -0.5 * (eps**2 + LOG_2PI) - log_std
    return np.sum(gaussian - np.log((1 - action) * (1 + action)), axis=-1)


def squashed_entropy(mean, log_std):
    """The entropy of each action, by Gauss-Hermite quadrature, `[..., A]`.

    H = log(2 pi e sigma^2) / 2 + E log(1 - tanh(u)^2): nats.
    """
    eps, weights = np.polynomial.hermite_e.hermegauss(64)
    weights /= weights.sum()
    u = mean[..., None] + np.exp(log_std)[..., None] * eps
    squash = -2 * np.log(np.cosh(u)) @ weights
    return 0.5 * (LOG_2PI + 1) + log_std + squash


def _on_circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], -1)


STEPS_AN_EPISODE = 10
CIRCLE, LINEAR_QUADRATIC = "Circle-v0", "LinearQuadratic-v0"
for name, task in {CIRCLE: Circle, LINEAR_QUADRATIC: LinearQuadratic}.items():
    gymnasium.register(
        name, entry_point=task, max_episode_steps=STEPS_AN_EPISODE
    )
