"""A loop of one's own, for a robot that `fit` cannot step."""

import argparse

import numpy as np
from gymnasium.spaces import Box

import tfsac

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=2_000)
args = parser.parse_args()

agent = tfsac.SAC(
    (Box(-np.inf, np.inf, (2,)), Box(-2, 2, (1,))),  # what it sees and does
    tfsac.SACConfig(discount=0.95, hidden_units=(64, 64)),
    seed=0,
)
# In place of a real robot: a cart that is pushed to 0. [position, speed]
cart, total = np.float32([1, 0]), 0.0
for step in range(1, args.steps + 1):
    observation = cart
    action = agent.predict(observation, deterministic=False)
    speed = 0.9 * cart[1] + 0.1 * action[0]
    cart = np.float32([cart[0] + 0.1 * speed, speed])
    reward = -(cart[0] ** 2)
    is_over = step % 100 == 0
    rows = observation[None], action[None], [reward], cart[None]
    agent.replay.insert(
        tfsac.Transition(
            *rows, terminated=[False], truncated=[is_over], env_index=[0]
        )
    )
    if step >= 200:
        agent.update()

    total += reward
    if is_over:  # somebody carries it back
        print(f"step {step}: return {total:.1f}")
        cart, total = np.float32([1, 0]), 0.0
