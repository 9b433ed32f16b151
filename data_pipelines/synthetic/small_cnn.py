"""The rung of the ladder that learns from pixels: a small convolutional network, trained from scratch."""

import functools
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from data_pipelines.synthetic.ladder import Samples
from jaxau.morphable.grid import Bools, Floats

_CHANNELS, _STRIDES = (24, 48, 64, 96), (2, 2, 2, 1)
_BATCH, _LEARNING_RATE, _AVERAGED = 64, 1.5e-3, 0.99
_MOST_SHIFT, _MOST_TURN, _MOST_SCALE = 3, 7, 0.07  # pixels, degrees, share


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
    """Each picture (b, s, s) shifted, turned, scaled, mirrored (AUs are the same on both sides) and lit."""
    side = images.shape[1]
    shift = rng.uniform(-_MOST_SHIFT, _MOST_SHIFT, (len(images), 2))
    turn = rng.uniform(-_MOST_TURN, _MOST_TURN, len(images))
    scale = 1 + rng.uniform(-_MOST_SCALE, _MOST_SCALE, len(images))
    mirror = rng.random(len(images)) < 0.5
    gain, offset = rng.normal(0, 0.15, (2, len(images)))
    moved = np.empty_like(images)
    for i, image in enumerate(images):
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), turn[i], scale[i])
        matrix[:, 2] += shift[i]
        moved[i] = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        moved[i] = moved[i, :, ::-1] if mirror[i] else moved[i]
        moved[i] = moved[i] * (1 + gain[i]) + offset[i]
    return moved


def small_cnn(samples: Samples, test: Bools, steps: int = 2000, seed: int = 0) -> Floats:
    """Probabilities (tests, 12) of a network trained on the other rows; some minutes on a CPU.

    Few people are little to learn from: pictures are moved and lit anew each time, what occurs rarely weighs
    more (by the root of how much rarer it is), and the parameters are averaged over the last steps.

    Args:
      samples: frames to learn from and to test.
      test: (n,) rows to predict.
      steps: batches of 64, however many frames there are.
      seed: of all draws.
    """
    images = (samples.images.astype(np.float32) / 255 - 0.45) / 0.25
    train, occurs = np.flatnonzero(~test), samples.occurs.astype(np.float32)
    network = _Network(occurs.shape[1])
    rate = occurs[train].mean(0)
    weight = jnp.sqrt(jnp.clip((1 - rate) / np.maximum(rate, 1e-3), 1, 30))
    optimizer = optax.adamw(optax.cosine_decay_schedule(_LEARNING_RATE, steps), weight_decay=2e-3)
    key = jax.random.key(seed)
    parameters = network.init(key, images[:2], False)
    state, averaged = optimizer.init(parameters), jax.tree.map(jnp.copy, parameters)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(
        parameters: Any, averaged: Any, state: Any, image: jax.Array, truth: jax.Array, number: int
    ) -> tuple[Any, Any, Any]:
        def loss(parameters: Any) -> jax.Array:
            rngs = {"dropout": jax.random.fold_in(key, number)}
            logits: Any = network.apply(parameters, image, True, rngs=rngs)
            positive, negative = nn.softplus(-logits), nn.softplus(logits)
            return (weight * truth * positive + (1 - truth) * negative).mean()

        updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        return parameters, optax.incremental_update(parameters, averaged, 1 - _AVERAGED), state

    rng = np.random.default_rng(seed)
    passes = -(-steps * _BATCH // len(train))
    order = np.concatenate([rng.permutation(train) for _ in range(passes)])
    for number in range(steps):
        rows = order[number * _BATCH : (number + 1) * _BATCH]
        image = _augment(rng, images[rows])
        parameters, averaged, state = step(parameters, averaged, state, image, occurs[rows], number)

    @jax.jit
    def probability(image: jax.Array) -> jax.Array:
        logits: Any = network.apply(averaged, image, False)
        return nn.sigmoid(logits)

    rows = np.flatnonzero(test)
    batches = [rows[i : i + 4 * _BATCH] for i in range(0, len(rows), 4 * _BATCH)]
    return np.concatenate([np.asarray(probability(images[batch])) for batch in batches])
