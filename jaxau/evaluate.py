"""Predictions of a network over a part of a corpus, and their scores."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxau import baselines, checkpoint, files, metrics, sharding
from jaxau import config as config_lib
from jaxau.config import Config

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


def run(workdir: Path, make_data: Callable[[Config], Any]) -> Path:
    """Score every finished stage of a run, and the baselines, on the test subjects, once.

    Writes ``scores.json`` and predictions (see `read_predictions`) to the folder that is returned,
    ``<workdir>/eval/<corpus>``. A stage that was scored with the same parameters on the same data is skipped.

    Args:
      workdir: of the run.
      make_data: as for ``train.run``.

    Raises:
      ValueError: no finished stage; a data set other than the one trained on, in which subjects may lie in
        other folds; or stages that are not finished, after the others are scored.
    """
    config = config_lib.from_dict(checkpoint.read_info(workdir)["config"])
    data, aus = make_data(config), config.data.aus
    folder = workdir / "eval" / config.data.corpus
    scores = read_scores(folder) if (folder / "scores.json").is_file() else {}
    described = _describe(config, data)
    if any(scores.get(key) != described[key] for key in ("manifest_hash", "subjects")):
        scores = {}
    scores = {
        **described,
        "stages": scores.get("stages", {}),
        "baselines": scores.get("baselines"),
    }
    mesh = sharding.make_mesh(config.mesh.fsdp)
    unfinished = [s for s in config.stages if not (workdir / s / "model" / "model.json").is_file()]
    for stage in config.stages:
        if stage in unfinished:
            continue
        model = checkpoint.load_model(workdir / stage)
        check_same_data(model.info["manifest_hash"], data.manifest["hash"], f"stage {stage} of {workdir}")
        if scores["stages"].get(stage, {}).get("hash") == model.info["hash"]:
            continue
        batches = data.evaluate(stage, "test", config.stages[stage].batch_size)
        variables = jax.device_put(model.variables, NamedSharding(mesh, PartitionSpec()))
        found = predict(make_eval_step(model.network), variables, tqdm(batches, f"test {stage}"), mesh)
        arguments = (found["probability"], found["truth"], found["mask"])
        scores["stages"][stage] = {
            "hash": model.info["hash"],
            "epoch": model.info["epoch"],
            "at_half": metrics.score(*arguments, 0.5, found["subject"], aus),
            "honest": metrics.score(*arguments, np.array(model.info["thresholds"]), found["subject"], aus),
        }
        _write_predictions(folder, stage, found)
    if scores["baselines"] is None:
        scores["baselines"] = _baselines(config, data, folder)
    files.write_json(folder / "scores.json", scores)
    if unfinished:
        raise ValueError(
            f"stages {unfinished} of {workdir} are not finished and have no scores (the others have, in "
            f"{folder}); go on with launch.train"
        )
    return folder


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
    stills = [name for name, stage in config.stages.items() if stage.view == "frames"]
    if not stills:
        return {}
    size = config.stages[stills[0]].batch_size
    probability, found = baselines.pixels_logistic_regression(
        data.evaluate(stills[0], "train", size), data.evaluate(stills[0], "test", size)
    )
    truth, mask, subject, aus = found["au"], found["au_mask"], found["subject"], config.data.aus
    kept = {"probability": probability, "truth": truth, "mask": mask, "subject": subject}
    _write_predictions(folder, "pixels_logistic_regression", kept)
    return {
        "always_on": metrics.always_on(truth, mask, subject, aus),
        "pixels_logistic_regression": metrics.score(probability, truth, mask, 0.5, subject, aus),
    }


def _describe(config: Config, data: Any) -> dict[str, Any]:
    split = data.split
    return {
        "corpus": config.data.corpus,
        "synthetic": data.manifest["synthetic"],
        "trained_on": data.manifest["description"],
        "protocol": config.data.protocol,
        "fold": config.data.fold,
        "frames": config.data.frames,
        "selection": "honest",
        "manifest_hash": data.manifest["hash"],
        "aus": list(config.data.aus),
        "subjects": {part: list(getattr(split, part)) for part in ("train", "inner", "test")},
    }
