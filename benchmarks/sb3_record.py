"""Stable-Baselines3's half of the comparison that sb3_agreement.py makes.

It runs where Stable-Baselines3 is installed, and imports nothing of tfsac:
makes a model, batches and noise, runs SB3's own `SAC.train` on them update by
update, and writes all that went in and came out to an .npz file.
"""

import argparse
import importlib.metadata
from collections.abc import Callable

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.type_aliases import ReplayBufferSamples

OBSERVATION, ACTION, BATCH = 17, 6, 256
SEED = 0
# Not 1: the temperature's loss would begin at zero.
ALPHA = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="the .npz file to write")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument(
        "--mean-scale",
        type=float,
        default=1.0,
        help="factor on the initial head of the mean: a policy late in "
        "training is saturated, a fresh one is not",
    )
    parser.add_argument(
        "--float64",
        action="store_true",
        help="in float64, which needs no 1e-6 inside the log-prob's logarithm",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)

    model = stable_baselines3.SAC(
        "MlpPolicy", _Spaces(), ent_coef=f"auto_{ALPHA}", seed=SEED
    )
    model.set_logger(configure(None, []))
    if args.float64:
        _make_exact(model)
    with torch.no_grad():
        model.actor.mu.weight *= args.mean_scale
    data = _data(np.random.default_rng(SEED), args.updates)
    result = {f"initial/{k}": v for k, v in _weights(model).items()}
    gradients = _record_gradients(model)
    for t in range(args.updates):
        _inject(model, {name: values[t] for name, values in data.items()})
        model.train(gradient_steps=1, batch_size=BATCH)
        recorded = {
            **{f"loss/{k}": v for k, v in _losses(model).items()},
            **{f"gradient/{k}": v for k, v in gradients.items()},
            **{f"weight/{k}": v for k, v in _weights(model).items()},
        }
        result.update({f"{t}/{k}": v for k, v in recorded.items()})
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("stable-baselines3", "torch")
    ]
    np.savez(args.out, **data, **result, versions=", ".join(versions))


class _Spaces(gymnasium.Env):
    """Spaces are all that a model needs of an environment to be made."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,))


def _make_exact(model: stable_baselines3.SAC) -> None:
    """Takes SB3's arithmetic to float64, and 1e-6 out of its log-prob."""
    torch.set_default_dtype(torch.float64)
    model.policy.double()
    model.log_ent_coef.data = model.log_ent_coef.data.double()
    model.actor.action_dist.epsilon = 0.0
    # SB3's own casts observations to float32; here they are vectors already.
    BaseModel.extract_features = lambda self, observations, _: observations


def _data(rng: np.random.Generator, updates: int) -> dict[str, np.ndarray]:
    """Batches and noise, `[updates, ...]`; one row in ten is terminal."""
    rows = updates, BATCH
    data = {
        "observation": rng.normal(size=(*rows, OBSERVATION)),
        "action": rng.uniform(-1, 1, (*rows, ACTION)),
        "reward": rng.normal(size=rows),
        "next_observation": rng.normal(size=(*rows, OBSERVATION)),
        "terminated": rng.random(rows) < 0.1,
        # For the next action, and for the actor's.
        "noise": rng.normal(size=(updates, 2, BATCH, ACTION)),
    }
    return {name: values.astype(np.float32) for name, values in data.items()}


def _inject(model: stable_baselines3.SAC, data: dict[str, np.ndarray]) -> None:
    """Makes the next update see this batch and this noise."""
    tensors = {
        name: torch.as_tensor(values, dtype=torch.get_default_dtype())
        for name, values in data.items()
    }
    samples = ReplayBufferSamples(
        observations=tensors["observation"],
        actions=tensors["action"],
        next_observations=tensors["next_observation"],
        dones=tensors["terminated"].reshape(-1, 1),
        rewards=tensors["reward"].reshape(-1, 1),
    )
    model.replay_buffer.sample = lambda *args, **kwargs: samples
    # SB3 draws for the actor first, then for the next action.
    noise = iter([tensors["noise"][1], tensors["noise"][0]])

    def sample(self: DiagGaussianDistribution) -> torch.Tensor:
        normal = self.distribution
        return normal.mean + normal.stddev * next(noise)  # Normal.rsample

    DiagGaussianDistribution.sample = sample


def _record_gradients(model: stable_baselines3.SAC) -> dict[str, np.ndarray]:
    """Returns a dict that each optimizer's step fills with its gradients."""
    gradients: dict[str, np.ndarray] = {}

    def recorder(parameters: dict[str, torch.Tensor]) -> Callable[..., None]:
        def record(*_: object) -> None:
            for name, parameter in parameters.items():
                gradients[name] = parameter.grad.numpy().copy()

        return record

    for kind in ("actor", "critic"):
        module = getattr(model, kind)
        named = {f"{kind}.{k}": v for k, v in module.named_parameters()}
        module.optimizer.register_step_pre_hook(recorder(named))
    model.ent_coef_optimizer.register_step_pre_hook(
        recorder({"log_alpha": model.log_ent_coef})
    )
    return gradients


def _losses(model: stable_baselines3.SAC) -> dict[str, float]:
    logged = model.logger.name_to_value
    return {
        "critic_loss": logged["train/critic_loss"],
        "actor_loss": logged["train/actor_loss"],
        "temperature_loss": logged["train/ent_coef_loss"],
        "alpha": logged["train/ent_coef"],
    }


def _weights(model: stable_baselines3.SAC) -> dict[str, np.ndarray]:
    weights = {"log_alpha": model.log_ent_coef.detach().numpy().copy()}
    for kind in ("actor", "critic", "critic_target"):
        for name, tensor in getattr(model, kind).state_dict().items():
            weights[f"{kind}.{name}"] = tensor.numpy().copy()
    return weights


if __name__ == "__main__":
    main()
