"""The same weights, batches and noise through Stable-Baselines3 and tfsac.

SB3's half, sb3_record.py, runs in a virtual environment of its own, made by

    python -m venv build/sb3
    build/sb3/bin/pip install torch==2.13.0 stable-baselines3==2.9.2

    python benchmarks/sb3_agreement.py --sb3-python build/sb3/bin/python

Four comparisons, each from a fresh policy and from a saturated one:

- "left to run": both as they are, for all updates;
- "as they are": the same, but each update starts from SB3's weights (Adam's
  moments carry over), since rounding alone lets two runs drift apart;
- "SB3 exact": SB3 in float64 and without the 1e-6 in its log-prob, as tfsac's
  is exact: the difference that is left is tfsac's own rounding;
- "SB3 exact, one Adam": besides, tfsac's Adam has its epsilon where PyTorch
  has it.

In the last one losses and gradients have to agree to 1e-4 in each update, and
weights to 5e-3 (a target weight of 0.1 moves by 1e-6, which float32 rounds to
1e-3 of that); in "as they are", the losses from a fresh policy to 1e-4. If they
do not, the exit code is 1.

Losses are compared relative to SB3's, gradients by ||a - b|| / ||b||, weights
by ||a - b|| / ||b - b0|| with b0 those before the update (for "left to run",
before the first).
"""

import argparse
import csv
import json
import math
import pathlib
import subprocess
import tempfile

import common
import gymnasium
import keras
import numpy as np

import tfsac
from tfsac import sac_update
from tfsac.transition import Transition

STARTS = {"fresh": 1.0, "saturated": 20.0}  # factors on the mean's head
VARIANTS = {  # SB3 exact, tfsac with PyTorch's Adam, from SB3's weights
    "left to run": (False, False, False),
    "as they are": (False, False, True),
    "SB3 exact": (True, False, True),
    "SB3 exact, one Adam": (True, True, True),
}
LOSSES = ("critic_loss", "actor_loss", "temperature_loss", "alpha")
TOLERANCE, WEIGHT_TOLERANCE = 1e-4, 5e-3

Arrays = dict[str, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sb3-python", metavar="PATH", required=True)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=common.ROOT / "benchmarks/results/sb3_agreement.csv",
    )
    args = parser.parse_args()
    results = []
    for start, mean_scale in STARTS.items():
        given = args.sb3_python, args.updates, mean_scale
        sb3 = {exact: record_sb3(*given, exact) for exact in (False, True)}
        for variant, (exact, *options) in VARIANTS.items():
            rows = compare(sb3[exact], args.updates, *options)
            case = {"start": start, "variant": variant}
            results += [{**case, **result} for result in summarise(rows)]
    sb3_versions = str(sb3[False]["versions"])
    described = {**common.describe(), "sb3_versions": sb3_versions}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    description = json.dumps(described, indent=1)
    args.out.with_suffix(".json").write_text(description + "\n")
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(results[0]))
        writer.writeheader()
        writer.writerows(results)
    return report(results)


def record_sb3(
    python: str, updates: int, mean_scale: float, exact: bool
) -> Arrays:
    """Runs SB3's half and returns what went in and came out."""
    script = pathlib.Path(__file__).with_name("sb3_record.py")
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/sb3.npz"
        options = [f"--updates={updates}", f"--mean-scale={mean_scale}"]
        options += ["--float64"] * exact
        subprocess.run([python, script, out, *options], check=True)
        with np.load(out) as arrays:
            return dict(arrays)


def compare(
    sb3: Arrays, updates: int, torch_adam: bool, from_sb3: bool
) -> list[tuple[str, float, object, object]]:
    """Runs tfsac on SB3's data.

    Returns:
        Quantity, relative difference, tfsac's and SB3's value (of losses), of
        each update.
    """
    agent = _agent(torch_adam)
    before = to_keras(sb3, "initial/")
    _set_weights(agent, before)
    rows = []
    for t in range(updates):
        batch, noise = _batch(agent, sb3, t), sb3["noise"][t]
        metrics = sac_update.update(agent, batch, noise).numpy().tolist()
        ours = dict(zip(sac_update.METRICS, metrics, strict=True))
        for name in LOSSES:
            # tfsac has not the factor 1/2 of the paper's equation.
            factor = 2 if name == "critic_loss" else 1
            theirs = factor * float(sb3[f"{t}/loss/{name}"])
            difference = abs(ours[name] - theirs) / abs(theirs)
            rows.append((name, difference, ours[name], theirs))
        theirs = to_keras(sb3, f"{t}/gradient/")
        theirs["critic"] = [2 * g for g in theirs["critic"]]
        for name, gradients in _gradients(agent).items():
            g = theirs[name]
            difference = _distance(gradients, g) / _norm(g)
            rows.append((f"{name} gradient", difference, "", ""))
        after = to_keras(sb3, f"{t}/weight/")
        for name, weights in _weights(agent).items():
            moved = _distance(after[name], before[name])
            difference = _distance(weights, after[name]) / moved
            rows.append((f"{name} weights", difference, "", ""))
        if from_sb3:
            before = after
            _set_weights(agent, before)
    return rows


def to_keras(sb3: Arrays, prefix: str) -> dict[str, list[np.ndarray]]:
    """Arranges arrays by PyTorch's names as tfsac's variables are.

    Kernels are transposed, the heads of mean and log std joined, the critics
    stacked.
    """

    def dense(name: str) -> tuple[np.ndarray, np.ndarray]:
        kernel = sb3[f"{prefix}{name}.weight"]
        return kernel.T, sb3[f"{prefix}{name}.bias"]

    def join(layers: list[str], how: object) -> list[np.ndarray]:
        return [how(parts) for parts in zip(*map(dense, layers), strict=True)]

    arrays = {"log_alpha": [sb3[f"{prefix}log_alpha"].reshape(())]}
    arrays["actor"] = [
        *dense("actor.latent_pi.0"),
        *dense("actor.latent_pi.2"),
        *join(["actor.mu", "actor.log_std"], lambda p: np.concatenate(p, -1)),
    ]
    for critic in ("critic", "critic_target"):
        if f"{prefix}{critic}.qf0.0.bias" in sb3:
            arrays[critic] = [
                array
                for layer in (0, 2, 4)
                for array in join(
                    [f"{critic}.qf{n}.{layer}" for n in (0, 1)], np.stack
                )
            ]
    return arrays


class RecordingAdam(keras.optimizers.Adam):
    """Adam that keeps its last gradients.

    Args:
        torch_epsilon: Epsilon as PyTorch has it, added after the bias
            correction, where Keras adds it before. `None` leaves Keras' own.
    """

    def __init__(self, torch_epsilon: float | None):
        super().__init__(3e-4, epsilon=1e-8)
        self.torch_epsilon = torch_epsilon

    def apply(self, grads, trainable_variables=None):
        """As in Keras; eagerly, so that epsilon may change in each call."""
        self.gradients = [g.numpy() for g in grads]
        if self.torch_epsilon is not None:
            t = int(self.iterations) + 1
            self.epsilon = self.torch_epsilon * math.sqrt(1 - self.beta_2**t)
        super().apply(grads, trainable_variables)


def _agent(torch_adam: bool) -> tfsac.SAC:
    """An agent of SB3's sizes, whose actions have units of their own."""
    low = np.array([-2, -1, 0, -5, -0.1, -1], np.float32)
    high = np.array([2, 1, 1, 10, 0.1, 3], np.float32)
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (17,))
    agent = tfsac.SAC((observation, gymnasium.spaces.Box(low, high)), seed=0)
    epsilon = 1e-8 if torch_adam else None
    agent.compile(
        RecordingAdam(epsilon),
        # Twice the loss, twice the gradient: epsilon has to be twice as big.
        RecordingAdam(2 * epsilon if torch_adam else None),
        RecordingAdam(epsilon),
    )
    return agent


def _set_weights(agent: tfsac.SAC, weights: dict) -> None:
    agent.actor.set_weights(weights["actor"])
    agent.critic.set_weights(weights["critic"])
    agent.target_critic.set_weights(weights["critic_target"])
    agent.log_alpha.assign(weights["log_alpha"][0])


def _batch(agent: tfsac.SAC, sb3: Arrays, t: int) -> Transition:
    fields = {name: sb3[name][t] for name in Transition._fields if name in sb3}
    fields["action"] = agent.policy.scale.to_env(fields["action"])
    unused = np.zeros(len(fields["reward"]))
    return Transition(**fields, truncated=unused, env_index=unused)


def _gradients(agent: tfsac.SAC) -> dict[str, list[np.ndarray]]:
    return {
        "critic": agent.critic_optimizer.gradients,
        "actor": agent.actor_optimizer.gradients,
    }


def _weights(agent: tfsac.SAC) -> dict[str, list[np.ndarray]]:
    return {
        "critic": agent.critic.get_weights(),
        "actor": agent.actor.get_weights(),
        "critic_target": agent.target_critic.get_weights(),
    }


def _norm(arrays: list[np.ndarray]) -> float:
    return math.sqrt(sum(np.sum(a.astype(np.float64) ** 2) for a in arrays))


def _distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return _norm([x.astype(np.float64) - y for x, y in zip(a, b, strict=True)])


def summarise(rows: list[tuple]) -> list[dict]:
    """Joins the updates: the first's numbers, and the largest difference."""
    by_quantity: dict[str, list[tuple]] = {}
    for quantity, *row in rows:
        by_quantity.setdefault(quantity, []).append(row)
    return [
        {
            "quantity": quantity,
            "first_tfsac": values[0][1],
            "first_sb3": values[0][2],
            "first_difference": float(f"{values[0][0]:.3g}"),
            "updates": len(values),
            "largest_difference": float(f"{max(v[0] for v in values):.3g}"),
        }
        for quantity, values in by_quantity.items()
    ]


def report(results: list[dict]) -> int:
    """Prints the largest difference of each quantity; returns the exit code."""
    print("Largest relative difference over all updates:")
    print(f"{'':<31}" + "".join(f"{variant:>20}" for variant in VARIANTS))
    table: dict[tuple[str, str], list[float]] = {}
    for r in results:
        cells = table.setdefault((r["start"], r["quantity"]), [])
        cells.append(r["largest_difference"])
    for (start, quantity), cells in table.items():
        numbers = "".join(f"{number:>20.1e}" for number in cells)
        print(f"{start:<10} {quantity:<20}{numbers}")
    failures = [r for r in results if r["largest_difference"] > _tolerance(r)]
    for failure in failures:
        print("Disagreement:", failure)
    return 1 if failures else 0


def _tolerance(result: dict) -> float:
    """How far a result may be off; infinity where the definitions differ."""
    if result["variant"] == "SB3 exact, one Adam":
        is_weight = result["quantity"].endswith("weights")
        return WEIGHT_TOLERANCE if is_weight else TOLERANCE
    case = result["start"], result["variant"]
    is_loss = result["quantity"] in LOSSES
    agrees = case == ("fresh", "as they are") and is_loss
    return TOLERANCE if agrees else math.inf


if __name__ == "__main__":
    raise SystemExit(main())
