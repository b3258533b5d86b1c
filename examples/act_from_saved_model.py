"""Acts with an exported policy, which needs TensorFlow but not tfsac.

Try `python examples/act_from_saved_model.py saved_models/pendulum_v1/1
Pendulum-v1`.
"""

import argparse

import gymnasium
import tensorflow as tf


def play(model: str, env_id: str, episodes: int) -> list[float]:
    """Returns the return of each episode."""
    policy = tf.saved_model.load(model).signatures["serving_default"]
    env = gymnasium.make(env_id)
    returns = []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        episode_return, over = 0.0, False
        while not over:
            # The signature takes a batch, here of one observation.
            actions = policy(observations=tf.constant(observation[None]))
            observation, reward, terminated, truncated, _ = env.step(
                actions["actions"][0].numpy()
            )
            episode_return += float(reward)
            over = terminated or truncated
        returns.append(episode_return)
    env.close()
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a version's folder of a SavedModel")
    parser.add_argument("env", help="a Gymnasium id")
    parser.add_argument("--episodes", type=int, default=5)
    args = parser.parse_args()
    for episode_return in play(args.model, args.env, args.episodes):
        print(f"return {episode_return:.0f}")
