"""Maximum entropy in finite MDPs, written from the definitions alone.

It shares no code with tfsac, and solves no linear system: sums over states and
actions one by one, and values as the series that defines them.
"""

import math

import numpy as np


def soft_maximum(values, alpha):
    """The soft maximum: alpha log sum exp(values / alpha), seed eq. 16."""
    largest = max(values)
    return largest + alpha * math.log(
        math.fsum(math.exp((value - largest) / alpha) for value in values)
    )


def entropy(probabilities):
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def divergence(p, q):
    """The Kullback-Leibler divergence of p from q, nats."""
    return math.fsum(
        p_i * (math.log(p_i) - math.log(q_i))
        for p_i, q_i in zip(p, q, strict=True)
        if p_i > 0
    )


def policy_backup(mdp, q, policy, alpha):
    """Seed eq. 6."""
    result = np.zeros_like(q)
    for s, a in np.ndindex(*q.shape):
        result[s, a] = mdp.reward[s, a]
        for s2, a2 in np.ndindex(*q.shape):
            if not mdp.terminal[s2] and policy[s2, a2] > 0:
                probability = mdp.transition[s, a, s2] * policy[s2, a2]
                surprise = -math.log(policy[s2, a2])
                gain = q[s2, a2] + alpha * surprise
                result[s, a] += mdp.discount * probability * gain
    return result


def optimality_backup(mdp, q, alpha):
    """Q = r + gamma E[soft maximum of Q(s', .)]."""
    result = np.zeros_like(q)
    for s, a in np.ndindex(*q.shape):
        result[s, a] = mdp.reward[s, a]
        for s2 in range(len(q)):
            if not mdp.terminal[s2]:
                probability = mdp.transition[s, a, s2]
                value = soft_maximum(q[s2], alpha)
                result[s, a] += mdp.discount * probability * value
    return result


def discounted_sum(mdp, policy, alpha, steps=300):
    """Q^pi: the first reward, and the series of what follows (seed eq. 2)."""
    reward = [
        math.fsum(policy[s] * mdp.reward[s]) + alpha * entropy(policy[s])
        for s in range(len(policy))
    ]
    alive = 1.0 - mdp.terminal
    goes_on = [
        sum(policy[s, a] * mdp.transition[s, a] for a in range(len(policy[s])))
        * alive
        for s in range(len(policy))
    ]
    q = np.array(mdp.reward)
    # [S, A, S]: where the episode is after t steps, if it still goes on.
    occupied = mdp.transition * alive
    for t in range(1, steps):
        q += mdp.discount**t * occupied @ reward
        occupied = occupied @ goes_on
    return q


def best_ordinary_values(mdp, sweeps=300):
    """Bellman's value iteration, without entropy."""
    q = np.zeros_like(mdp.reward)
    for _ in range(sweeps):
        value = np.where(mdp.terminal, 0.0, q.max(axis=1))
        q = mdp.reward + mdp.discount * np.einsum(
            "sat,t->sa", mdp.transition, value
        )
    return q
