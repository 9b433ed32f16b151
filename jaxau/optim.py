"""Optimizers and schedules from a stage's configuration."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxau.config import Optim, Stage


def make_schedule(config: Optim, total_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then as ``Optim.schedule`` says until ``total_steps``."""
    remaining = max(1, total_steps - config.warmup_steps)
    if config.schedule == "constant":
        after = optax.constant_schedule(config.lr)
    elif config.schedule == "steps":
        part = remaining / config.periods
        after = optax.exponential_decay(config.lr, part, config.decay, staircase=True)
    elif config.schedule == "inverse_sqrt":
        after = partial(_inverse_sqrt, config.lr, config.warmup_steps)
    else:
        after = optax.cosine_decay_schedule(config.lr, remaining)
    if not config.warmup_steps:
        return after
    # From 1 / n, so that the first step already learns.
    first = config.lr / config.warmup_steps
    warmup = optax.linear_schedule(first, config.lr, config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def _inverse_sqrt(lr: float, warmup_steps: int, step: Any) -> jax.Array:
    """``lr (s / warmup_steps)^-.5``, where the warm-up began s and ended ``step`` steps ago."""
    return lr * jax.lax.rsqrt(1 + step / jnp.float32(warmup_steps))


def make_optimizer(stage: Stage, total_steps: int) -> optax.GradientTransformation:
    """The stage's optimizer; parameters outside ``stage.trainable`` are left as they are."""
    config = stage.optim
    schedule = make_schedule(config, total_steps)
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.name == "adamw":
        parts.append(
            optax.adamw(schedule, config.b1, config.b2, weight_decay=config.weight_decay, mask=_is_kernel)
        )
    else:
        parts.append(optax.add_decayed_weights(config.weight_decay, _is_kernel))
        if config.name == "adam":
            parts.append(optax.adam(schedule, config.b1, config.b2))
        else:
            parts.append(optax.sgd(schedule, config.b1, config.nesterov))
    if config.multipliers:
        # Of the whole update, weight decay included: as if the learning rate were another.
        parts.append(optax.stateless(partial(_multiply, config.multipliers)))
    optimizer = optax.chain(*parts)
    if not stage.trainable:
        return optimizer
    return optax.multi_transform(
        {"train": optimizer, "freeze": optax.set_to_zero()}, lambda params: trainable_labels(stage, params)
    )


def _multiply(multipliers: Mapping[str, float], updates: Any, params: Any) -> Any:
    """Updates of parameters times the factor of the longest prefix of their paths.

    Raises:
      ValueError: a prefix that names no parameter that is trained.
    """
    _check_prefixes("optim.multipliers", multipliers, updates)

    def scaled(path: Any, update: jax.Array) -> jax.Array:
        prefix = max((p for p in multipliers if _path(path).startswith(p)), key=len, default=None)
        return update if prefix is None else multipliers[prefix] * update

    return jax.tree_util.tree_map_with_path(scaled, updates)


def trainable_labels(stage: Stage, params: Any) -> Any:
    """ "train" or "freeze" for each parameter.

    Raises:
      ValueError: a prefix of ``stage.trainable`` that names no parameter.
    """
    _check_prefixes("trainable", stage.trainable, params)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "train" if _path(path).startswith(stage.trainable) else "freeze", params
    )


def _check_prefixes(what: str, prefixes: Iterable[str], params: Any) -> None:
    paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    idle = [prefix for prefix in prefixes if not any(path.startswith(prefix) for path in paths)]
    if idle:
        top = sorted({path.split("/")[0] for path in paths})
        raise ValueError(f"{what}: {idle} names no parameter; parameters start with {top}")


def _is_kernel(params: Any) -> Any:
    """Weight decay for matrices and convolutions, none for biases and normalisation.

    Where branches are stacked, biases and scales have two axes.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and path[-1].key not in ("bias", "scale"), params
    )


def _path(path: Any) -> str:
    return "/".join(key.key for key in path)
