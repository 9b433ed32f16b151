"""Predictions of a network over a part of a corpus, and their scores."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils

from jaxau import sharding

Predictions = dict[str, np.ndarray]


def make_eval_step(network: nn.Module) -> Any:
    """Jit-compiled ``(variables, image uint8) -> probability (b, [t], k)``."""

    @jax.jit
    def step(variables: Mapping[str, Any], image: jax.Array) -> jax.Array:
        outputs: Any = network.apply(variables, image, train=False)
        return jax.nn.sigmoid(outputs["logits"])

    return step


def predict(
    eval_step: Any,
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
) -> Predictions:
    """Run over all batches; padding is dropped and clips are laid out frame by frame.

    Returns:
      ``probability``, ``truth``, ``mask`` (n, k) and ``subject``, ``video``, ``frame``, ``record`` (n,).
    """
    parts: list[Predictions] = []
    for batch in batches:
        image = sharding.shard_batch({"image": batch["image"]}, mesh)["image"]
        probability = eval_step(variables, image)
        fields = {
            name: batch[name] for name in ("au", "au_mask", "subject", "video", "frame", "record", "mask")
        }
        if jax.process_count() > 1:
            probability, fields = multihost_utils.process_allgather((probability, fields), tiled=True)
        keep = np.asarray(fields.pop("mask"))
        part = {name: np.asarray(value)[keep] for name, value in fields.items()}
        parts.append({"probability": np.asarray(probability)[keep], **part})
    if not parts:
        raise ValueError("no frames to evaluate: the part of the corpus is empty")
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {"truth": merged.pop("au"), "mask": merged.pop("au_mask"), **merged}
