"""SAC on the tasks of `exact_tasks`, and how far from the optimum it ends.

What an agent believes is asked of what its users have: `predict`, `log_prob`
and `critic`. Integrals over actions are quadratures, so that nothing here
depends on samples.
"""

import itertools

import gymnasium
import keras
import numpy as np
from exact_tasks import from_unit, to_unit

import tfsac

NODES = 64  # of the quadrature, in each dimension
# What the errors have to stay below.
TOLERANCES = {"mean_error": 0.05, "entropy_error": 0.1, "value_error": 0.05}


def train(env_id, seed, steps, num_critics=2):
    """Trains an agent at the task's own temperature and discount."""
    task = gymnasium.make(env_id).unwrapped
    config = tfsac.SACConfig(
        temperature=task.alpha,
        discount=task.discount,
        num_critics=num_critics,
        hidden_units=(64, 64),
        batch_size=128,
        tau=0.02,
        random_steps=1_000,
        train_every=50,
    )
    agent = tfsac.SAC(env_id, config, seed)
    agent.compile(decaying_adam(steps), decaying_adam(steps))
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    return agent


def decaying_adam(updates):
    """Adam with a rate that falls to 0, so that no noise of steps is left."""
    rate = keras.optimizers.schedules.CosineDecay(3e-3, updates)
    return keras.optimizers.Adam(rate)


def errors(agent):
    """The largest errors over the states of the task that it learned.

    Returns:
        `mean_error`, of the deterministic action, tanh of the Gaussian's mean,
        as a share of half its range;
        `entropy_error`, of an action's entropy, nats; `value_error`, of V,
        relative.
    """
    task = gymnasium.make(agent.env).unwrapped
    median, entropy, value = beliefs(agent, task.observations)
    return {
        "mean_error": np.abs(median - task.median).max(),
        "entropy_error": np.abs(entropy - task.entropy).max(),
        "value_error": np.abs(value / task.value - 1).max(),
    }


def beliefs(agent, observations):
    """What an agent does and expects in each of S states.

    Args:
        agent: A trained `tfsac.SAC`.
        observations: `[S, O]`.

    Returns:
        The median of its action in [-1, 1], `[S, A]`, each action's entropy,
        `[S, A]`, and V(s) = E[min_i Q_i(s, a) - alpha log pi(a|s)], `[S]`.
    """
    median = to_unit(agent.action_space, agent.predict(observations))
    states, size = median.shape
    action, volume = quadrature(size)
    nodes = len(action)
    rows = np.repeat(observations, nodes, axis=0)
    action = np.tile(action, [states, 1])
    log_prob = agent.log_prob(rows, from_unit(agent.action_space, action))
    # Per volume of [-1, 1]^A.
    half_range = (agent.action_space.high - agent.action_space.low) / 2
    log_prob = (log_prob + np.log(half_range).sum()).reshape(states, nodes)
    rows, action = rows.astype(np.float32), action.astype(np.float32)
    q = agent.critic((rows, action)).numpy().min(axis=0)
    probability = np.exp(log_prob) * volume
    gain = q.reshape(states, nodes) - agent.alpha * log_prob
    value = np.sum(probability * gain, axis=1)
    return median, entropies(probability, size), value


def quadrature(size, nodes=NODES):
    """Points of [-1, 1]^A, `[N, A]`, and the volume of each, `[N]`."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    action = np.array(list(itertools.product(points, repeat=size)))
    volume = np.array(list(itertools.product(weights, repeat=size)))
    return action, volume.prod(axis=1)


def entropies(probability, size):
    """Each action's entropy, `[S, A]`, of probabilities of points `[S, N]`."""
    _, weights = np.polynomial.legendre.leggauss(NODES)
    joint = probability.reshape(-1, *[NODES] * size)
    result = []
    for axis in range(size):
        others = tuple(1 + i for i in range(size) if i != axis)
        marginal = joint.sum(axis=others)
        log_density = np.log(np.maximum(marginal / weights, 1e-300))
        result.append(-np.sum(marginal * log_density, axis=1))
    return np.stack(result, axis=1)
