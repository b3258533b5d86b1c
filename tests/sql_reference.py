"""Soft Q-learning in float64 NumPy, written from the equations alone.

It shares no code with tfsac: gradients are derived by hand, sums over particles
are loops. Networks are those of `reference`.
"""

import math

import numpy as np
from reference import Adam, Layers, backward, descend, forward, soft_update


def uniform(noise: np.ndarray) -> np.ndarray:
    """2 Phi(eps) - 1, with Phi the normal distribution function."""
    return np.vectorize(lambda eps: math.erf(eps / math.sqrt(2)))(noise)


def soft_value(q: np.ndarray, alpha: float) -> np.ndarray:
    """(10) for uniform actions `[B, K, A]` in a volume of 2^A: q `[B, K]`.

    Per volume: the caller multiplies by it.
    """
    largest = q.max(axis=1)
    shifted = np.exp((q - largest[:, None]) / alpha)
    return largest + alpha * np.log(shifted.mean(axis=1))


def bandwidth(particles: np.ndarray) -> float:
    """The median squared distance of `[M, A]`, over log M."""
    count = len(particles)
    distances = sorted(
        sum((particles[i] - particles[j]) ** 2)
        for i in range(count)
        for j in range(i)
    )
    return distances[len(distances) // 2] / math.log(count)


def stein_gradient(particles: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(13) over alpha, for the particles `[M, A]` of one state."""
    count, h = len(particles), bandwidth(particles)
    direction = np.zeros_like(particles)
    for j in range(count):
        for i in set(range(count)) - {j}:
            away = particles[i] - particles[j]
            kernel = math.exp(-away @ away / h)
            slope = -2 * away / h * kernel  # d kernel / d particles[i]
            direction[j] += (kernel * score[i] + slope) / (count - 1)
    return direction


class SQLReference:
    """One agent: Algorithm 1 of SQL as docs/sql.md states it."""

    def __init__(
        self,
        sampler: Layers,
        critics: list[Layers],
        *,
        alpha: float,
        discount: float,
        tau: float,
        rate: float,
        num_particles: int,
    ):
        self.sampler, self.critics = sampler, critics
        self.targets = [list(critic) for critic in critics]
        self.alpha, self.discount, self.tau = alpha, discount, tau
        self.num_particles = num_particles
        self.adams = {name: Adam(rate) for name in ("q", "pi")}

    def update(self, s, a, r, s2, d, noise) -> dict[str, float]:
        """One update; returns the metrics."""
        for adam in self.adams.values():
            adam.tick()
        proposals = uniform(noise[:, self.num_particles :])
        value, entropy = self._evaluate(s2, proposals)
        y = r + self.discount * (1 - d) * value

        x = np.concatenate([s, a], axis=-1)
        critic_loss, q_mean = 0.0, 0.0
        for i, critic in enumerate(self.critics):
            activations = forward(critic, x)
            q = activations[-1][:, 0]
            critic_loss += np.mean((q - y) ** 2)
            q_mean += np.mean(q) / len(self.critics)
            grads, _ = backward(
                critic, activations, 2 * (q - y)[:, None] / len(s)
            )
            self.critics[i] = descend(self.adams["q"], i, critic, grads)

        direction = self._update_sampler(s, noise[:, : self.num_particles])

        for target, critic in zip(self.targets, self.critics, strict=True):
            soft_update(target, critic, self.tau)
        return {
            "loss": critic_loss,
            "critic_loss": critic_loss,
            "stein_gradient": np.sqrt(np.mean(direction**2)),
            "alpha": self.alpha,
            "entropy": np.mean(entropy),
            "q_mean": q_mean,
            "value_mean": np.mean(value),
        }

    def _evaluate(self, s, actions):
        """Soft values of s, and the entropies of exp((Q - V) / alpha)."""
        batch, count, size = actions.shape
        pairs = np.concatenate(
            [np.repeat(s, count, axis=0), actions.reshape(-1, size)], axis=-1
        )
        q = np.min([forward(t, pairs)[-1][:, 0] for t in self.targets], axis=0)
        q = q.reshape(batch, count)
        value = soft_value(q, self.alpha) + self.alpha * size * np.log(2)
        # -sum p log p over cells of equal volume, p = pi times the volume.
        log_pi = (q - value[:, None]) / self.alpha
        p = np.exp(log_pi) * 2**size / count
        return value, -np.sum(p * log_pi, axis=1)

    def _update_sampler(self, s, noise):
        batch, count, size = noise.shape
        rows = np.repeat(s, count, axis=0)
        inputs = np.concatenate([rows, noise.reshape(-1, size)], axis=-1)
        activations = forward(self.sampler, inputs)
        u = activations[-1]
        a = np.tanh(u)

        x = np.concatenate([rows, a], axis=-1)
        passes = [forward(critic, x) for critic in self.critics]
        smallest = np.argmin([each[-1][:, 0] for each in passes], axis=0)
        dq_da = np.zeros_like(a)
        for i, (critic, each) in enumerate(
            zip(self.critics, passes, strict=True)
        ):
            mask = (smallest == i).astype(float)[:, None]
            _, dx = backward(critic, each, mask)
            dq_da += dx[:, s.shape[1] :]
        # d/du [Q(tanh u) / alpha + sum_j log(1 - tanh(u_j)^2)]
        score = dq_da * (1 - a**2) / self.alpha - 2 * a

        shape = batch, count, size
        direction = np.stack(
            [
                stein_gradient(*each)
                for each in zip(
                    u.reshape(shape), score.reshape(shape), strict=True
                )
            ]
        )
        upstream = -direction.reshape(-1, size) / (batch * count)
        grads, _ = backward(self.sampler, activations, upstream)
        self.sampler = descend(self.adams["pi"], 0, self.sampler, grads)
        return direction
