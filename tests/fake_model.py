"""A network of a few lines, so that tests of prediction need no training."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxau.checkpoint import Model

AUS = (1, 12, 25)


class Tiny(nn.Module):
    """Logits from coarse brightness; over time each frame adds to the one before (causal)."""

    temporal: bool = False

    @nn.compact
    def __call__(self, image: jnp.ndarray, train: bool = False) -> dict[str, jnp.ndarray]:
        x = image.astype(jnp.float32) / 255 - 0.5
        *lead, side, _, _ = x.shape
        x = x.reshape(*lead, 4, side // 4, 4, side // 4, 3).mean((-4, -2)).reshape(*lead, 48)
        logits = nn.Dense(len(AUS), name="head")(x)
        if self.temporal:
            logits = jnp.cumsum(logits, axis=1)
        return {"logits": logits}


def fake_model(clip_length: int = 0, side: int = 32, resize_to: int = 36) -> Model:
    kernel = np.random.default_rng(0).normal(0, 1.5, (48, len(AUS))).astype(np.float32)
    variables = {"params": {"head": {"kernel": kernel, "bias": np.zeros(len(AUS), np.float32)}}}
    stage = "clips" if clip_length else "frames"
    info: dict[str, Any] = {
        "network": "tiny",
        "stage": stage,
        "aus": list(AUS),
        "thresholds": [0.5, 0.4, 0.6],
        "threshold_source": "inner",
        "alignment": "jaa256",
        "image_size": side,
        "clip_length": clip_length,
        "trained_on": "synthetic faces (test)",
        "synthetic": True,
        "corpus": "synthetic",
        "protocol": "synthetic-holdout",
        "fold": 1,
        "manifest_hash": "m",
        "licence": "Apache-2.0",
        "epoch": 3,
        "hash": "0123",
        "config": {"stages": {stage: {"augment": {"resize_to": resize_to}}}},
    }
    return Model(Tiny(temporal=clip_length > 0), variables, info)
