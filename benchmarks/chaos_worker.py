"""One run that `chaos.py` kills and starts again, of tfsac or of a peer.

    python chaos_worker.py SIDE FOLDER ENVIRONMENTS IN_PROCESSES OVERLAP

Each side goes on as its documentation says, from the newest checkpoint that
loads. It prints `checkpoint unreadable` for each that does not, `ready` when it
has learned for the first time (its step is compiled by then), and at its end a
line of JSON: digests of what the run came to, and its weights.
"""

import functools
import hashlib
import json
import pathlib
import sys

import numpy as np

ENV = "Pendulum-v1"
STEPS, EVERY = 3_000, 50
UNITS = (64, 64)
RANDOM_STEPS = 100
BATCH_SIZE = 64


def tfsac(
    folder: pathlib.Path, environments: int, in_processes: bool, overlap: bool
) -> None:
    import gymnasium
    import keras

    import tfsac

    config = tfsac.SACConfig(
        hidden_units=UNITS,
        random_steps=RANDOM_STEPS,
        batch_size=BATCH_SIZE,
        train_every=4,
        overlap=overlap,
    )
    env = ENV
    if in_processes:
        env = gymnasium.make_vec(
            ENV,
            environments,
            vectorization_mode="async",
            vector_kwargs={"context": "forkserver"},
        )
    agent = tfsac.SAC(env, config, seed=0, num_envs=environments)
    ready = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: logs and tell_ready()
    )
    history = agent.fit(
        epochs=3,
        steps_per_epoch=STEPS // 3,
        validation_episodes=1,
        checkpoint_dir=folder,
        checkpoint_every=EVERY,
        callbacks=[ready],
        verbose=0,
    ).history
    history.pop("steps_per_second")
    batch = agent.replay.sample(10, 1_000)
    optimizers = [o.variables for o in agent.optimizer.optimizers]
    report(
        [v.numpy() for v in agent.weights],
        optimizers=[v.numpy() for each in optimizers for v in each],
        replay=[np.asarray(field) for field in batch],
        returns=[np.array(json.dumps(history))],
    )


def sb3(folder: pathlib.Path, *_) -> None:
    from stable_baselines3 import SAC

    parameters = {"policy_kwargs": {"net_arch": list(UNITS)}}
    model = peer(SAC, folder, **parameters)
    state = model.policy.state_dict()
    report_peer(model, [array.numpy() for array in state.values()])


def sbx(folder: pathlib.Path, *_) -> None:
    import jax
    from sbx import SAC

    parameters = {"policy_kwargs": {"net_arch": list(UNITS)}}
    model = peer(SAC, folder, **parameters)
    policy = model.policy
    trees = policy.actor_state.params, policy.qf_state.params
    report_peer(model, list(map(np.asarray, jax.tree.leaves(trees))))


def peer(algorithm, folder: pathlib.Path, **parameters):
    """Trains with the checkpoints that Stable-Baselines3 brings with it."""
    import gymnasium
    from stable_baselines3.common.callbacks import CheckpointCallback

    saving = CheckpointCallback(EVERY, str(folder), save_replay_buffer=True)
    done = sorted(
        (int(path.stem.split("_")[2]), path)
        for path in folder.glob("rl_model_*_steps.zip")
    )
    while done:
        steps, path = done.pop()
        name = f"rl_model_replay_buffer_{steps}_steps.pkl"
        try:
            model = algorithm.load(path, env=gymnasium.make(ENV))
            model.load_replay_buffer(folder / name)
            break
        except Exception as error:  # which is many kinds of them
            print(f"{path.name}: {error!r}", file=sys.stderr)
            print("checkpoint unreadable", flush=True)
    else:
        model = algorithm(
            "MlpPolicy",
            ENV,
            seed=0,
            learning_starts=RANDOM_STEPS,
            batch_size=BATCH_SIZE,
            train_freq=4,
            gradient_steps=4,
            buffer_size=STEPS,  # else a million rows are written each time
            **parameters,
        )
    train = model.train

    def train_and_tell(*args, **kwargs) -> None:
        train(*args, **kwargs)
        tell_ready()

    model.train = train_and_tell
    model.learn(STEPS - model.num_timesteps, saving, reset_num_timesteps=False)
    return model


@functools.cache
def tell_ready() -> None:
    """Says, once, that it learns."""
    print("ready", flush=True)


def report_peer(model, weights: list[np.ndarray]) -> None:
    buffer = model.replay_buffer
    report(
        weights,
        replay=[buffer.observations, buffer.actions, buffer.rewards],
        returns=[np.array([e["r"] for e in model.ep_info_buffer])],
    )


def report(weights: list[np.ndarray], **others: list[np.ndarray]) -> None:
    """Prints digests, and the weights themselves to be compared."""
    digests = {}
    for name, arrays in {"weights": weights, **others}.items():
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        digests[name] = digest.hexdigest()
    flat = np.concatenate([np.ravel(w).astype(np.float64) for w in weights])
    print(json.dumps({"digests": digests, "weights": flat.tolist()}))


def main() -> None:
    side, folder, environments, *flags = sys.argv[1:]
    run = {"tfsac": tfsac, "sb3": sb3, "sbx": sbx}[side]
    run(pathlib.Path(folder), int(environments), *(f == "True" for f in flags))


if __name__ == "__main__":
    main()
