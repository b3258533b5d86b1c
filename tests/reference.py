"""Soft Actor-Critic in float64 NumPy, written from the equations alone.

It shares no code with tfsac: gradients are derived by hand, log-densities are
written out. Networks are lists of (kernel, bias) with ReLU between them.
"""

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]


def log_one_minus_tanh_squared(u: np.ndarray) -> np.ndarray:
    """log(1 - tanh(u)^2) = log 4 - 2|u| - 2 log(1 + exp(-2|u|))."""
    magnitude = np.abs(u)
    return np.log(4) - 2 * magnitude - 2 * np.log1p(np.exp(-2 * magnitude))


def log_prob(log_std: np.ndarray, eps: np.ndarray, u: np.ndarray) -> np.ndarray:
    """2018b eq. 26, with u = mean + exp(log_std) * eps given."""
    gaussian = -0.5 * eps**2 - log_std - 0.5 * np.log(2 * np.pi)
    return np.sum(gaussian - log_one_minus_tanh_squared(u), axis=-1)


def forward(layers: Layers, x: np.ndarray) -> list[np.ndarray]:
    """The inputs of each layer, then the output."""
    activations = [x]
    for i, (kernel, bias) in enumerate(layers):
        x = x @ kernel + bias
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
        activations.append(x)
    return activations


def backward(
    layers: Layers, activations: list[np.ndarray], grad: np.ndarray
) -> tuple[Layers, np.ndarray]:
    """Gradients of each (kernel, bias), and of the input."""
    grads = []
    for i in reversed(range(len(layers))):
        if i < len(layers) - 1:
            grad = grad * (activations[i + 1] > 0)
        grads.append((activations[i].T @ grad, grad.sum(axis=0)))
        grad = grad @ layers[i][0].T
    return grads[::-1], grad


class Adam:
    """Kingma and Ba's Adam, with their "epsilon hat"."""

    def __init__(self, rate: float, epsilon: float = 1e-8):
        self.rate, self.epsilon = rate, epsilon
        self.step, self.m, self.v = 0, {}, {}

    def tick(self) -> None:
        self.step += 1

    def __call__(self, key: object, value: np.ndarray, grad: np.ndarray):
        m = 0.9 * self.m.get(key, 0.0) + 0.1 * grad
        v = 0.999 * self.v.get(key, 0.0) + 0.001 * grad**2
        self.m[key], self.v[key] = m, v
        correction = np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        return value - self.rate * correction * m / (np.sqrt(v) + self.epsilon)


def descend(adam: Adam, member: int, layers: Layers, grads: Layers) -> Layers:
    """One step of Adam for one network of an ensemble."""
    return [
        tuple(
            adam((member, i, j), value, grad)
            for j, (value, grad) in enumerate(zip(pair, slopes, strict=True))
        )
        for i, (pair, slopes) in enumerate(zip(layers, grads, strict=True))
    ]


def soft_update(target: Layers, source: Layers, tau: float) -> None:
    """Moves the target towards the source, in place."""
    for i, (old, new) in enumerate(zip(target, source, strict=True)):
        target[i] = tuple(
            tau * n + (1 - tau) * o for o, n in zip(old, new, strict=True)
        )


class Reference:
    """One SAC agent: Algorithm 1 of 2018b as docs/sac.md states it."""

    def __init__(
        self,
        actor: Layers,
        critics: list[Layers],
        *,
        discount: float,
        tau: float,
        rate: float,
        target_entropy: float,
        log_std_bounds: tuple[float, float] = (-20.0, 2.0),
    ):
        self.actor, self.critics = actor, critics
        self.targets = [list(critic) for critic in critics]
        self.log_alpha = 0.0
        self.discount, self.tau = discount, tau
        self.target_entropy = target_entropy
        self.log_std_bounds = log_std_bounds
        self.adams = {name: Adam(rate) for name in ("q", "pi", "alpha")}

    def policy(self, s: np.ndarray, eps: np.ndarray):
        """Activations, log_std before and after clipping, u, log pi."""
        activations = forward(self.actor, s)
        mean, raw = np.split(activations[-1], 2, axis=-1)
        log_std = np.clip(raw, *self.log_std_bounds)
        u = mean + np.exp(log_std) * eps
        return activations, raw, log_std, u, log_prob(log_std, eps, u)

    def update(self, s, a, r, s2, d, eps2, eps) -> dict[str, float]:
        """One update; returns the losses."""
        for adam in self.adams.values():
            adam.tick()
        alpha, batch = np.exp(self.log_alpha), len(s)

        _, _, _, u2, log_pi2 = self.policy(s2, eps2)
        x2 = np.concatenate([s2, np.tanh(u2)], axis=-1)
        q2 = np.min([forward(t, x2)[-1][:, 0] for t in self.targets], axis=0)
        y = r + self.discount * (1 - d) * (q2 - alpha * log_pi2)

        x = np.concatenate([s, a], axis=-1)
        critic_loss = 0.0
        for i, critic in enumerate(self.critics):
            activations = forward(critic, x)
            error = activations[-1][:, 0] - y
            critic_loss += np.mean(error**2)
            grads, _ = backward(critic, activations, 2 * error[:, None] / batch)
            self.critics[i] = descend(self.adams["q"], i, critic, grads)

        actor_loss, log_pi = self._update_actor(s, eps, alpha)
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "temperature_loss": self._update_temperature_and_targets(log_pi),
        }

    def _update_temperature_and_targets(self, log_pi: np.ndarray) -> float:
        """The end of an update, the same for any policy; returns the loss."""
        temperature_loss = -self.log_alpha * np.mean(
            log_pi + self.target_entropy
        )
        self.log_alpha = self.adams["alpha"](
            0, self.log_alpha, -np.mean(log_pi + self.target_entropy)
        )
        for target, critic in zip(self.targets, self.critics, strict=True):
            soft_update(target, critic, self.tau)
        return temperature_loss

    def _update_actor(self, s, eps, alpha):
        batch = len(s)
        activations, raw, log_std, u, log_pi = self.policy(s, eps)
        action = np.tanh(u)
        x = np.concatenate([s, action], axis=-1)
        passes = [forward(critic, x) for critic in self.critics]
        q = np.stack([each[-1][:, 0] for each in passes])
        smallest = np.argmin(q, axis=0)
        dq_da = np.zeros_like(action)
        for i, (critic, each) in enumerate(
            zip(self.critics, passes, strict=True)
        ):
            mask = (smallest == i).astype(float)[:, None]
            _, dx = backward(critic, each, mask)
            dq_da += dx[:, s.shape[1] :]
        # log pi = -sum log_std - sum log(1 - tanh(u)^2) + const;
        # d/du log(1 - tanh(u)^2) = -2 tanh(u).
        du = (alpha * 2 * action - dq_da * (1 - action**2)) / batch
        dlog_std = du * np.exp(log_std) * eps - alpha / batch
        low, high = self.log_std_bounds
        dlog_std = dlog_std * ((raw >= low) & (raw <= high))
        grads, _ = backward(
            self.actor, activations, np.concatenate([du, dlog_std], axis=-1)
        )
        loss = np.mean(alpha * log_pi - np.min(q, axis=0))
        self.actor = descend(self.adams["pi"], 0, self.actor, grads)
        return loss, log_pi


class DiscreteReference(Reference):
    """The same with n discrete actions, and sums over them for expectations."""

    def update(self, s, index, r, s2, d) -> dict[str, float]:
        """One update on the actions' indices; returns the losses."""
        for adam in self.adams.values():
            adam.tick()
        alpha, rows = np.exp(self.log_alpha), np.arange(len(s))

        pi2, log_pi2 = softmax(forward(self.actor, s2)[-1])
        q2 = np.min([forward(t, s2)[-1] for t in self.targets], axis=0)
        v2 = np.sum(pi2 * (q2 - alpha * log_pi2), axis=1)
        y = r + self.discount * (1 - d) * v2

        critic_loss = 0.0
        for i, critic in enumerate(self.critics):
            activations = forward(critic, s)
            error = activations[-1][rows, index] - y
            critic_loss += np.mean(error**2)
            slope = np.zeros_like(activations[-1])
            slope[rows, index] = 2 * error / len(s)
            grads, _ = backward(critic, activations, slope)
            self.critics[i] = descend(self.adams["q"], i, critic, grads)

        activations = forward(self.actor, s)
        pi, log_pi = softmax(activations[-1])
        q = np.min([forward(c, s)[-1] for c in self.critics], axis=0)
        cost = alpha * log_pi - q  # d/dlog pi of the sum adds alpha to each
        mean_cost = np.sum(pi * cost, axis=1, keepdims=True)
        grads, _ = backward(
            self.actor, activations, pi * (cost - mean_cost) / len(s)
        )
        self.actor = descend(self.adams["pi"], 0, self.actor, grads)
        return {
            "critic_loss": critic_loss,
            "actor_loss": np.mean(mean_cost),
            "temperature_loss": self._update_temperature_and_targets(
                np.sum(pi * log_pi, axis=1)
            ),
        }


def softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and their logarithms."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_pi = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.exp(log_pi), log_pi
