"""`tfsac serve`: its options, and the checks of what they name."""

import argparse
import logging
import pathlib

from tfsac import cli_train

__all__ = ["add_options", "serve"]

_MISSING = (
    "tfsac serve needs packages that are not installed. Received: {error}. "
    "Install them by: pip install 'tfsac[serve]'"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfsac serve`.

    Args:
        parser: To which.
    """
    parser.add_argument(
        "dirs",
        metavar="DIR",
        nargs="+",
        help="a model's folder, as `tfsac export` writes it: it has a folder "
        "for each version. Clients call the model by its base name; NAME=DIR "
        "gives it another one",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="who may reach it; 0.0.0.0 is everybody. There is no password: "
        "put a proxy in front. Defaults to 127.0.0.1.",
    )

    def number(option: str, default: int, help_: str) -> None:
        parser.add_argument(
            option,
            metavar="N",
            type=cli_train.count,
            default=default,
            help=f"{help_} Defaults to {default}.",
        )

    parser.add_argument(
        "--rest-port",
        metavar="N",
        type=int,
        default=8501,
        help="0 is any that is free. Defaults to 8501.",
    )
    parser.add_argument(
        "--grpc-port",
        metavar="N",
        type=int,
        default=8500,
        help="0 is any that is free. Defaults to 8500.",
    )
    parser.add_argument(
        "--no-batching",
        action="store_true",
        help="run each request by itself",
    )
    number("--max-batch-rows", 1_000, "rows of a request and of a batch.")
    number(
        "--max-requests",
        256,
        "requests waiting or running at the same time; more get UNAVAILABLE.",
    )
    number("--max-payload-mib", 16, "MiB of a request.")
    number("--timeout", 30, "seconds that a request may take.")


def serve(args: argparse.Namespace) -> bool:
    """Serves models by TensorFlow Serving's REST and gRPC protocols."""
    folders = _folders(args.dirs)
    try:
        from tfsac.serving import server
        from tfsac.serving.intake import Limits
    except ModuleNotFoundError as error:
        raise ValueError(_MISSING.format(error=error)) from error
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    server.run(
        folders,
        server.Addresses(args.host, args.rest_port, args.grpc_port),
        Limits(
            max_batch_rows=args.max_batch_rows,
            max_requests=args.max_requests,
            max_payload=args.max_payload_mib * 2**20,
            timeout=args.timeout,
        ),
        batching=not args.no_batching,
    )
    return True


def _folders(dirs: list[str]) -> dict[str, pathlib.Path]:
    folders: dict[str, pathlib.Path] = {}
    for each in dirs:
        name, equals, folder = each.rpartition("=")
        path = pathlib.Path(folder).resolve()
        name = name if equals else path.name
        if not path.is_dir():
            raise ValueError(
                f"Expected a model's folder. Received: {folder!r}. "
                "`tfsac export` writes one."
            )
        if not name or set(name) & set("/:"):
            raise ValueError(
                f"Expected a name without / and :. Received: {name!r}"
            )
        if name in folders:
            raise ValueError(
                f"Expected a name of its own for each model. Received: "
                f"{name!r} twice. Say NAME=DIR."
            )
        folders[name] = path
    return folders
