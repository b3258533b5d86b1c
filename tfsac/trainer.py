"""What `fit` and `evaluate` do with environments: Keras' trainer for agents."""

import collections
import contextlib
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import keras
import numpy as np
from gymnasium.envs.registration import EnvSpec

from tfsac import loop, memory
from tfsac.acting import Policy, Snapshot
from tfsac.action_spaces import ActionSpace
from tfsac.checked_env import describe
from tfsac.checkpoint import Checkpoints
from tfsac.config import AgentConfig
from tfsac.env import EnvLike, EnvStream, recipe
from tfsac.evaluation import Act, Evaluation, evaluate
from tfsac.progress import Progress
from tfsac.replay import ReplayBuffer
from tfsac.restarts import Restarting
from tfsac.spaces import check_same_spaces
from tfsac.transition import Transition

__all__ = ["EnvTrainer"]


class _ToldToStop(Exception):
    """Ends a validation."""


class EnvTrainer(keras.Model):
    """Fits and evaluates an agent on Gymnasium environments.

    As Keras' own trainer does it on data; it knows nothing of the algorithm.
    Subclasses say how to `explore` and `prepare_update`, and set what follows.

    Attributes:
        METRICS: Names of what an update returns.
        config: For `random_steps`, `train_every` and what the algorithm needs.
        env: The environment to train on, or `None`.
        num_envs: E, how many of it are made.
        observation_space: Of one environment.
        action_space: Of one environment.
        policy: Acts.
        snapshot: Acts in `fit` while a call of the step is in flight; `None`
            unless `config.overlap`.
        replay: Takes the transitions.
        seed: Decides the starts.
        progress: Counts.
        last_batches: Of the last call of the step, to tell of it if it ends in
            NaN; with `config.overlap`, of the last two.
    """

    METRICS: ClassVar[tuple[str, ...]]

    config: AgentConfig
    env: EnvLike | None
    num_envs: int
    observation_space: gymnasium.Space[Any]
    action_space: ActionSpace
    policy: Policy
    snapshot: Snapshot | None
    replay: ReplayBuffer
    seed: int
    progress: Progress
    last_batches: collections.deque[Transition]
    _stream: EnvStream | None

    def explore(
        self, observation: np.ndarray, policy: Policy | None = None
    ) -> np.ndarray:
        """Actions to learn from, in the env's units.

        Args:
            observation: Rows, `[E, O]`.
            policy: Which one acts. Defaults to `self.policy`.

        Returns:
            `[E, A]`; `[E]` where actions are `Discrete`.
        """
        raise NotImplementedError

    def update(self, updates: int | None = None) -> Mapping[str, float]:
        """Runs K updates from the replay buffer, in one compiled call.

        `fit` calls it; with `replay.insert` it makes one's own loop, for a
        robot that `fit` cannot step.

        Example:

        ```python
        agent = tfsac.SAC((observation_space, action_space))
        agent.replay.insert(transitions)
        metrics = agent.update(updates=len(transitions.reward))
        ```

        Args:
            updates: K; each K that is new is compiled. Defaults to
                `config.updates_per_call`.

        Returns:
            The means of the losses, `alpha`, `entropy` and `q_mean` over the
            K updates. They stay on the device until one is read.

        Raises:
            ValueError: If `updates` is below 1.
            tf.errors.InvalidArgumentError: If the replay buffer is empty.
        """
        return self.prepare_update(updates)()

    def prepare_update(
        self, updates: int | None = None
    ) -> Callable[[], Mapping[str, float]]:
        """Draws the batches of an update, and leaves learning from them.

        Args:
            updates: As for `update`.

        Returns:
            What runs the update, on any thread.
        """
        raise NotImplementedError

    @property
    def env_steps(self) -> int:
        """Transitions so far."""
        return self.progress.env_steps

    @property
    def pending_steps(self) -> int:
        """Those among them that no update has answered yet."""
        return self.progress.pending_steps

    @property
    def can_learn(self) -> bool:
        """Whether the replay buffer holds the first transitions to learn from.

        An agent that was loaded without its replay buffer gathers them anew,
        with the policy that it has.
        """
        enough = max(1, self.config.random_steps)
        return len(self.replay) >= min(enough, self.config.replay_capacity)

    def fit(
        self,
        epochs: int = 1,
        steps_per_epoch: int = 1_000,
        env: EnvLike | None = None,
        validation_env: EnvLike | None = None,
        validation_episodes: int = 10,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        initial_epoch: int = 0,
        verbose: str | int = "auto",
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 10_000,
        env_timeout: float | None = None,
        max_env_restarts: int = 0,
    ) -> keras.callbacks.History:
        """Trains on the environment.

        A second call goes on: with the replay buffer, the counters, the
        running episode, and without a new random phase.

        Args:
            epochs: Number of the last epoch, as in Keras. Defaults to `1`.
            steps_per_epoch: Transitions in an epoch. Defaults to `1_000`.
            env: Environment to train on from now on, with the same spaces.
                Defaults to the agent's own.
            validation_env: Environment for `val_episode_return`. Defaults to
                fresh ones, made as the agent's own was.
            validation_episodes: Episodes of deterministic actions after each
                epoch, from the same starts each time; 0 turns it off.
                Defaults to `10`.
            callbacks: Keras callbacks; one batch is one call of the train
                step. Defaults to `None`.
            initial_epoch: Epoch to start at. Defaults to `0`.
            verbose: 0 is silent, 1 a progress bar, 2 a line an epoch. "auto"
                is 1 on a terminal, else 2. Defaults to `"auto"`.
            checkpoint_dir: Folder of the run, for checkpoints while it goes
                and one at its end. If it holds some, the run goes on from the
                newest that is whole: the same program, killed at any time and
                begun again, has the results of one that was never killed, bit
                for bit (docs/reliability.md). Defaults to `None`, which writes
                none.
            checkpoint_every: Transitions from one checkpoint to the next. At
                each one all episodes are cut short, as by a time limit, and
                begin anew. Defaults to `10_000`.
            env_timeout: Seconds that a step or a reset of the training
                environment may take. It has to be in processes of its own,
                such as `gymnasium.make_vec(id, num_envs,
                vectorization_mode="async")` makes. Defaults to `None`, which
                waits for ever.
            max_env_restarts: How often fresh environments may take the place
                of those that fail in training, all of them at once, with a
                warning and from the start of an episode. Defaults to `0`: the
                first failure is raised.

        Returns:
            A `keras.callbacks.History`; docs/sac.md has each key's formula.

        Raises:
            ValueError: If there is no environment, or none to evaluate on; if
                its time cannot be bounded, or it cannot be made again; if the
                checkpoints are those of another run.
            EnvError: If the environment breaks its promises; in
                `checkpoint_dir` the agent is as it was before.
            NotFiniteError: If it comes to NaN or infinity; `checkpoint_dir` has
                the agent from before and the batches, as not-finite.npz.
            MemoryError: If the machine has not the memory for the transitions.
            tf.errors.OpError: If a checkpoint cannot be written, and the one
                before is as it was; or if none can be read.
        """
        if env is not None and env != self.env:
            self.attach(env)
        stream = self._training_stream(env_timeout)
        restarting = Restarting(stream, self, max_env_restarts)
        checkpoints, resumed, before = None, None, self.env_steps
        to_come = (epochs - initial_epoch) * steps_per_epoch
        if checkpoint_dir is not None:
            checkpoints = Checkpoints(checkpoint_dir, checkpoint_every)
            self._require_memory(to_come)  # with what is restored
            resumed = checkpoints.resume(self)
        if resumed is not None:
            to_come = (epochs - resumed.epoch_number) * steps_per_epoch
        self._require_memory(len(self.replay) + to_come)
        if self.env_steps != before or not stream.is_running:
            restarting.restart_episodes()
        validate = None
        if validation_episodes:
            validate = self._validation(validation_env, validation_episodes)
        return loop.fit(
            self,
            restarting,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            validate=validate,
            callbacks=callbacks,
            initial_epoch=initial_epoch,
            verbose=verbose,
            checkpoints=checkpoints,
            resumed=resumed,
        )

    def _validation(
        self, env: EnvLike | None, episodes: int
    ) -> Callable[[], float]:
        """Returns what evaluates, until somebody asks to stop."""
        target = self._evaluation_env(env)
        if env is not None:
            self._connect(target, 1).close()  # it fails now, if at all

        def act(rows: np.ndarray) -> np.ndarray:
            if self.stop_training:
                raise _ToldToStop
            return self.policy.act(rows, None)

        def validate() -> float:
            with contextlib.suppress(_ToldToStop):
                found = self._evaluate(target, act, episodes, self.seed)
                return float(np.mean(found.returns))
            return math.nan

        return validate

    def _require_memory(self, transitions: int) -> None:
        """Refuses to begin what the replay buffer could not hold at the end."""
        at_end = min(transitions, self.config.replay_capacity)
        row = self.replay.layout.row_dtype().itemsize
        memory.require(
            (at_end - len(self.replay)) * row,
            f"up to {at_end:,} transitions of {row} bytes in the replay buffer",
        )

    def attach(self, env: EnvLike) -> EnvStream:
        """Sets the environment to train on from now on.

        Args:
            env: As for `SAC`, of the same spaces.

        Returns:
            The environment as a stream of transitions.

        Raises:
            ValueError: If its spaces are others.
        """
        makes_envs = isinstance(env, str | EnvSpec)
        stream = self._connect(env, self.num_envs if makes_envs else 1)
        if self._stream is not None:
            self._stream.close()
        self.env, self._stream = env, stream
        self.num_envs = stream.num_envs
        return stream

    def _connect(self, env: EnvLike, num_envs: int) -> EnvStream:
        stream = EnvStream(env, num_envs)
        received = stream.observation_space, stream.action_space
        expected = self.observation_space, self.action_space
        check_same_spaces(received, expected, stream.name)
        return stream

    def _training_stream(self, timeout: float | None = None) -> EnvStream:
        if self.env is None:
            raise ValueError(
                "Expected an environment to train on. Received: none, as this "
                "agent was made or saved without one. Pass it as env=, or use "
                "agent.replay.insert and agent.update."
            )
        stream = self._stream or self.attach(self.env)
        stream.limit(timeout)
        return stream

    def restart_episodes(self) -> None:
        """Begins a new episode in every environment of `fit`.

        The starts follow from the seed and the number of transitions so far:
        a run that goes on in another process meets the same, and none again
        that it has seen.
        """
        if self._stream is not None:
            words = np.random.SeedSequence([self.seed, self.env_steps])
            self._stream.reset(int(words.generate_state(1)[0]))

    def evaluate(
        self,
        env: EnvLike | None = None,
        episodes: int = 50,
        seed: int = 0,
        deterministic: bool = True,
        return_dict: bool = True,
    ) -> Any:
        """Runs whole episodes from fixed starts; never on the training env.

        Args:
            env: Where to. Defaults to fresh environments, made as the agent's
                own was.
            episodes: Number of episodes. Defaults to `50`.
            seed: Decides the starts, and the noise of sampled actions.
                Defaults to `0`.
            deterministic: Whether to act deterministically, or sample.
                Defaults to `True`.
            return_dict: Whether to return a dict, or the list of its values.
                Defaults to `True`.

        Returns:
            `episode_return`, the mean over episodes, its standard deviation
            `episode_return_std`, and the mean `episode_length`.

        Raises:
            ValueError: If there is no spec to make an environment from.
        """
        counter = itertools.count()

        def act(rows: np.ndarray) -> np.ndarray:
            noise = None if deterministic else (int(seed), next(counter))
            return self.policy.act(rows, noise)

        target = self._evaluation_env(env)
        returns, lengths = self._evaluate(target, act, episodes, seed)
        result = {
            "episode_return": float(np.mean(returns)),
            "episode_return_std": float(np.std(returns)),
            "episode_length": float(np.mean(lengths)),
        }
        return result if return_dict else list(result.values())

    def _evaluate(
        self, env: EnvLike, act: Act, episodes: int, seed: int
    ) -> Evaluation:
        spaces = self.observation_space, self.action_space
        return evaluate(env, act, episodes, seed, spaces)

    def _evaluation_env(self, env: EnvLike | None) -> EnvLike:
        if env is None:
            if self.env is None:
                raise ValueError(
                    "Expected an environment to evaluate on, as env= or "
                    "validation_env=. Received: none, as this agent was made "
                    "or saved without one."
                )
            return recipe(self.env)
        if _is_same_env(env, self.env):
            raise ValueError(
                "Expected an environment of its own for evaluation, since that "
                "would break into the training episode. Received: "
                f"{describe(env)}, which the agent trains on."
            )
        return env


def _is_same_env(env: EnvLike, other: EnvLike | None) -> bool:
    """Whether they step one environment, whatever wraps it."""
    if isinstance(env, str | EnvSpec) or isinstance(other, str | EnvSpec):
        return False
    return other is not None and env.unwrapped is other.unwrapped
