"""Soft Actor-Critic for TensorFlow and Keras.

    env  ->  replay  ->  sac  ->  agent (fit)  ->  export  ->  serve

`env` turns Gymnasium environments into transitions, `replay` stores them and
draws batches, `sac` is the mathematics, `step` compiles it, `agent` owns the
parts and trains, `export` writes the policy as a SavedModel. For soft
Q-learning `sql` is in the place of `sac`. Beside this flow, `tabular` solves
finite problems exactly.
"""

import os

# Before Keras is imported, which else would take the one in keras.json.
if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        "tfsac needs Keras' TensorFlow backend. Received: KERAS_BACKEND="
        f"{os.environ['KERAS_BACKEND']!r}. Unset it, or set it to 'tensorflow'."
    )

import keras

if keras.config.backend() != "tensorflow":
    raise ImportError(
        "tfsac needs Keras' TensorFlow backend. Received: Keras was imported "
        f"with {keras.config.backend()!r}. Import tfsac before Keras, or set "
        "KERAS_BACKEND=tensorflow."
    )

from tfsac import tabular
from tfsac.checked_env import EnvError
from tfsac.config import AgentConfig, SACConfig, SQLConfig
from tfsac.discrete_networks import DiscreteActor, DiscreteCritic
from tfsac.networks import Actor, Critic
from tfsac.not_finite import NotFiniteError
from tfsac.ops import warn_without_kernels
from tfsac.replay import ReplayBuffer
from tfsac.sac_agent import SAC
from tfsac.sampler import Sampler
from tfsac.saving import load
from tfsac.sql_agent import SoftQLearning
from tfsac.transition import Transition

__version__ = "0.1.0"

__all__ = [
    "SAC",
    "Actor",
    "AgentConfig",
    "Critic",
    "DiscreteActor",
    "DiscreteCritic",
    "EnvError",
    "NotFiniteError",
    "ReplayBuffer",
    "SACConfig",
    "SQLConfig",
    "Sampler",
    "SoftQLearning",
    "Transition",
    "load",
    "tabular",
]

warn_without_kernels()
