"""The worker of tfsac; run.py starts it with the number of threads."""

import sys

import gymnasium
import numpy as np
import tensorflow as tf
from worker import CHUNK, RANDOM_STEPS, ROWS, Call, random_transitions, serve

import tfsac
from tfsac import step
from tfsac.transition import Transition

PACKAGES = ("tensorflow", "keras", "gymnasium", "numpy")
# A call ends when its last update does, which nothing can overlap with.
OVERLAP_CHUNK = 1_000


def main(overlap: bool = False) -> None:
    threads = int(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    kinds = {
        "update": update,
        "step": learn,
        "end_to_end": lambda case: end_to_end(case, CHUNK),
        "end_to_end_overlap": lambda case: end_to_end(
            case, OVERLAP_CHUNK, overlap=overlap
        ),
    }
    serve(PACKAGES, kinds)


def update(case: dict) -> Call:
    """Samples K batches from replay and learns from them, in one call."""
    agent, updates = _filled_agent(case), case["updates"]

    def call() -> int:
        agent.update(updates)["loss"]  # waits
        return updates

    return call


def learn(case: dict) -> Call:
    """Learns from K batches that are there already."""
    agent, updates = _filled_agent(case), case["updates"]
    batches = agent.replay.sample(updates, case["batch"])
    compiled = step.compile_step(agent, batches)

    def call() -> int:
        compiled(batches).numpy()  # waits
        return updates

    return call


def end_to_end(case: dict, chunk: int, **changes: bool) -> Call:
    """Runs `fit`, which has begun to learn, by so many steps in a call."""
    config = _config(case, train_every=case["updates"], **changes)
    env, num_envs = case["env"], case["num_envs"]
    if case["vectorization"] == "async":
        env = gymnasium.make_vec(env, num_envs, "async")
    agent = tfsac.SAC(env, config, 0, num_envs)

    def fit(steps: int) -> int:
        before = agent.env_steps
        agent.fit(1, steps, validation_episodes=0, verbose=0)
        return agent.env_steps - before

    fit(RANDOM_STEPS + chunk)
    return lambda: fit(chunk)


def _config(case: dict, **changes: int) -> tfsac.SACConfig:
    return tfsac.SACConfig(
        num_critics=case["critics"],
        hidden_units=(case["hidden"], case["hidden"]),
        batch_size=case["batch"],
        replay_capacity=ROWS,
        random_steps=RANDOM_STEPS,
        **changes,
    )


def _filled_agent(case: dict) -> tfsac.SAC:
    observation, action = case["observation"], case["action"]
    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (observation,)),
        gymnasium.spaces.Box(-1.0, 1.0, (action,)),
    )
    agent = tfsac.SAC(spaces, _config(case), 0)
    transitions = Transition(
        **random_transitions(case),
        terminated=np.zeros(ROWS, bool),
        truncated=np.zeros(ROWS, bool),
        env_index=np.zeros(ROWS, np.int32),
    )
    agent.replay.insert(transitions)
    return agent


if __name__ == "__main__":
    main()
