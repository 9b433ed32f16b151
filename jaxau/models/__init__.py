"""The networks, one paper a file, and the one place that knows them all."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau import complexity, facs
from jaxau.config import Config, check_names, check_values
from jaxau.models import aar, lac


class Loss(Protocol):
    """What a model file exports as the loss of a stage: a frozen dataclass of options with these four."""

    def init(self, statistics: Mapping[str, Any]) -> Any:
        """State of the loss (part of every checkpoint) from the training split's statistics."""

    def __call__(self, outputs: Any, batch: Any, state: Any) -> tuple[jax.Array, dict, Any]:
        """Pure: the scalar, its terms by name, the new state."""

    def epoch_metrics(self, state: Any, aus: tuple[int, ...]) -> dict[str, jax.Array]:
        """Scalars by name for the log, from the state at the end of an epoch, before ``end_epoch``."""

    def end_epoch(self, state: Any) -> Any:
        """The state at the start of the next epoch."""


class Paper(NamedTuple):
    """A network, the loss of each of its stages, and the input that the paper's complexity refers to."""

    network: type[nn.Module]
    losses: Mapping[str, type]
    input_shape: tuple[int, ...]


MODELS: dict[str, Paper] = {
    "aar": Paper(aar.AAR, {"frames": aar.AttentionLoss, "features": aar.FeaturesLoss}, (1, 1, 176, 176, 3)),
    "lac": Paper(lac.LAC, {"frames": lac.LACLoss, "clips": lac.LACLoss}, (1, 16, 224, 224, 3)),
}


def paper(name: str) -> Paper:
    """Look a network up by name; ValueError names the known ones."""
    if name not in MODELS:
        raise ValueError(f"network {name!r}: unknown, choose from {sorted(MODELS)}")
    return MODELS[name]


def create(config: Config, stage: str) -> nn.Module:
    """The network of ``config`` as ``stage`` runs it.

    Raises:
      ValueError: unknown network, stage, or field of the network.
    """
    network = paper(config.name).network
    if stage not in config.stages:
        raise ValueError(f"stage {stage!r}: not in this run, choose from {list(config.stages)}")
    fields = [f.name for f in dataclasses.fields(network) if f.name not in _SET_HERE]
    check_names(fields, config.network, "config.network")
    temporal = config.stages[stage].view != "frames"
    chosen = check_values(network, config.network, "config.network")
    return network(aus=config.data.aus, temporal=temporal, dtype=jnp.dtype(config.dtype), **chosen)


_SET_HERE = ("aus", "temporal", "dtype", "parent", "name")


def create_loss(config: Config, stage: str) -> Loss:
    """The loss of ``stage``; ValueError on an option that it does not have."""
    known = paper(config.name).losses
    if stage not in known:
        raise ValueError(f"config.stages.{stage}: {config.name} has the stages {list(known)}")
    options = config.stages[stage].loss
    path = f"config.stages.{stage}.loss"
    check_names([f.name for f in dataclasses.fields(known[stage])], options, path)
    return known[stage](**check_values(known[stage], options, path))


def describe(name: str, num_aus: int = 12) -> dict[str, Any]:
    """Size of the published network, from shapes alone: nothing is allocated.

    Returns:
      ``network``, ``parameters``, ``trainable_parameters``, ``macs`` (multiply-accumulates of one input,
      convolutions and matrix products), ``input`` (shape of that input).
    """
    known = facs.CORPUS_AUS["bp4d"] + tuple(
        au for au in facs.ACTION_UNITS if au not in facs.CORPUS_AUS["bp4d"]
    )
    if not 1 <= num_aus <= len(known):
        raise ValueError(f"{num_aus} AUs: give between 1 and {len(known)}")
    spec = paper(name)
    network = spec.network(aus=known[:num_aus])
    image = jax.ShapeDtypeStruct(spec.input_shape, jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return {
        "network": name,
        "parameters": parameters,
        "trainable_parameters": parameters,
        "macs": complexity.count_macs(network.apply, variables, image),
        "input": list(spec.input_shape),
    }
