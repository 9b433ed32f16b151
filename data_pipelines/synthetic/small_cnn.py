"""The rung of the ladder that learns from pixels: a small convolutional network, trained from scratch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from data_pipelines.synthetic.ladder import Samples
from jaxau.morphable.grid import Bools, Floats

_CHANNELS, _STRIDES = (24, 48, 64, 96), (2, 2, 2, 1)
_BATCH, _LEARNING_RATE, _MOST_SHIFT = 64, 1.5e-3, 3


class _Network(nn.Module):
    """Four convolutions and two dense layers: (b, 64, 64) grey in standard units -> (b, k) logits."""

    units: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x[..., None]
        for channels, stride in zip(_CHANNELS, _STRIDES, strict=True):
            x = nn.Conv(channels, (3, 3), stride, use_bias=False)(x)
            x = nn.relu(nn.GroupNorm(num_groups=None, group_size=1)(x))
        x = x.reshape(len(x), -1)  # (b, 8 * 8 * 96)
        x = nn.Dropout(0.4, deterministic=not train)(x)
        x = nn.relu(nn.Dense(96)(x))
        return nn.Dense(self.units)(x)


def _augment(rng: np.random.Generator, images: Floats) -> Floats:
    """Shift, mirror (AUs are the same on both sides) and light."""
    images = np.roll(images, rng.integers(-_MOST_SHIFT, _MOST_SHIFT + 1, 2), (1, 2))
    mirror = rng.random(len(images)) < 0.5
    images = np.where(mirror[:, None, None], images[:, :, ::-1], images)
    gain, offset = rng.normal(0, 0.15, (2, len(images), 1, 1))
    return (images * (1 + gain) + offset).astype(np.float32)


def small_cnn(samples: Samples, test: Bools, epochs: int = 25, seed: int = 0) -> Floats:
    """Probabilities (tests, 12) of a network trained on the other rows; some minutes on a CPU."""
    images = (samples.images.astype(np.float32) / 255 - 0.45) / 0.25
    train, occurs = np.flatnonzero(~test), samples.occurs.astype(np.float32)
    network = _Network(occurs.shape[1])
    rate = occurs[train].mean(0)
    weight = jnp.sqrt(jnp.clip((1 - rate) / np.maximum(rate, 1e-3), 1, 30))
    steps = len(train) // _BATCH * epochs
    optimizer = optax.adamw(optax.cosine_decay_schedule(_LEARNING_RATE, steps), weight_decay=2e-3)
    key = jax.random.key(seed)
    parameters = network.init(key, images[:2], False)
    state = optimizer.init(parameters)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, image: jax.Array, truth: jax.Array, number: int) -> tuple[Any, Any]:
        def loss(parameters: Any) -> jax.Array:
            rngs = {"dropout": jax.random.fold_in(key, number)}
            logits: Any = network.apply(parameters, image, True, rngs=rngs)
            positive, negative = nn.softplus(-logits), nn.softplus(logits)
            return (weight * truth * positive + (1 - truth) * negative).mean()

        updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    rng = np.random.default_rng(seed)
    number = 0
    for _ in range(epochs):
        order = rng.permutation(train)
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            parameters, state = step(parameters, state, _augment(rng, images[rows]), occurs[rows], number)
            number += 1

    @jax.jit
    def probability(image: jax.Array) -> jax.Array:
        logits: Any = network.apply(parameters, image, False)
        return nn.sigmoid(logits)

    rows = np.flatnonzero(test)
    batches = [rows[i : i + 4 * _BATCH] for i in range(0, len(rows), 4 * _BATCH)]
    return np.concatenate([np.asarray(probability(images[batch])) for batch in batches])
