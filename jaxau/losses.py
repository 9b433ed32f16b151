"""Losses that several networks use. Everything is float32; masked labels carry no loss and no gradient."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LOG_FLOOR = float(np.log(1e-8))


class Stateless:
    """What ``models.Loss`` asks for of a loss that keeps nothing from step to step."""

    def init(self, statistics: Mapping[str, Any]) -> dict[str, jax.Array]:
        """No state."""
        return {}

    def epoch_metrics(self, state: Any, aus: tuple[int, ...]) -> dict[str, jax.Array]:
        """Nothing."""
        return {}

    def end_epoch(self, state: Any) -> Any:
        """The same."""
        return state


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``values`` where ``mask`` (broadcastable) is True; 0 where it is True nowhere."""
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def rate_weights(occurrences: np.ndarray, coded: np.ndarray) -> np.ndarray:
    """AU weights 1 / rate, normalised to sum to the number of AUs (ME-GraphAU; AUNet, Eq. 1).

    Args:
      occurrences: (k,) positive labels of the training split.
      coded: (k,) labels of the training split.

    Raises:
      ValueError: an AU that never occurs has no rate.
    """
    occurrences, coded = np.asarray(occurrences, np.float64), np.asarray(coded, np.float64)
    if np.any(occurrences <= 0):
        raise ValueError(
            f"AU columns {np.flatnonzero(occurrences <= 0).tolist()} have no positive label in the training "
            "split, so their weight 1 / rate is undefined; leave these AUs out of config.data.aus"
        )
    weights = coded / occurrences
    return weights / weights.sum() * len(weights)


def cross_entropy(logits: jax.Array, labels: jax.Array, mask: jax.Array, weights: jax.Array) -> jax.Array:
    """Binary cross-entropy, weighted by AU, mean over the unmasked labels.

    Args:
      logits: (..., k).
      labels: (..., k) in {0, 1}.
      mask: (..., k) bool, False = not coded or padding.
      weights: (k,).
    """
    positive = labels * jax.nn.softplus(-logits)
    negative = (1 - labels) * jax.nn.softplus(logits)
    return masked_mean(weights * (positive + negative), mask)


def weighted_asymmetric(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, weights: jax.Array
) -> jax.Array:
    """Weighted asymmetric loss (LAC, Eq. 12 and 16, with the minus that the text leaves out).

    ``-w [y log p + (1 - y) p log(1 - p)]``; the factor p carries no gradient and logarithms are clamped at
    log(1e-8), as in ME-GraphAU's code. Arguments as for ``cross_entropy``.
    """
    probability = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
    positive = labels * jnp.maximum(jax.nn.log_sigmoid(logits), _LOG_FLOOR)
    negative = (1 - labels) * probability * jnp.maximum(jax.nn.log_sigmoid(-logits), _LOG_FLOOR)
    return masked_mean(-weights * (positive + negative), mask)
