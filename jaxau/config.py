"""The schema of a run's configuration, and its checks.

``configs/<paper>.py`` returns ``to_config_dict(Config(...))``, which command-line overrides change; the
library only ever sees the frozen, checked ``Config`` that ``from_dict`` builds from the result.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections

from jaxau import facs

View = Literal["frames", "clips", "features", "tuples", "triplets", "labels", "emotions", "landmarks"]
Loader = Literal["jpeg", "raw", "device"]
LOADERS: tuple[Loader, ...] = typing.get_args(Loader)
Selection = Literal["honest", "conventional", "optimistic"]

VARIANTS = 10
"""Fixed inputs made of a crop: the centre and the four corners, each as it is and mirrored."""


@dataclass(frozen=True)
class Optim:
    """One optimizer and its schedule.

    Attributes:
      name: "adamw", "adam" or "sgd" (momentum ``b1``).
      lr: peak learning rate.
      weight_decay: decoupled for adamw (kernels only), L2 for the others.
      b1: first moment or momentum;
      nesterov: whether that of sgd is Nesterov's.
      b2: second moment.
      schedule: "constant", "cosine" (to zero, per step), "steps" (times ``decay`` at the end of each of
        ``periods`` equal parts of the stage: 12 epochs in 6 parts change every 2) or "inverse_sqrt" (times
        the square root of ``warmup_steps`` / step).
      decay: factor of the schedule "steps".
      periods: its parts.
      warmup_steps: linear warm-up from 0.
      clip_norm: global gradient norm limit; 0 = none.
      ema_decay: decay of the averaged parameters that are evaluated; 0 = none.
      multipliers: prefix of parameter paths, e.g. "mask_extractor" -> factor of their learning rate; the
        longest prefix counts. Others have 1.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.0
    b1: float = 0.9
    nesterov: bool = True
    b2: float = 0.999
    schedule: Literal["constant", "cosine", "steps", "inverse_sqrt"] = "constant"
    decay: float = 0.3
    periods: int = 1
    warmup_steps: int = 0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    multipliers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Augment:
    """Augmentation of training examples; one draw is shared by all frames of an example.

    Attributes:
      flip: probability of a mirror image.
      color_jitter: brightness, contrast and saturation are scaled by U(1-j, 1+j).
      resize_to: side in pixels to which the aligned crop is resized before an image_size square is cut
        from it (training: anywhere; evaluation: the centre); 0 = straight to image_size, no crop.
      rotation: the input is turned about its centre by U(-r, r) degrees;
      scale: enlarged by U(1-s, 1+s);
      shift: and moved by U(-s, s) of its side, in x and in y.
      blur: probability of a Gaussian blur, of 3, 5 or 7 pixels.
      compression: probability of JPEG compression, with a quality of 30 to 100.
      holes: probability that 1 to 8 rectangles, with sides of 1/32 to 1/8 of the input's, are black.
    """

    flip: float = 0.5
    color_jitter: float = 0.0
    resize_to: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    blur: float = 0.0
    compression: float = 0.0
    holes: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether the input is turned, scaled or shifted."""
        return bool(self.rotation or self.scale or self.shift)


@dataclass(frozen=True)
class Stage:
    """One stage of training: what it sees, for how long, where it starts and what it trains.

    Attributes:
      view: view of the corpus that the batches hold.
      corpus: another corpus for this stage alone, on whose official training part it trains; "" = that of
        ``data``.
      epochs: passes over the stage's examples.
      batch_size: global batch (stills or clips) of one update.
      max_steps: updates after which the stage ends, if its epochs have more; 0 = no limit.
      accumulate: parts in which a batch runs, one after another, to save memory; see
        ``train.loss_and_gradients`` for what that changes.
      start_from: name of the earlier stage whose selected parameters are handed on; "" = fresh. The view
        ``features`` starts from the stage that caches them.
      cache: 0 = the stage trains. K = it keeps the features of K fixed variants of each frame instead, made
        by the model of the stage it starts from (``jaxau.feature_cache``).
      trainable: prefixes of parameter paths, e.g. ("lstm", "trunk/stage3"); () = everything.
      freeze_batch_stats: keep BatchNorm's running statistics and normalise with them.
      flow: batches of tuples also hold the optical flow from the middle frame to its neighbours.
      mine_triplets: trains also on triplets that follow from chains of annotated ones, while these are
        semi-hard (see ``models.pretraining.TripletLoss``).
      checkpoint_every_steps: also save within an epoch, every so many steps; 0 = at its end only.
      loss: options of the stage's loss, defined by the model file.
    """

    view: View
    epochs: int
    batch_size: int
    corpus: str = ""
    max_steps: int = 0
    accumulate: int = 1
    start_from: str = ""
    cache: int = 0
    trainable: tuple[str, ...] = ()
    freeze_batch_stats: bool = False
    flow: bool = False
    mine_triplets: bool = False
    checkpoint_every_steps: int = 0
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    loss: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """Which corpus, AUs and subjects, and how examples are drawn.

    Attributes:
      corpus: folder name under the data directory.
      aus: AU numbers in the order of the network's outputs; () where all stages are of landmarks.
      protocol: named subject lists, e.g. "bp4d-3fold"; "all" tests every subject and trains on none.
      fold: 1-based fold whose subjects are the test subjects.
      fold_seed: 0 = the protocol's own folds; n > 0 = as many, drawn at random anew, the n-th redraw.
      frames: rule for the frames that train and are scored: "all", or "landmarks", without those whose
        landmarks are missing or listed as bad by the corpus's owner (JAA-Net's choice), or "aunet", without
        what AU-Net's lists lack; scores are on other frames then.
      alignment: the named alignment that the records must have.
      image_size: side of the network's input in pixels.
      inner_fraction: share of the training subjects held back to select epoch and thresholds, where the
        selection is honest.
      sampling: "temporal" (LAC, Algorithm 1) or "all" frames or consecutive windows.
      clip_length: frames of a clip, t in LAC.
      mixture: further corpora that are trained on, with the weight of each beside the main corpus's 1: of
        their training subjects in the same fold of their own first protocol. AUs that a corpus does not code
        are masked there; ``aus`` may hold those of all. Only the main corpus is evaluated.
      fraction: share of the training data that is used, in (0, 1].
      fraction_by: whether it is a share of the subjects, or of each one's frames, which leaves triplets and
        emotions of synthetic faces whole: they need no AU labels.
      loader: where pictures are decoded: "jpeg" = in threads, each time; "raw" = once, into a file beside the
        records that is mapped into memory; "device" = once, and then they stay on the accelerator, which cuts
        and colours them itself (stills and clips of one corpus, one device). Batches are the same, but for
        rounding of colours on the device.
      neighbor_distance: frames from the middle of a tuple to its neighbours, T in AUNet.
      subsequences: parts of a video from each of which one clip is drawn an epoch, N_sep in LAC.
    """

    corpus: str
    aus: tuple[int, ...]
    protocol: str
    fold: int = 1
    fold_seed: int = 0
    frames: Literal["all", "landmarks", "aunet"] = "all"
    alignment: str = "jaa256"
    image_size: int = 224
    inner_fraction: float = 0.2
    sampling: Literal["temporal", "all"] = "temporal"
    clip_length: int = 16
    mixture: Mapping[str, float] = field(default_factory=dict)
    fraction: float = 1.0
    fraction_by: Literal["subject", "frame"] = "subject"
    loader: Loader = "jpeg"
    neighbor_distance: int = 10
    subsequences: int = 1

    @property
    def protocol_name(self) -> str:
        """The protocol, and which redraw of it; what scores are labelled with."""
        return f"{self.protocol}, redrawn {self.fold_seed}" if self.fold_seed else self.protocol


@dataclass(frozen=True)
class Mesh:
    """Devices: ``fsdp`` of them share each parameter, the rest is data parallel."""

    fsdp: int = 1


@dataclass(frozen=True)
class Config:
    """One run.

    Attributes:
      name: key of ``jaxau.models.MODELS``.
      network: that network's fields.
      selection: what chooses epoch and thresholds. "honest": inner subjects, held back from training.
        "conventional": nothing; all training subjects train, the last epoch and threshold .5 are taken.
        "optimistic": the test subjects, after all training subjects trained, as much of the field does; its
        scores are labelled so and say nothing of new subjects.
      weights: prefix of parameters, such as "trunk" -> folder of imported weights (`jaxau import-weights`) or
        of a run, with which these begin, in each stage whose network has them; ``finetune`` comes after.
      finetune: checkpoint of an earlier run, perhaps with other AUs, from which each stage of AUs takes what
        fits (`jaxau.finetune`) before an earlier stage hands on its own; "" = fresh.
    """

    name: str
    data: DataConfig
    stages: Mapping[str, Stage]
    network: Mapping[str, Any] = field(default_factory=dict)
    selection: Selection = "honest"
    weights: Mapping[str, str] = field(default_factory=dict)
    finetune: str = ""
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    mesh: Mesh = field(default_factory=Mesh)

    def parameters_from(self, stage: str) -> str:
        """The stage whose model ``stage`` starts from, "" = none; on cached features, what made them."""
        start = self.stages[stage].start_from
        return self.stages[start].start_from if start and self.stages[start].cache else start


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
    """The form that ``ml_collections.config_flags`` can override from the command line."""
    return _in_order(to_dict(config))


def _in_order(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Nested ``ConfigDict``s that keep the order of their keys, because stages run in that order."""
    ordered = ml_collections.ConfigDict(sort_keys=False)
    for name, value in values.items():
        ordered[name] = _in_order(value) if isinstance(value, Mapping) else value
    return ordered


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dicts, as stored beside checkpoints."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build and check a ``Config``.

    Raises:
      ValueError: an unknown field (with the nearest known name), a value of the wrong type, or a value
        that breaks a rule; the message starts with the full path of the field.
    """
    config: Config = _build(Config, values, "config")
    _check(config)
    return config


def parse_argument(text: str, default: str) -> tuple[str, dict[str, str]]:
    """Split the part of ``--config=file.py:disfa,fold=1`` after the colon: ("disfa", {"fold": "1"})."""
    words = [word for word in text.split(",") if word]
    variant = words.pop(0) if words and "=" not in words[0] else default
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"config argument {text!r}: {wrong} is not of the form name=value")
    return variant, dict(word.split("=", 1) for word in words)


def check_values(cls: type, values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """``values`` as the fields of the dataclass ``cls`` that they are, by its annotations.

    Raises:
      ValueError: a value of the wrong type or none of its choices, with the path of the field.
    """
    hints = typing.get_type_hints(cls)
    return {name: _build(hints[name], value, f"{path}.{name}") for name, value in values.items()}


def check_names(known: Sequence[str], values: Iterable[str], path: str) -> None:
    """Refuse ``values`` that are not ``known`` fields of ``path``, naming the nearest known one."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
            raise ValueError(f"{path}.{name}: unknown field, {hint}")


def _build(kind: Any, value: Any, path: str) -> Any:
    """Convert ``value`` to the annotated type ``kind``, recursively."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: expected fields, got {value!r}")
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)
        check_names([f.name for f in fields], value, path)
        missing = [
            f.name
            for f in fields
            if f.name not in value
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ValueError(f"{path}: give a value for {', '.join(missing)}")
        return kind(**{n: _build(hints[n], v, f"{path}.{n}") for n, v in value.items()})
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{path}: {value!r} is not one of {list(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise ValueError(f"{path}: expected a tuple, got {value!r}")
        return tuple(_build(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: expected fields, got {value!r}")
        return {str(n): _build(arguments[1], v, f"{path}.{n}") for n, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Any:
        return _as_tuples(value)
    if type(value) is not kind:
        raise ValueError(f"{path}: expected {kind.__name__}, got {value!r}")
    return value


def _as_tuples(value: Any) -> Any:
    """JSON knows no tuples; a network's field is the same after a round trip."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _rule(holds: bool, path: str, value: Any, rule: str) -> None:
    if not holds:
        raise ValueError(f"config.{path}: {value!r} breaks the rule: {rule}")


def _check(config: Config) -> None:
    data = config.data
    if data.aus or any(stage.view != "landmarks" for stage in config.stages.values()):
        facs.check_aus(data.aus)
    _rule(data.fold >= 1, "data.fold", data.fold, "folds are counted from 1")
    _rule(data.fold_seed >= 0, "data.fold_seed", data.fold_seed, "0 for the protocol's folds, or a redraw")
    _rule(data.image_size >= 16, "data.image_size", data.image_size, "at least 16 pixels")
    _rule(0 < data.inner_fraction < 1, "data.inner_fraction", data.inner_fraction, "between 0 and 1")
    _rule(0 < data.fraction <= 1, "data.fraction", data.fraction, "above 0, up to 1")
    for corpus, weight in data.mixture.items():
        _rule(
            weight > 0 and corpus != data.corpus,
            f"data.mixture.{corpus}",
            weight,
            "above 0, of another corpus",
        )
    _rule(data.clip_length >= 1, "data.clip_length", data.clip_length, "at least 1 frame")
    _rule(data.subsequences >= 1, "data.subsequences", data.subsequences, "at least 1")
    distance = data.neighbor_distance
    _rule(distance >= 1, "data.neighbor_distance", distance, "at least 1 frame")
    _rule(config.seed >= 0, "seed", config.seed, "not negative")
    _rule(config.mesh.fsdp >= 1, "mesh.fsdp", config.mesh.fsdp, "at least 1 device")
    _rule(bool(config.stages), "stages", {}, "name at least one stage")
    earlier: list[str] = []
    for name, stage in config.stages.items():
        path = f"stages.{name}"
        _rule(stage.epochs >= 1, f"{path}.epochs", stage.epochs, "at least 1")
        _rule(stage.batch_size >= 1, f"{path}.batch_size", stage.batch_size, "at least 1")
        _rule(stage.max_steps >= 0, f"{path}.max_steps", stage.max_steps, "not negative")
        _rule(stage.accumulate >= 1, f"{path}.accumulate", stage.accumulate, "at least 1")
        _rule(
            stage.batch_size % stage.accumulate == 0,
            f"{path}.accumulate",
            stage.accumulate,
            f"a divisor of {path}.batch_size ({stage.batch_size})",
        )
        optim = stage.optim
        _rule(0 < optim.lr < float("inf"), f"{path}.optim.lr", optim.lr, "above 0 and finite")
        for part in ("weight_decay", "warmup_steps", "clip_norm"):
            _rule(getattr(optim, part) >= 0, f"{path}.optim.{part}", getattr(optim, part), "not negative")
        for part in ("b1", "b2"):
            _rule(0 <= getattr(optim, part) < 1, f"{path}.optim.{part}", getattr(optim, part), "in [0, 1)")
        _rule(0 <= stage.optim.ema_decay < 1, f"{path}.optim.ema_decay", stage.optim.ema_decay, "in [0, 1)")
        for part, factor in optim.multipliers.items():
            _rule(0 < factor < float("inf"), f"{path}.optim.multipliers.{part}", factor, "above 0 and finite")
        _rule(0 < optim.decay <= 1, f"{path}.optim.decay", optim.decay, "above 0, at most 1")
        _rule(optim.periods >= 1, f"{path}.optim.periods", optim.periods, "at least 1")
        warm = optim.schedule != "inverse_sqrt" or optim.warmup_steps >= 1
        rule = "at least 1, where the schedule is inverse_sqrt"
        _rule(warm, f"{path}.optim.warmup_steps", optim.warmup_steps, rule)
        _rule(not stage.flow or stage.view == "tuples", f"{path}.flow", stage.flow, 'only of view "tuples"')
        _rule(
            not stage.mine_triplets or stage.view == "triplets",
            f"{path}.mine_triplets",
            stage.mine_triplets,
            'only of view "triplets"',
        )
        for part in ("flip", "blur", "compression", "holes"):
            chance = getattr(stage.augment, part)
            _rule(0 <= chance <= 1, f"{path}.augment.{part}", chance, "a probability")
        for part, below in (("color_jitter", 1), ("rotation", 180), ("scale", 1), ("shift", 1)):
            amount = getattr(stage.augment, part)
            _rule(0 <= amount < below, f"{path}.augment.{part}", amount, f"in [0, {below})")
        _rule(
            stage.augment.resize_to == 0 or stage.augment.resize_to >= data.image_size,
            f"{path}.augment.resize_to",
            stage.augment.resize_to,
            f"0 or at least data.image_size ({data.image_size})",
        )
        _rule(
            stage.start_from in ("", *earlier),
            f"{path}.start_from",
            stage.start_from,
            f"empty or an earlier stage ({', '.join(earlier) or 'there is none'})",
        )
        _check_cache(config, path, stage)
        earlier.append(name)


def _check_cache(config: Config, path: str, stage: Stage) -> None:
    """Rules of a stage that caches, and of one that trains on what another has cached."""
    source = config.stages[stage.start_from] if stage.start_from else None
    _rule(0 <= stage.cache <= VARIANTS, f"{path}.cache", stage.cache, f"0 to {VARIANTS} variants")
    if stage.cache:
        _rule(stage.view == "frames", f"{path}.view", stage.view, '"frames", where cache is set')
        trains = source is not None and source.view == "frames" and not source.cache
        _rule(
            trains,
            f"{path}.start_from",
            stage.start_from,
            "a stage of frames that trains, where cache is set",
        )
    if stage.cache > 2:
        resize_to, side = stage.augment.resize_to, config.data.image_size
        rule = f"above data.image_size ({side}), so that there are corners to cut out for cache={stage.cache}"
        _rule(resize_to > side, f"{path}.augment.resize_to", resize_to, rule)
    caches = source is not None and source.cache > 0
    rule = 'a stage with cache, if and only if the view is "features" '
    _rule(caches == (stage.view == "features"), f"{path}.start_from", stage.start_from, rule)
    if source is not None and (stage.cache or caches):
        # The last stage's model is given faces as the cached ones were cut out.
        _rule(
            stage.augment.resize_to == source.augment.resize_to,
            f"{path}.augment.resize_to",
            stage.augment.resize_to,
            f"that of stages.{stage.start_from} ({source.augment.resize_to})",
        )
