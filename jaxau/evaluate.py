"""Predictions of a network over a part of a corpus, and their scores."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import ArrayLike
from tqdm import tqdm

from jaxau import baselines, checkpoint, feature_cache, files, metrics, models, sharding
from jaxau import config as config_lib
from jaxau.config import Config

Predictions = dict[str, np.ndarray]

RULES = ("at_half", "honest", "optimistic", "model")
"""Names of a stage's scores, by who chose the thresholds: nobody, inner subjects, test subjects, or whoever
chose them on the corpus that the model was trained on."""

Attributes = dict[str, dict[str, list[int]]]
"""Attribute of a subject, such as "sex" -> its value -> the numbers of the subjects who have it."""


def make_eval_step(network: nn.Module) -> Any:
    """Jit-compiled ``(variables, *inputs) -> probability (b, [t], k)``."""

    @jax.jit
    def step(variables: Mapping[str, Any], *inputs: jax.Array) -> jax.Array:
        outputs: Any = network.apply(variables, *inputs, train=False)
        return jax.nn.sigmoid(outputs["logits"])

    return step


def predict(
    eval_step: Any,
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
    inputs: Sequence[str] = ("image",),
) -> Predictions:
    """Run over all batches; padding is dropped and clips are laid out frame by frame.

    Args:
      eval_step: from `make_eval_step`.
      variables: of its network.
      batches: of this process.
      mesh: devices.
      inputs: fields of a batch that the network is given.

    Returns:
      ``probability``, ``truth``, ``mask`` (n, k) and ``subject``, ``video``, ``frame``, ``record`` (n,).
    """
    parts: list[Predictions] = []
    for batch in batches:
        given = sharding.shard_batch({name: batch[name] for name in inputs}, mesh)
        probability = eval_step(variables, *given.values())
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


def cross_entropy(found: Predictions) -> float:
    """Mean binary cross-entropy of all coded labels, in nats."""
    probability = np.clip(found["probability"].astype(np.float64), 1e-7, 1 - 1e-7)
    each = -np.where(found["truth"] > 0, np.log(probability), np.log(1 - probability))
    return float(each[found["mask"].astype(bool)].mean())


def make_terms_step(network: nn.Module, loss: models.Loss, role: models.Role) -> Any:
    """Jit-compiled ``(variables, loss_state, batch) -> (unmasked examples, terms)`` as in evaluation."""

    @jax.jit
    def step(variables: Any, loss_state: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        given, named = models.arguments(role, batch, train=True)
        outputs: Any = network.apply(variables, *given, train=False, **named)
        value, terms, _ = loss(outputs, batch, loss_state)
        return batch["mask"].sum(), {"loss": value, **terms}

    return step


def mean_terms(
    terms_step: Any,
    variables: Mapping[str, Any],
    loss_state: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
) -> dict[str, float]:
    """Means over all examples of the terms of a loss, by `make_terms_step`.

    Raises:
      ValueError: no examples.
    """
    total: dict[str, float] = {}
    count = 0
    for batch in batches:
        n, terms = jax.device_get(terms_step(variables, loss_state, sharding.shard_batch(batch, mesh)))
        count += int(n)
        total = {name: total.get(name, 0.0) + int(n) * float(value) for name, value in terms.items()}
    if not count:
        raise ValueError("no examples to evaluate: the part of the corpus is empty")
    return {name: value / count for name, value in total.items()}


def run(workdir: Path, make_data: Callable[[Config], Any]) -> Path:
    """Score every finished stage of a run, and the baselines, on the test subjects of its fold.

    Writes ``scores.json`` and predictions (see `read_predictions`) to the folder that is returned,
    ``<workdir>/eval/<corpus>``. A stage that was scored with the same parameters on the same data is skipped.

    A stage that detects AUs has scores at threshold .5 (``at_half``) and at the model's thresholds, under the
    name of the run's selection: ``honest``, or ``optimistic`` where the test subjects had chosen them; a
    conventional run chooses none. ``groups``, ``events`` and ``relations`` are of the last of them, see
    `describe_stage`. Of the other stages, ``other_stages`` holds the means of their loss and its terms.

    Args:
      workdir: of the run.
      make_data: as for ``train.run``.

    Raises:
      ValueError: no finished stage; a data set other than the one trained on, in which subjects may lie in
        other folds; or stages that are not finished, after the others are scored.
    """
    info = checkpoint.read_info(workdir)
    config = config_lib.from_dict(info["config"])
    data = make_data(config)
    check_same_data(info["manifest_hash"], data.manifest["hash"], str(workdir))
    described = {
        "corpus": config.data.corpus,
        "synthetic": data.manifest["synthetic"],
        "trained_on": data.manifest["description"],
        "protocol": config.data.protocol_name,
        "fold": config.data.fold,
        "frames": config.data.frames,
        "selection": config.selection,
        "manifest_hash": data.manifest["hash"],
        "aus": list(config.data.aus),
        "attributes": _attributes(data),
        "subjects": {part: list(getattr(data.split, part)) for part in ("train", "inner", "test")},
    }
    rule = "" if config.selection == "conventional" else config.selection
    return _score_stages(workdir, config, data, described, rule, partial(_baselines, config, data))


def cross_corpus(
    workdir: Path, make_data: Callable[[Config], Any], corpus: str, coded: Sequence[int]
) -> Path:
    """Score every finished stage of a run on all subjects of a corpus that it was not trained on.

    As `run`, on the AUs that both have; ``not_coded`` lists those of the model that the corpus does not code,
    ``not_predicted`` those of the corpus that the model lacks. Nothing is learned or chosen there: the
    thresholds are the model's (``model``), and the only baseline is always_on. From which intensity an AU
    counts as present is the corpus's own rule. That no person is in both corpora is for the caller to know.

    Args:
      workdir: of the run.
      make_data: as for ``train.run``; knows the protocol "all", which tests every subject.
      corpus: name of the other corpus.
      coded: AUs that it codes.

    Raises:
      ValueError: as `run`, the corpus that was trained on, another alignment, or no AU in common.
    """
    info = checkpoint.read_info(workdir)
    config = config_lib.from_dict(info["config"])
    if corpus in (config.data.corpus, *config.data.mixture):
        raise ValueError(
            f"corpus {corpus!r}: {workdir} was trained on it, so that subjects were learned from; leave the "
            "corpus away to score the test subjects of its fold"
        )
    common = tuple(au for au in config.data.aus if au in coded)
    if not common:
        raise ValueError(
            f"corpus {corpus!r}: codes AUs {list(coded)}, the model of {workdir} predicts "
            f"{list(config.data.aus)}; they have none in common, choose another corpus"
        )
    everyone = dataclasses.replace(
        config.data, corpus=corpus, aus=common, protocol="all", fold=1, fold_seed=0, frames="all"
    )
    data = make_data(dataclasses.replace(config, data=everyone))
    trained = files.read_json(workdir / "data.json")["subjects"]
    described = {
        "corpus": corpus,
        "synthetic": data.manifest["synthetic"] or info["synthetic"],
        "trained_on": info["trained_on"],
        "trained_on_corpus": config.data.corpus,
        "protocol": "all",
        "fold": "every subject",
        "frames": "all",
        "selection": f"cross-corpus: thresholds of the model ({config.selection})",
        "manifest_hash": data.manifest["hash"],
        "aus": list(common),
        "not_coded": [au for au in config.data.aus if au not in coded],
        "not_predicted": [au for au in coded if au not in config.data.aus],
        "attributes": _attributes(data),
        "subjects": {**trained, "test": list(data.split.test)},
    }

    def baselines(folder: Path) -> dict[str, Any]:
        stage = next(s for s in config.stages if (folder / f"{s}_predictions.npz").is_file())
        found = read_predictions(folder, stage)
        return {"always_on": metrics.always_on(found["truth"], found["mask"], found["subject"], common)}

    config = dataclasses.replace(config, stages=_detecting(config))
    rule = "" if config.selection == "conventional" else "model"
    return _score_stages(workdir, config, data, described, rule, baselines)


def _score_stages(
    workdir: Path,
    config: Config,
    data: Any,
    described: dict[str, Any],
    rule: str,
    baselines: Callable[[Path], dict[str, Any]],
) -> Path:
    """Score what is not scored yet.

    Args:
      workdir: of the run.
      config: of the run.
      data: whose test subjects are scored.
      described: what the scores stand on.
      rule: name of the scores at the model's thresholds; "" = none.
      baselines: scores of the baselines, given the folder.
    """
    folder, aus = workdir / "eval" / described["corpus"], described["aus"]
    scores = read_scores(folder) if (folder / "scores.json").is_file() else {}
    if any(scores.get(key) != described[key] for key in ("manifest_hash", "subjects", "selection")):
        scores = {}
    scores = scores | described
    stages = scores.setdefault("stages", {})
    columns = [config.data.aus.index(au) for au in aus]
    mesh = sharding.make_mesh(config.mesh.fsdp)
    trained = [s for s in config.stages if not config.stages[s].cache]
    finished = [s for s in trained if (workdir / s / "model" / "model.json").is_file()]
    detecting = [s for s in finished if s in _detecting(config)]
    for stage in [s for s in finished if s not in detecting]:
        found = scores.setdefault("other_stages", {})
        found[stage] = _score_other(workdir, config, stage, data, found.get(stage, {}), mesh)
    for stage in detecting:
        model = checkpoint.load_model(workdir / stage)
        if stages.get(stage, {}).get("hash") == model.info["hash"]:
            continue
        batches = test_batches(workdir, config, stage, data, folder, mesh)
        variables = jax.device_put(model.variables, NamedSharding(mesh, PartitionSpec()))
        step, shown = make_eval_step(model.network), tqdm(batches, f"test {stage}")
        found = predict(step, variables, shown, mesh, models.role(config, stage).inputs)
        found["probability"] = found["probability"][:, columns]
        chosen = np.array(model.info["thresholds"])[columns]
        arguments = (found["probability"], found["truth"], found["mask"])
        stages[stage] = {"hash": model.info["hash"], "epoch": model.info["epoch"]}
        stages[stage]["at_half"] = metrics.score(*arguments, 0.5, found["subject"], aus)
        if rule:
            stages[stage][rule] = metrics.score(*arguments, chosen, found["subject"], aus)
        if stage == detecting[-1]:
            scores |= describe_stage(found, chosen, aus, described["attributes"])
        _write_predictions(folder, stage, found)
    if not scores.setdefault("baselines", {}) and detecting:
        scores["baselines"] = baselines(folder)
    files.write_json(folder / "scores.json", scores)
    if unfinished := [stage for stage in trained if stage not in finished]:
        raise ValueError(
            f"stages {unfinished} of {workdir} are not finished and have no scores (the others have, in "
            f"{folder}); go on with launch.train"
        )
    return folder


def _detecting(config: Config) -> dict[str, config_lib.Stage]:
    """The stages whose models detect AUs."""
    return {
        name: stage
        for name, stage in config.stages.items()
        if not stage.cache and models.role(config, name).detects_aus
    }


def _score_other(
    workdir: Path, config: Config, name: str, data: Any, known: dict[str, Any], mesh: jax.sharding.Mesh
) -> dict[str, Any]:
    """Scores of a stage that detects no AUs: the means of its loss and its terms over the test subjects."""
    model = checkpoint.load_model(workdir / name)
    if known.get("hash") == model.info["hash"]:
        return known
    loss, everywhere = models.create_loss(config, name), NamedSharding(mesh, PartitionSpec())
    variables, state = jax.device_put((model.variables, loss.init(data.statistics)), everywhere)
    batches = tqdm(data.evaluate(name, "test", config.stages[name].batch_size), f"test {name}")
    role = models.role(config, name)
    terms = mean_terms(make_terms_step(model.network, loss, role), variables, state, batches, mesh)
    return {"hash": model.info["hash"], "epoch": model.info["epoch"], "terms": terms}


def test_batches(
    workdir: Path, config: Config, name: str, data: Any, folder: Path, mesh: jax.sharding.Mesh
) -> Iterable[Mapping[str, np.ndarray]]:
    """Batches of the test subjects as the stage's network wants them; features are cached first."""
    stage = config.stages[name]
    batches = data.evaluate(name, "test", stage.batch_size)
    if stage.view != "features":
        return batches
    own = data.manifest["hash"] == files.read_json(workdir / "data.json")["manifest_hash"]
    cache = (workdir if own else folder) / stage.start_from
    source = checkpoint.load_model(workdir / config.parameters_from(name))
    feature_cache.fill(cache, stage.start_from, config.stages[stage.start_from], ["test"], data, source, mesh)
    return feature_cache.attach(cache, batches)


def rules(stage: Mapping[str, Any]) -> list[str]:
    """The names of a stage's sets of scores, by rule for thresholds; the last is what the run stands for."""
    return [rule for rule in RULES if rule in stage]


def describe_stage(
    found: Predictions, threshold: ArrayLike, aus: Sequence[int], attributes: Attributes
) -> dict[str, Any]:
    """What more there is to say of a stage than the scores of its frames.

    Args:
      found: predictions, see `predict`.
      threshold: as for ``metrics.score``.
      aus: the k AU numbers.
      attributes: of the subjects.

    Returns:
      ``groups``: attribute -> value -> ``metrics.score`` over the subjects who have it; ``events``:
      ``metrics.event_score``; ``relations``: ``adjacency``, how far the correlations of predicted
      occurrence are from those of the true one (``metrics.l2_distance``), and ``dependency``
      (``metrics.dependency_f1``).
    """
    probability, truth, mask, subject = (found[key] for key in ("probability", "truth", "mask", "subject"))
    thresholds = np.broadcast_to(threshold, probability.shape)
    present = probability >= thresholds
    groups: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few subjects; each group's score says so itself
        for attribute, values in attributes.items():
            groups[attribute] = {}
            for value, subjects in values.items():
                rows = np.isin(subject, subjects)
                groups[attribute][value] = metrics.score(
                    probability[rows], truth[rows], mask[rows], thresholds[rows], subject[rows], aus
                )
    return {
        "groups": groups,
        "events": metrics.event_score(present, truth, mask, subject, found["video"], found["frame"], aus),
        "relations": {
            "adjacency": metrics.l2_distance(present, truth, mask),
            "dependency": metrics.dependency_f1(present, truth, mask),
        },
    }


def _attributes(data: Any) -> Attributes:
    """What the manifest says of the test subjects."""
    known = data.manifest.get("attributes", {})
    found: Attributes = {}
    for number, subject in enumerate(data.manifest["subjects"]):
        if subject["name"] in data.split.test:
            for attribute, value in known.get(subject["name"], {}).items():
                found.setdefault(attribute, {}).setdefault(value, []).append(number)
    return {attribute: dict(sorted(values.items())) for attribute, values in found.items()}


def check_same_data(trained: str, given: str, what: str) -> None:
    """Refuse a data set that a run was not trained on: its folds may test subjects that were learned from."""
    if trained != given:
        raise ValueError(
            f"{what} was trained on the data set {trained[:12]}, but --data_dir holds {given[:12]} under the "
            "same name; give the folder of the one trained on, or train in another --workdir"
        )


def read_scores(folder: Path) -> dict[str, Any]:
    """The content of ``scores.json``.

    Raises:
      ValueError: there is none.
    """
    path = folder / "scores.json"
    if not path.is_file():
        raise ValueError(f"{path}: not found; run launch.evaluate first")
    return files.read_json(path)


def _write_predictions(folder: Path, name: str, found: Predictions) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}_predictions.npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **found)


def read_predictions(folder: Path, name: str) -> Predictions:
    """What `run` predicted with a stage, or with the baseline "pixels_logistic_regression".

    Raises:
      ValueError: there are none.
    """
    path = folder / f"{name}_predictions.npz"
    if not path.is_file():
        raise ValueError(f"{path}: not found; delete {folder} and run launch.evaluate again")
    with np.load(path) as arrays:
        return dict(arrays)


def _baselines(config: Config, data: Any, folder: Path) -> dict[str, Any]:
    seen = [s for s, stage in _detecting(config).items() if stage.view in ("frames", "tuples")]
    if not seen:
        return {}

    def stills(part: str) -> Iterable[Mapping[str, np.ndarray]]:
        for batch in data.evaluate(seen[0], part, config.stages[seen[0]].batch_size):
            image = batch["image"]
            yield {**batch, "image": image[:, 1] if image.ndim == 5 else image}

    probability, found = baselines.pixels_logistic_regression(stills("train"), stills("test"))
    truth, mask, subject, aus = found["au"], found["au_mask"], found["subject"], config.data.aus
    kept = {"probability": probability, "truth": truth, "mask": mask, "subject": subject}
    _write_predictions(folder, "pixels_logistic_regression", kept)
    return {
        "always_on": metrics.always_on(truth, mask, subject, aus),
        "pixels_logistic_regression": metrics.score(probability, truth, mask, 0.5, subject, aus),
    }
