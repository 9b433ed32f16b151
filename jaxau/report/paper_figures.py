"""The papers' figures from finished, scored runs: what `jaxau.reproduce` draws."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jaxau import checkpoint, evaluate, facs, files
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.models.aar import AttentionLoss, adjacency, attention_target
from jaxau.report import examples, figures

Draw = Callable[[Mapping[str, Path], Callable[[Config], Any]], dict[str, Figure]]


def draw_epochs(
    key: str, title: str, runs: Mapping[str, Path], make_data: Callable[[Config], Any]
) -> dict[str, Figure]:
    """A value of each AU over the epochs of each run's last stage, which the loss logs as ``key``.

    Epoch 0 is the share of positive labels in the whole training set, with which LAC's weights begin.

    Args:
      key: "distribution" or "recall".
      title: of the value.
      runs: label -> folder of the run.
      make_data: as for ``train.run``.

    Returns:
      Caption -> figure, one for each run.

    Raises:
      ValueError: the run's loss logs no such value.
    """
    drawn = {}
    for label, run in runs.items():
        config = _config(run)
        names, stage = [f"{key}/{facs.column(au)}" for au in config.data.aus], list(config.stages)[-1]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [row for row in lines if row["stage"] == stage and names[0] in row]
        if not rows:
            raise ValueError(f"{run}: its loss logs no {key!r} of stage {stage}, so it cannot be drawn")
        counts = make_data(config).statistics
        start = counts["n_occ"] / np.maximum(counts["n_coded"], 1)
        values = np.array([start, *([row[name] for name in names] for row in rows)])
        epoch = np.array([0, *(row["epoch"] for row in rows)], float)
        caption = f"{title} over the epochs of stage {stage}, {label} (epoch 0: the whole training set)"
        drawn[caption] = figures.epoch_lines(epoch, {title: values}, config.data.aus)
    return drawn


def draw_maps(
    kind: str, title: str, runs: Mapping[str, Path], make_data: Callable[[Config], Any]
) -> dict[str, Figure]:
    """Where each run's first stage looks for each AU, on the same test frames for all runs.

    Args:
      kind: of ``examples.choose_records``; the frames are chosen from the predictions of the last run.
      title: of the frames.
      runs: label -> folder of the run, the paper's own network last.
      make_data: as for ``train.run``.

    Returns:
      Caption -> figure, one for each run.

    Raises:
      ValueError: a run's first stage is not one of stills.
    """
    drawn: dict[str, Figure] = {}
    chosen: dict[str, NDArray[np.int32]] = {}
    for label, run in reversed(list(runs.items())):
        config = _config(run)
        stage = next(iter(config.stages))
        if config.stages[stage].view != "frames":
            raise ValueError(f"{run}: stage {stage} is not one of stills; activation maps are of stills")
        if not chosen:
            found = evaluate.read_predictions(run / "eval" / config.data.corpus, stage)
            chosen = {kind: examples.choose_records(found)[kind]}
        batches = make_data(config).evaluate(stage, "test", config.stages[stage].batch_size)
        shown = examples.read_examples(checkpoint.load_model(run / stage), batches, chosen)[kind]
        caption = f"{label}, {title} (stage {stage}; number: probability; dot: the AU is present)"
        drawn[caption] = figures.attention_overlay(
            shown["images"], shown["attention"], shown["aus"], shown["probability"], shown["truth"]
        )
    return dict(reversed(list(drawn.items())))


def draw_combined_maps(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """Attention maps of each AU, and their maximum over the AUs that occur (AAR, Fig. 5)."""
    drawn = {}
    for label, run in runs.items():
        model, faces, truth = _test_faces(run, make_data)
        attention, probability = _attend(model, faces["image"])
        drawn[f"{label}: maps of each AU, and the maximum over the AUs present"] = figures.attention_overlay(
            faces["image"], attention, model.info["aus"], probability, truth, combined=True
        )
    return drawn


def draw_disturbed_maps(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """Predefined and learned maps of faces that lie askew or are partly hidden (AAR, Fig. 6).

    The landmarks stay where an undisturbed face would have them, as after a wrong alignment, so that the
    predefined maps go wrong.
    """
    drawn = {}
    for label, run in runs.items():
        model, faces, truth = _test_faces(run, make_data)
        side = faces["image"].shape[1]
        names, images, maps, chosen = [], [], [], []
        for row, disturb in enumerate(_DISTURBANCES.values()):
            face = row % len(truth)
            image = disturb(faces["image"][face])
            attention, probability = _attend(model, image[None])
            cells = attention.shape[1]
            wanted = attention_target(faces["au_centers"][face], side, cells, AttentionLoss().delta)
            names += ["predefined", "learned"]
            images += [image, image]
            maps += [np.asarray(wanted), attention[0]]
            chosen += [(probability[0], truth[face])] * 2
        drawn[f"{label}: maps of disturbed faces ({', '.join(_DISTURBANCES)})"] = figures.attention_overlay(
            np.stack(images),
            np.stack(maps),
            model.info["aus"],
            np.stack([probability for probability, _ in chosen]),
            np.stack([present for _, present in chosen]),
            names=names,
        )
    return drawn


def draw_adjacency(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """What the graph layers have learned of the relations between AUs: N(ReLU(U U^T)) (AAR, Eq. 10)."""
    drawn = {}
    for label, run in runs.items():
        model = checkpoint.load_model(run)
        layers = model.variables["params"]["graph_network"]
        panels = {f"layer {i}": np.asarray(adjacency(layers[f"layer{i}"]["relations"])) for i in (1, 2)}
        aus = model.info["aus"]
        panels = {title: matrix - np.eye(len(aus)) for title, matrix in panels.items()}
        drawn[f"{label}: learned relations of AUs, without the identity"] = figures.matrices(panels, aus)
    return drawn


def _rotated(image: NDArray[np.uint8], degrees: float, shift: float) -> NDArray[np.uint8]:
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, degrees, 1)
    matrix[:, 2] += shift * side
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(128, 128, 128)).astype(np.uint8)


def _hidden(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey bar over the eye at the left of the picture."""
    image, side = image.copy(), image.shape[0]
    image[int(0.25 * side) : int(0.5 * side), int(0.1 * side) : int(0.48 * side)] = 128
    return image


_DISTURBANCES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "turned by 12°, an eye hidden": lambda image: _hidden(_rotated(image, 12, 0.03)),
    "turned by 20° and shifted": lambda image: _rotated(image, -20, 0.06),
    "turned by 60°": lambda image: _rotated(image, 60, 0.0),
}


def _test_faces(
    run: Path, make_data: Callable[[Config], Any]
) -> tuple[checkpoint.Model, dict[str, NDArray[Any]], NDArray[np.integer]]:
    """The model of a run's first stage, test faces that show many AUs, and their labels."""
    config = _config(run)
    stage = next(iter(config.stages))
    found = evaluate.read_predictions(run / "eval" / config.data.corpus, stage)
    records = examples.choose_records(found)["localisation"]
    batches = make_data(config).evaluate(stage, "test", config.stages[stage].batch_size)
    faces = examples.find_faces(batches, records, ("image", "au", "au_centers"))
    return checkpoint.load_model(run / stage), faces, faces["au"]


def _attend(
    model: checkpoint.Model, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Attention (n, h, w, k) and probability (n, k) of stills (n, s, s, 3)."""
    outputs: Any = model.network.apply(model.variables, images, train=False)
    return np.asarray(outputs["attention"]), np.asarray(1 / (1 + np.exp(-outputs["logits"])))


def _config(run: Path) -> Config:
    return config_lib.from_dict(files.read_json(run / "config.json"))


DRAW: dict[str, Draw] = {
    "distribution": partial(draw_epochs, "distribution", "share of positive labels in the epoch's sample"),
    "recall": partial(draw_epochs, "recall", "recall on the training frames"),
    "localisation": partial(draw_maps, "localisation", "test faces of many AUs"),
    "sequence": partial(draw_maps, "sequence", "frames of one test video in order"),
    "failures": partial(draw_maps, "failures", "the test faces that it gets most wrong"),
    "combined maps": draw_combined_maps,
    "disturbed maps": draw_disturbed_maps,
    "adjacency": draw_adjacency,
}
"""What a figure can be drawn as."""
