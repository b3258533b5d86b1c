"""Train, evaluate, save and export: the API on one screen."""

import argparse

import keras

import tfsac

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="Pendulum-v1", help="a Gymnasium id")
parser.add_argument("--steps", type=int, default=5_000)
parser.add_argument("--episodes", type=int, default=50)
args = parser.parse_args()

config = tfsac.SACConfig(discount=0.95, learning_rate=1e-3)
agent = tfsac.SAC(args.env, config, seed=0)
agent.fit(
    epochs=5,
    steps_per_epoch=args.steps // 5,
    callbacks=[
        keras.callbacks.EarlyStopping(
            "val_episode_return",
            mode="max",
            patience=3,
            restore_best_weights=True,
        )
    ],
)

result = agent.evaluate(episodes=args.episodes)
print(f"mean return: {result['episode_return']:.0f}")

agent.save("runs/train", include_replay=True)  # tfsac.load goes on with it
print("SavedModel:", agent.export("runs/train/saved_model"))
