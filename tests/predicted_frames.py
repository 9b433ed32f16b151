"""Predictions over all batches of a part on however many devices XLA simulates.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/predicted_frames.py FILE.npz
"""

import sys

import jax
import numpy as np
from small_run import random_batch, small_config

from jaxau import evaluate, models, sharding

BATCH, FRAMES, SUBJECTS = 16, 71, 3


def batches() -> list[dict[str, np.ndarray]]:
    """Frames of noise with some labels that are not coded; the last batch is padded."""
    rng, parts = np.random.default_rng(0), []
    for start in range(0, FRAMES, BATCH):
        index = np.arange(start, start + BATCH)
        batch = random_batch(rng, (BATCH,), 32, 4) | {"mask": index < FRAMES, "frame": index}
        names = {name: np.zeros(BATCH, int) for name in ("video", "record")}
        parts.append(batch | names | {"subject": rng.integers(SUBJECTS, size=BATCH)})
    return parts


def main(path: str) -> None:
    mesh, network = sharding.make_mesh(), models.create(small_config(), "frames")
    given = batches()
    variables = network.init(jax.random.key(0), given[0]["image"], train=False)
    step = evaluate.make_eval_step(network)
    found = evaluate.predict(step, variables, given, mesh)
    sharded = step(variables, sharding.shard_batch({"image": given[0]["image"]}, mesh)["image"])
    np.savez(path, devices=len(sharded.sharding.device_set), **found)


if __name__ == "__main__":
    main(sys.argv[1])
