"""A run that takes seconds, for `checkpoint_process_test.py` to kill.

python tests/small_run.py FOLDER
"""

import hashlib
import sys

import numpy as np
import small_agent
import wandering_env


def main(folder):
    agent = small_agent.make(wandering_env.ID, num_envs=2, overlap=True)
    small_agent.fit(
        agent,
        200,
        epochs=3,
        checkpoint_dir=folder,
        checkpoint_every=30,
    )
    digest = hashlib.sha256()
    for array in (
        *small_agent.state(agent).values(),
        *map(np.asarray, agent.replay.sample(10, 100)),
    ):
        digest.update(array.tobytes())
    print(f"{agent.env_steps} transitions, {digest.hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1])
