"""The `tfsac` command, and its smaller subcommands."""

import argparse
import importlib.metadata
import inspect
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tfsac import cli_play, cli_plot, cli_serve, cli_train
from tfsac.agent import Agent
from tfsac.export import FORMATS

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
_USER_ERROR = 2
_DEPENDENCIES = (
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "tf-keras",
    "gymnasium",
    "numpy",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: What follows `tfsac` on the command line. Defaults to that of
            this process.

    Returns:
        The exit code: 0, or 1 if `info --require-kernels` finds none, 2 for
        an error that the user can mend (one line on standard error says
        what was wrong), 130 after Ctrl-C, 143 after SIGTERM.
    """
    args = _parser(cli_train.algorithm(argv)).parse_args(argv)
    # TensorFlow's notes on instructions and GPUs are for who builds it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        done: bool = args.command(args)
    except KeyboardInterrupt:
        print("tfsac: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except cli_train.Stopped as stopped:
        return 128 + stopped.signal  # as a shell reports it
    except Exception as error:
        if not _is_user_error(error):
            raise
        told = " ".join([str(error), *getattr(error, "__notes__", [])])
        message = " ".join(told.split()) or type(error).__name__
        print(f"tfsac: error: {message}", file=sys.stderr)
        return _USER_ERROR
    return 0 if done else 1


_PLAIN_ERRORS = (
    ValueError,
    OSError,
    ImportError,
    MemoryError,
    FloatingPointError,
)


def _is_user_error(error: Exception) -> bool:
    """Whether the error's message says enough, without a traceback."""
    if isinstance(error, _PLAIN_ERRORS):
        return True
    import gymnasium
    import tensorflow as tf

    import tfsac

    return isinstance(
        error, (tfsac.EnvError, gymnasium.error.Error, tf.errors.OpError)
    )


class _Parser(argparse.ArgumentParser):
    """A parser that names what was wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            _USER_ERROR,
            f"{self.prog}: error: {message} (see {self.prog} --help)\n",
        )


def _parser(agent_class: type[Agent]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tfsac",
        description="Soft Actor-Critic for TensorFlow and Keras 3.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function: Callable[..., bool]) -> argparse.ArgumentParser:
        help_ = inspect.getdoc(function) or ""
        added = commands.add_parser(
            function.__name__.removeprefix("_"),
            help=help_.splitlines()[0].rstrip("."),
            description=help_,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=function)
        return added

    cli_train.add_options(command(cli_train.train), agent_class)

    _add_episodes(command(_evaluate), episodes=50)

    play = command(cli_play.play)
    _add_episodes(play, episodes=1)
    play.add_argument(
        "--out",
        metavar="FILE",
        default="play.mp4",
        help="a name that ends in .mp4, or in .gif, which is kept in memory "
        "until it is whole. Defaults to play.mp4.",
    )

    cli_plot.add_options(command(cli_plot.plot))

    export = command(_export)
    export.add_argument("dir", metavar="DIR", help="the run's folder")
    export.add_argument(
        "out", metavar="OUT", help="the model's folder; versions go into it"
    )
    export.add_argument(
        "--format",
        choices=FORMATS,
        default="tf_saved_model",
        help="Defaults to tf_saved_model.",
    )
    export.add_argument(
        "--dynamic-range",
        action="store_true",
        help="litert: weights of 8 bits",
    )
    export.add_argument(
        "--target-triple",
        metavar="TRIPLE",
        help="native: the machine, in LLVM's words; by default any 64-bit PC",
    )
    export.add_argument(
        "--target-cpu",
        metavar="CPU",
        help="native: the least CPU that it is to run on, in LLVM's words",
    )

    cli_serve.add_options(command(cli_serve.serve))

    info = command(_info)
    info.add_argument(
        "--require-kernels",
        action="store_true",
        help="exit with 1 if the C++ kernels are not loaded",
    )
    return parser


def _add_episodes(parser: argparse.ArgumentParser, episodes: int) -> None:
    """Adds what names an agent and the episodes that it is to act in."""
    parser.add_argument("dir", metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--episodes",
        metavar="N",
        type=cli_train.count,
        default=episodes,
        help=f"Defaults to {episodes}.",
    )
    parser.add_argument(
        "--env",
        metavar="ENV",
        help="a Gymnasium id. Defaults to the run's own, which is to be given "
        "if it names a module: nothing is imported that a file asks for.",
    )


def _evaluate(args: argparse.Namespace) -> bool:
    """Plays episodes from fixed starts, with the deterministic policy."""
    import tfsac

    if args.env is not None:
        cli_train.import_module_of(args.env)
    results = tfsac.load(args.dir, args.env).evaluate(
        episodes=args.episodes, return_dict=True
    )
    for name, value in results.items():
        print(f"{name} {value:.6g}")
    return True


def _export(args: argparse.Namespace) -> bool:
    """Writes the policy for where there is no tfsac."""
    options: dict[str, Any] = {
        name: value
        for name in ("target_triple", "target_cpu")
        if (value := getattr(args, name)) is not None
    }
    if options and args.format != "native":
        raise ValueError(
            "Expected --target-triple and --target-cpu only with "
            f"--format native. Received: --format {args.format}."
        )
    if args.dynamic_range:
        if args.format != "litert":
            raise ValueError(
                "Expected --dynamic-range only with --format "
                f"litert. Received: --format {args.format}."
            )
        import tensorflow as tf

        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    import tfsac

    print(tfsac.load(args.dir).export(args.out, args.format, **options))
    return True


def _info(args: argparse.Namespace) -> bool:
    """Prints versions, whether the kernels are loaded, and devices."""
    import tensorflow as tf

    import tfsac
    from tfsac import mlp, ops

    print(f"tfsac {tfsac.__version__}")
    print(f"python {platform.python_version()}")
    for name in _DEPENDENCIES:
        print(f"{name} {importlib.metadata.version(name)}")
    print(f"kernels {ops.status()}")
    by = "the kernels" if mlp.serves("relu", "float32") else "TensorFlow"
    print(f"dense layers by {by}")
    for device in tf.config.list_physical_devices():
        print(f"device {device.name}")
    return ops.loaded() or not args.require_kernels
