"""The networks, one paper a file, and the one place that knows them all."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau import complexity, facs
from jaxau.config import Config, View, check_names, check_values
from jaxau.models import aar, aunet, aunet_loss, fan, glee_net, gtle_net, label_vae, lac, pretraining
from jaxau.morphable.expression import SHAPES


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


class Role(NamedTuple):
    """What a stage is to its network.

    Attributes:
      loss: of the stage.
      views: what its batches may be.
      inputs: fields of a batch that the network is given, in this order, in training and in prediction.
      targets: further fields that the network is given by name, in training alone.
      fields: fields of the network that the stage decides.
      selects: what chooses the epoch on the inner subjects: "f1", the mean F1 of the AUs that the network's
        ``logits`` detect, or a term of the loss, of which the highest is best, with "-" before it the lowest;
        "" = nothing, the last epoch is taken.
    """

    loss: type
    views: tuple[View, ...]
    inputs: tuple[str, ...] = ("image",)
    targets: tuple[str, ...] = ()
    fields: Mapping[str, Any] = {}
    selects: str = "f1"

    @property
    def detects_aus(self) -> bool:
        """Whether the stage's model can be scored and used as a detector of AUs."""
        return self.selects == "f1"


class Paper(NamedTuple):
    """A network, what each of its stages is, and the input that the paper's complexity refers to.

    ``frozen`` are prefixes of parameters that no stage trains but the one that makes them. ``siamese``
    maps a part of the network to the one as which it begins, but for BatchNorm's parameters.
    """

    network: type[nn.Module]
    stages: Mapping[str, Role]
    input_shape: tuple[int, ...]
    frozen: tuple[str, ...] = ()
    siamese: Mapping[str, str] = {}


_STILLS, _CLIPS = {"temporal": False}, {"temporal": True}
_LABELS = ("au", "au_mask", "corpus")

MODELS: dict[str, Paper] = {
    "aar": Paper(
        aar.AAR,
        {
            "frames": Role(aar.AttentionLoss, ("frames",), fields=_STILLS),
            "cache": Role(aar.AttentionLoss, ("frames",), fields=_STILLS),
            "features": Role(aar.FeaturesLoss, ("features",), ("features",), fields=_CLIPS),
        },
        (1, 1, 176, 176, 3),
    ),
    "aunet": Paper(
        aunet.AUNet,
        {
            "labels": Role(label_vae.LabelLoss, ("labels",), _LABELS, fields={"part": "labels"}, selects=""),
            "flow": Role(aunet_loss.AULoss, ("tuples",), ("image", "flow"), _LABELS, {"part": "flow"}),
            "windows": Role(aunet_loss.AULoss, ("clips",), ("image",), _LABELS, {"part": "windows"}),
            "tuples": Role(aunet_loss.AULoss, ("tuples", "frames"), ("image",), _LABELS, {"part": "tuples"}),
        },
        (1, 3, 256, 256, 3),
        frozen=("fan", "vae"),
    ),
    "fan": Paper(
        fan.FAN,
        {"landmarks": Role(fan.LandmarksLoss, ("landmarks",), selects="-nme")},
        (1, 256, 256, 3),
    ),
    "glee_net": Paper(
        glee_net.GLEENet,
        {
            "identity": Role(pretraining.ClassLoss, ("frames",), fields={"part": "identity"}, selects=""),
            "triplets": Role(
                pretraining.TripletLoss, ("triplets",), fields={"part": "triplets"}, selects="accuracy"
            ),
            "frames": Role(
                glee_net.DetectionLoss,
                ("frames",),
                ("image", "expression", "expression_mask"),
                fields={"part": "frames"},
            ),
        },
        (1, 160, 160, 3),
        frozen=("identity",),
        siamese=glee_net.SIAMESE,
    ),
    "gtle_net": Paper(
        gtle_net.GTLENet,
        {
            "triplets": Role(
                pretraining.TripletLoss, ("triplets",), fields={"part": "triplets"}, selects="accuracy"
            ),
            "emotions": Role(
                pretraining.ClassLoss, ("emotions",), fields={"part": "emotions"}, selects="accuracy"
            ),
            "frames": Role(gtle_net.DetectionLoss, ("frames",), fields={"part": "frames"}),
        },
        (1, 256, 256, 3),
    ),
    "lac": Paper(
        lac.LAC,
        {
            "frames": Role(lac.LACLoss, ("frames",), fields=_STILLS),
            "clips": Role(lac.LACLoss, ("clips",), fields=_CLIPS),
        },
        (1, 16, 224, 224, 3),
    ),
}


def paper(name: str) -> Paper:
    """Look a network up by name; ValueError names the known ones."""
    if name not in MODELS:
        raise ValueError(f"network {name!r}: unknown, choose from {sorted(MODELS)}")
    return MODELS[name]


def role(config: Config, stage: str) -> Role:
    """What ``stage`` is to the network of ``config``.

    Raises:
      ValueError: unknown network or stage, or a view that it cannot have.
    """
    known = paper(config.name).stages
    if stage not in config.stages:
        raise ValueError(f"stage {stage!r}: not in this run, choose from {list(config.stages)}")
    if stage not in known:
        raise ValueError(f"config.stages.{stage}: {config.name} has the stages {list(known)}")
    view = config.stages[stage].view
    if view not in known[stage].views:
        raise ValueError(
            f"config.stages.{stage}.view={view!r}: of {config.name} it is one of {list(known[stage].views)}"
        )
    return known[stage]


def create(config: Config, stage: str) -> nn.Module:
    """The network of ``config`` as ``stage`` runs it.

    Raises:
      ValueError: unknown network, stage, or field of the network.
    """
    network, decided = paper(config.name).network, role(config, stage).fields
    corpora = (config.data.corpus, *config.data.mixture)
    given = {
        "aus": config.data.aus,
        "corpora": corpora,
        "neighbor_distance": config.data.neighbor_distance,
        "dtype": jnp.dtype(config.dtype),
    }
    fields = [f.name for f in dataclasses.fields(network)]
    decides = {name for of in paper(config.name).stages.values() for name in of.fields}
    free = [name for name in fields if name not in {*given, *decides, "parent", "name"}]
    check_names(free, config.network, "config.network")
    chosen = check_values(network, config.network, "config.network")
    return network(**{name: value for name, value in given.items() if name in fields}, **decided, **chosen)


def create_loss(config: Config, stage: str) -> Loss:
    """The loss of ``stage``; ValueError on an option that it does not have."""
    loss, options = role(config, stage).loss, config.stages[stage].loss
    path = f"config.stages.{stage}.loss"
    check_names([f.name for f in dataclasses.fields(loss)], options, path)
    return loss(**check_values(loss, options, path))


def arguments(of: Role, batch: Mapping[str, Any], train: bool) -> tuple[list[Any], dict[str, Any]]:
    """What the network is given of a batch: by position and, in training, by name."""
    return [batch[name] for name in of.inputs], {name: batch[name] for name in of.targets if train}


def first_batch(config: Config, stage: str) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of one example, as shapes, with which the variables of a stage's network are initialised.

    Where features are the input it holds images instead: the model has what makes the features, too.
    """
    view = config.stages[stage].view
    lead = {"tuples": (1, 3), "triplets": (1, 3)}.get(view, (1,))
    if view in ("clips", "features"):
        lead = (1, config.data.clip_length)
    side, num_aus = config.data.image_size, len(config.data.aus)
    labels = {"au": (num_aus,), "au_mask": (num_aus,), "corpus": ()}
    found = _shapes((*lead, side, side, 3), num_aus)
    if view == "clips":  # whose labels are of every frame
        found |= {name: jax.ShapeDtypeStruct((*lead, *of), found[name].dtype) for name, of in labels.items()}
    return found


def abstract_variables(config: Config, stage: str) -> Any:
    """Shapes of the variables of a stage's network; ``batch_stats`` are empty where it has none."""
    given, named = arguments(role(config, stage), first_batch(config, stage), train=True)
    found = jax.eval_shape(create(config, stage).init, jax.random.key(0), *given, **named)
    return {"batch_stats": {}, **found}


def _shapes(image: tuple[int, ...], num_aus: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Every field that some network is given, for ``image`` (b, ..., h, w, 3)."""
    b, side, shape = image[0], image[-2], jax.ShapeDtypeStruct
    return {
        "image": shape(image, jnp.uint8),
        "features": shape(image, jnp.uint8),
        "au": shape((b, num_aus), jnp.int32),
        "au_mask": shape((b, num_aus), jnp.bool_),
        "corpus": shape((b,), jnp.int32),
        "expression": shape((b, len(SHAPES)), jnp.float32),
        "expression_mask": shape((b,), jnp.bool_),
        "flow": shape((b, side, side, 4), jnp.float32),
    }


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
    has_aus = "aus" in [f.name for f in dataclasses.fields(spec.network)]
    last = list(spec.stages.values())[-1]
    network = spec.network(**{"aus": known[:num_aus]} if has_aus else {}, **last.fields)
    given, named = arguments(last, _shapes(spec.input_shape, num_aus), train=True)
    variables = jax.eval_shape(network.init, jax.random.key(0), *given, **named)
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    frozen = [size for path, size in sizes.items() if path.startswith(tuple(f"{p}/" for p in spec.frozen))]
    return {
        "network": name,
        "parameters": sum(sizes.values()),
        "trainable_parameters": sum(sizes.values()) - sum(frozen),
        "macs": complexity.count_macs(network.apply, variables, *given),
        "input": list(spec.input_shape),
    }
