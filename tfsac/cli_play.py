"""`tfsac play`: a policy's episodes as a video."""

import argparse
import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from tfsac import cli_train
from tfsac.checked_env import describe
from tfsac.env import recipe

__all__ = ["play"]

_MISSING = (
    "tfsac play needs packages that are not installed. Received: {error}. "
    "Install them by: pip install 'tfsac[play]'"
)


def play(args: argparse.Namespace) -> bool:
    """Renders episodes to a video, with the deterministic policy.

    They are the first of those that `tfsac evaluate` plays. MuJoCo draws by
    OpenGL; without a display it does if MUJOCO_GL=egl is set, or, slowly and
    without a GPU, MUJOCO_GL=osmesa.
    """
    out = pathlib.Path(args.out)
    if out.suffix not in (".gif", ".mp4"):
        raise ValueError(
            f"Expected --out to end in .gif or .mp4. Received: {args.out!r}."
        )
    import tfsac

    if args.env is not None:
        cli_train.import_module_of(args.env)
    agent = tfsac.load(args.dir, args.env)
    with _made_to_render(agent.env) as env:
        fps = env.metadata.get("render_fps", 30)
        with _video(out, fps) as append:
            results = agent.evaluate(_Film(env, append), args.episodes)
    print(f"episode_return {results['episode_return']:.6g}")
    print(out)
    return True


class _Film(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment each state of which is shown.

    Args:
        env: The environment, which renders to arrays.
        append: Takes a picture, `[height, width, 3]` uint8.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], append: Callable[[Any], None]
    ):
        super().__init__(env)
        self._append = append

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Resets, and shows the start."""
        result = super().reset(**kwargs)
        self._append(self.env.render())
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, and shows what came of it."""
        result = super().step(action)
        self._append(self.env.render())
        return result


@contextlib.contextmanager
def _made_to_render(env: Any) -> Iterator[gymnasium.Env[Any, Any]]:
    """Makes an environment that renders to arrays, and closes it."""
    if env is None:
        raise ValueError(
            "Expected --env, since the agent was saved without an environment."
        )
    # Where Mesa draws by software it does so by an LLVM of its own, and crashes
    # in a process that has TensorFlow's; this is Mesa's renderer without one.
    os.environ.setdefault("GALLIUM_DRIVER", "softpipe")
    made = gymnasium.make(recipe(env), render_mode="rgb_array")
    with contextlib.closing(made):
        modes = made.metadata.get("render_modes", [])
        if "rgb_array" not in modes:
            raise ValueError(
                "Expected an environment that renders to an 'rgb_array'. "
                f"Received: {describe(env)}, which renders to {modes}."
            )
        yield made


@contextlib.contextmanager
def _video(
    path: pathlib.Path, fps: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Opens a file of the kind that its name ends in; gives what appends."""
    try:
        import imageio.v2 as imageio
    except ModuleNotFoundError as error:
        raise ValueError(_MISSING.format(error=error)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any]
    if path.suffix == ".gif":
        options = {"duration": 1000 / fps, "loop": 0}  # ms, and for ever
    else:
        # Where width and height are even, as H.264 wants them, they stay.
        options = {"fps": fps, "macro_block_size": 2}
    writer: Any = imageio.get_writer(path, **options)
    with writer:
        yield writer.append_data
