"""One compiled call of the train step: K updates in one `tf.function`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["compile_step", "run"]


def compile_step(
    agent: "Agent", batches: Transition
) -> Callable[[Transition], tf.Tensor]:
    """Compiles K updates into one call.

    Step counters, temperature and learning rates are variables, so one trace
    serves for ever.

    Args:
        agent: Does the updates, by `learn`; its `jit_compile` says whether
            XLA compiles them.
        batches: An example, fields `[K, B, ...]`.

    Returns:
        A function of such batches that returns the metrics' means over the K
        updates, `[M]`.
    """
    # XLA is not told that the loop ends after K rounds. It would unroll that
    # of K = 1 into the caller's thread, which then is one more than there are
    # cores: the kernels' helpers are threads of TensorFlow's.
    count = tf.constant(batches.reward.shape[0])

    @tf.function(jit_compile=agent.jit_compile, autograph=False)
    def updates(count: tf.Tensor, *fields: tf.Tensor) -> tf.Tensor:
        return run(agent, count, Transition(*fields))

    # Some 50 variables are captured. To look at each of them for a tape, and
    # at the arguments' signature, would take 6% of a call with K = 1.
    concrete = updates.get_concrete_function(count, *batches)
    call, captured = concrete.inference_fn.call_flat, concrete.captured_inputs
    return lambda batches: call(count, *batches, *captured)[0]


def run(agent: "Agent", count: tf.Tensor, batches: Transition) -> tf.Tensor:
    """Runs K updates one after the other, in TensorFlow operations.

    Args:
        agent: Does the updates, by `learn`.
        count: K.
        batches: Fields `[K, B, ...]`.

    Returns:
        The metrics' means over the K updates, `[M]`.
    """

    def body(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = Transition(*(field[k] for field in batches))
        return k + 1, total + agent.learn(batch)

    start = (tf.constant(0), tf.zeros([len(agent.METRICS)]))
    _, total = tf.while_loop(lambda k, _: k < count, body, start)
    return total / tf.cast(count, tf.float32)
