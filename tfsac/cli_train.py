"""`tfsac train`: its options, and a run that can be interrupted."""

import argparse
import csv
import dataclasses
import importlib
import inspect
import io
import multiprocessing
import pathlib
import re
import signal
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import forkserver
from typing import Any

import gymnasium

from tfsac.agent import Agent
from tfsac.config import AgentConfig
from tfsac.env import EnvError
from tfsac.interrupt import Interrupt
from tfsac.sac_agent import SAC
from tfsac.saving import load_run
from tfsac.sql_agent import SoftQLearning

__all__ = [
    "ALGORITHMS",
    "Stopped",
    "add_options",
    "algorithm",
    "count",
    "import_module_of",
    "train",
]

ALGORITHMS: dict[str, type[Agent]] = {
    "sac": SAC,
    "sql": SoftQLearning,
}
_DEFAULT = "sac"
# What a command that goes on with a run may give anew.
_ANEW = {
    "async_envs",
    "checkpoint_every",
    "command",
    "env_timeout",
    "max_env_restarts",
    "out",
    "steps",
}


class Stopped(Exception):
    """A signal stopped a run, which is saved.

    Attributes:
        signal: Which one.
    """

    def __init__(self, signal: int):
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def train(args: argparse.Namespace) -> bool:
    """Trains on an environment, or goes on with an earlier run.

    DIR gets checkpoints, and history.csv with a line for each epoch. If DIR
    holds a run already, however it ended, the same command goes on with it, up
    to N transitions in all. Ctrl-C and SIGTERM stop it after the step, saved.
    """
    try:
        return _train(args)
    finally:
        if args.async_envs:
            _end_processes()


def _train(args: argparse.Namespace) -> bool:
    given = vars(args)
    # Not type[Agent]: algorithms take the same arguments, which it does not.
    agent_class: Any = ALGORITHMS[given.get("algorithm", _DEFAULT)]
    fields = [field.name for field in dataclasses.fields(agent_class.CONFIG)]
    config = agent_class.CONFIG(
        **{name: given[name] for name in fields if name in given}
    )
    import_module_of(args.env)
    out = pathlib.Path(args.out)
    epochs_so_far, start = 0, 0
    if loaded := load_run(out):
        agent, checkpoint = loaded
        _require_same_run(agent, given)
        if args.async_envs:
            agent.attach(_processes(args.env, agent.num_envs))
        print(f"Going on with {out} from step {agent.env_steps:,}.")
        epoch = checkpoint.content["epoch"]
        epochs_so_far, start = epoch["number"], epoch["start"]
    else:
        num_envs = given.get("num_envs", 1)
        env = args.env
        if args.async_envs:
            env = _processes(env, num_envs)
        agent = agent_class(
            env, config, seed=given.get("seed", 0), num_envs=num_envs
        )
    signal_ = None
    options = {
        "checkpoint_dir": out,
        "checkpoint_every": args.checkpoint_every,
        "env_timeout": args.env_timeout,
        "max_env_restarts": args.max_env_restarts,
    }
    if agent.env_steps < args.steps:
        plan = _epochs(epochs_so_far, start, args.steps)
        signal_ = _fit(agent, plan, out, options)
    print(f"{agent.env_steps:,} of {args.steps:,} steps are saved in {out}.")
    if signal_ is not None:
        print("To go on, give the same command again.")
        raise Stopped(signal_)
    print(f"Next: tfsac evaluate {out}")
    return True


def import_module_of(env: str) -> None:
    """Imports what an id, "module:Name-v0", asks for, as the user does."""
    module, _, _ = env.rpartition(":")
    if module:
        importlib.import_module(module)


def _processes(env: str, num_envs: int) -> gymnasium.vector.VectorEnv:
    """Makes environments in processes of their own, deaf to what stops a run.

    A terminal sends Ctrl-C to all of them, as systemd and Slurm send SIGTERM,
    and the step is to be finished.
    """
    before = [signal.signal(s, signal.SIG_IGN) for s in Interrupt.SIGNALS]
    try:
        # It inherits that, and has it for all that it starts, later ones too.
        forkserver.ensure_running()
    finally:
        for number, handler in zip(Interrupt.SIGNALS, before, strict=True):
            signal.signal(number, handler)
    return gymnasium.make_vec(
        env,
        num_envs,
        vectorization_mode="async",
        vector_kwargs={"context": "forkserver"},
    )


def _end_processes() -> None:
    """Ends those of environments.

    Python would send them SIGTERM, and wait for ever.
    """
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def _require_same_run(agent: Agent, given: dict[str, Any]) -> None:
    """Refuses options that differ from those of the run in DIR."""
    [algorithm] = [k for k, v in ALGORITHMS.items() if v is type(agent)]
    saved = {
        "algorithm": algorithm,
        "env": agent.env,
        "seed": agent.seed,
        "num_envs": agent.num_envs,
        **dataclasses.asdict(agent.config),
    }
    for name in sorted(given.keys() - _ANEW):
        known = name if name in saved else "algorithm"
        if name != known or given[name] != saved[name]:
            raise ValueError(
                f"{given['out']} holds a run with {known}={saved[known]!r}. "
                f"Received: {name}={given[name]!r}. Leave it out to go on with "
                "that run, or give another --out."
            )


def _fit(
    agent: Any,
    plan: Iterable[tuple[int, int]],
    out: pathlib.Path,
    options: dict[str, Any],
) -> int | None:
    """Trains to the end of a plan, or a signal, which it returns."""
    import keras

    out.mkdir(parents=True, exist_ok=True)
    interrupt = Interrupt(agent)
    history = keras.callbacks.History()
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_train_begin=lambda _: interrupt.pass_on()
        ),
        history,
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: _write(history, out / "history.csv")
        ),
    ]
    with interrupt:
        for epochs, steps_per_epoch in plan:
            try:
                agent.fit(
                    epochs=epochs,
                    steps_per_epoch=steps_per_epoch,
                    callbacks=callbacks,
                    **options,
                )
            except EnvError:  # and saved; the signal may have been to it, too
                if interrupt.received is None:
                    raise
            if interrupt.received is not None:
                break
    return interrupt.received


def _epochs(number: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Plans how to come from the start of an epoch to the end of the run.

    Args:
        number: The epoch's.
        start: Transitions at its start.
        end: Transitions at the end of the run.

    Yields:
        The number of a last epoch, and the transitions in each up to it.
    """
    steps_per_epoch = max(1, min(10_000, end // 10))
    epochs, rest = divmod(end - start, steps_per_epoch)
    if epochs:
        yield number + epochs, steps_per_epoch
    if rest:
        yield number + epochs + 1, rest


def _write(history: Any, path: pathlib.Path) -> None:
    """Writes the whole history, since rows may be those of a lost end."""
    from tfsac import files

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *history.history])
    writer.writerows(zip(history.epoch, *history.history.values(), strict=True))
    files.write_file(path, text.getvalue().encode())


# Options ---------------------------------------------------------------------


def algorithm(argv: Sequence[str] | None) -> type[Agent]:
    """The algorithm that a command line names, which decides its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algorithm", nargs="?")
    known, _ = parser.parse_known_args(argv)
    return ALGORITHMS.get(known.algorithm, ALGORITHMS[_DEFAULT])


def add_options(
    parser: argparse.ArgumentParser, agent_class: type[Agent]
) -> None:
    """Adds the options of `train`; those not given are absent in the result.

    Args:
        parser: What to add them to.
        agent_class: The algorithm, whose hyperparameters are options.
    """
    parser.add_argument("env", metavar="ENV", help="a Gymnasium id")
    parser.add_argument(
        "--steps",
        metavar="N",
        type=count,
        required=True,
        help="transitions that the run has at its end",
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="the run's folder"
    )
    parser.add_argument(
        "--algorithm",
        choices=list(ALGORITHMS),
        default=argparse.SUPPRESS,
        help="what learns: Soft Actor-Critic or soft Q-learning, whose "
        "hyperparameters `--algorithm sql --help` shows. Defaults to sac.",
    )
    parser.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=argparse.SUPPRESS,
        help="of all that is random. Defaults to 0.",
    )
    parser.add_argument(
        "--num-envs",
        metavar="E",
        type=count,
        default=argparse.SUPPRESS,
        help="environments that step together. Defaults to 1.",
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="N",
        type=count,
        default=10_000,
        help="transitions from one checkpoint to the next. Defaults to 10,000.",
    )
    parser.add_argument(
        "--async-envs",
        action="store_true",
        help="put each environment into a process of its own",
    )
    parser.add_argument(
        "--env-timeout",
        metavar="SECONDS",
        type=float,
        help="what a step of these may take. Defaults to any time.",
    )
    parser.add_argument(
        "--max-env-restarts",
        metavar="N",
        type=int,
        default=0,
        help="how often fresh environments take the place of those that "
        "failed. Defaults to 0.",
    )
    config = agent_class.CONFIG
    group = parser.add_argument_group(f"hyperparameters: {config.__name__}")
    types, helps = typing.get_type_hints(config), _field_help(config)
    for field in dataclasses.fields(config):
        kind: dict[str, Any] = {"metavar": "X"}
        if types[field.name] is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        else:
            kind["type"] = _converter(types[field.name])
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=helps[field.name].replace("%", "%%"),
            **kind,
        )


def _field_help(config: type[AgentConfig]) -> dict[str, str]:
    """What the "Args" of the classes' docstrings say of each field."""
    helps: dict[str, str] = {}
    for class_ in reversed(config.__mro__[:-1]):
        doc = inspect.cleandoc(class_.__doc__ or "")
        section = doc.split("\nArgs:\n")[1].split("\n\n")[0]
        fields = re.findall(
            r"^    (\w+): ((?:.|\n {8})+)", section, re.MULTILINE
        )
        helps |= {name: " ".join(text.split()) for name, text in fields}
    return helps


def count(text: str) -> int:
    """Converts an option that counts something."""
    if not re.fullmatch(r"0*[1-9][\d_]*", text):
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1. Received: {text!r}"
        )
    return int(text)


def _converter(type_: Any) -> Callable[[str], Any]:
    """Returns what turns an option's text into a value of the field's type."""
    inner = typing.get_args(type_)
    if type(None) in inner:
        [number] = set(inner) - {type(None)}

        def convert(text: str) -> Any:
            return None if text.lower() == "none" else number(text)

        convert.__name__ = f"{number.__name__} or none"
    elif typing.get_origin(type_) is tuple:

        def convert(text: str) -> Any:
            return tuple(inner[0](part) for part in text.split(","))

        convert.__name__ = f"comma-separated {inner[0].__name__}"
    else:
        convert = type_
    return convert
