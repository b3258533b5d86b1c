"""What the workers of Stable-Baselines3 and SBX share, as these two do."""

import gymnasium
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from worker import CHUNK, RANDOM_STEPS, ROWS, Call, random_transitions


class Spaces(gymnasium.Env):
    """An environment that nobody steps: it only has spaces."""

    def __init__(self, case: dict):
        shape = (case["observation"],)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (case["action"],))


def kinds(sac: type) -> dict:
    """Returns what prepares each kind of case, for a class of agents."""
    return {
        "update": lambda case: update(sac, case),
        "end_to_end": lambda case: end_to_end(sac, case),
    }


def update(sac: type, case: dict) -> Call:
    """Samples K batches from replay and learns from them, in one call."""
    model, updates = _model(sac, case, Spaces(case)), case["updates"]
    arrays, buffer = random_transitions(case), model.replay_buffer
    buffer.observations[:, 0] = arrays["observation"]
    buffer.actions[:, 0] = arrays["action"]
    buffer.rewards[:, 0] = arrays["reward"]
    buffer.next_observations[:, 0] = arrays["next_observation"]
    buffer.full = True

    def call() -> int:
        # Both wait for the losses, which they log.
        model.train(gradient_steps=updates, batch_size=case["batch"])
        return updates

    return call


def end_to_end(sac: type, case: dict) -> Call:
    """Runs `learn`, which has begun to learn."""
    # Environments that are stepped one after another, as in tfsac.
    envs = make_vec_env(case["env"], case["num_envs"])
    model = _model(sac, case, envs)

    def learn(steps: int) -> int:
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before

    learn(RANDOM_STEPS + CHUNK)
    return lambda: learn(CHUNK)


def _model(sac: type, case: dict, env: object) -> object:
    hidden = [case["hidden"], case["hidden"]]
    model = sac(
        "MlpPolicy",
        env,
        buffer_size=ROWS,
        learning_starts=RANDOM_STEPS,
        batch_size=case["batch"],
        # Counted in steps of all environments at once, as one.
        train_freq=case["updates"] // case["num_envs"],
        gradient_steps=case["updates"],
        policy_kwargs={"net_arch": hidden, "n_critics": case["critics"]},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model
