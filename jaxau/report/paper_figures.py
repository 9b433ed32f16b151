"""The papers' figures from finished, scored runs: what `jaxau.reproduce` draws."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from flax import linen as nn
from flax import traverse_util
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jaxau import checkpoint, evaluate, facs, files, metrics, models
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.models import fan
from jaxau.models.aar import AttentionLoss, adjacency, attention_target
from jaxau.report import examples, expression_figures, face_figures, figures

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
    """Where each run's first stage of AUs looks for each AU, on the same test frames for all runs.

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
        stage = next(name for name in config.stages if models.role(config, name).detects_aus)
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


def draw_feature_maps(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """Mean size of the features at three resolutions, of ResNet18 and AU-FAN (AUNet, Fig. 6)."""
    drawn = {}
    for label, run in runs.items():
        model, faces, _ = _test_faces(run, make_data)
        layers = ("layer1_1", "layer2_1", "layer3_1")
        if model.network.trunk == "fan":
            layers = ("convnet_0", "convnet_2", "convnet_4")
        _, found = _look_inside(model, faces["image"], layers)
        maps = {f"{maps.shape[1]} x {maps.shape[2]}": _strength(maps) for maps in found.values()}
        drawn[f"{label}: mean size of the features at three resolutions"] = face_figures.map_grid(
            faces["image"], maps
        )
    return drawn


def draw_motion_maps(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """Features of the frame, and of what changes around it, in faces with AUs (AUNet, Fig. 9)."""
    drawn = {}
    for label, run in runs.items():
        model, faces, truth = _test_faces(run, make_data)
        _, found = _look_inside(model, faces["image"], ("conv1x1", "conv1x1_diff"))
        maps = {"static": _strength(found["conv1x1"]), "dynamic": _strength(found["conv1x1_diff"])}
        names = [
            "AU " + ", ".join(str(au) for au, there in zip(model.info["aus"], row, strict=True) if there)
            for row in truth
        ]
        drawn[
            f"{label}: mean size of the features of the frame, and of its differences from its neighbours"
        ] = face_figures.map_grid(_middle(faces["image"]), maps, names)
    return drawn


def draw_failures(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """The test faces that a detector gets most wrong, with the landmarks of its FAN (AUNet, Fig. 7)."""
    drawn = {}
    for label, run in runs.items():
        model, faces, truth = _test_faces(run, make_data, "failures")
        outputs, _ = _look_inside(model, faces["image"], ())
        landmarks = fan.to_pixels(fan.decode(outputs["heatmaps"])[0])
        probability = np.asarray(1 / (1 + np.exp(-outputs["logits"])))
        names = []
        for row, there in zip(probability, truth, strict=True):
            found = row >= np.array(model.info["thresholds"])
            aus = [facs.column(au).removeprefix("AU") for au in model.info["aus"]]
            missed = " ".join(au for au, f, t in zip(aus, found, there, strict=True) if t and not f)
            invented = " ".join(au for au, f, t in zip(aus, found, there, strict=True) if f and not t)
            names.append(f"missed: {missed or 'none'}\ninvented: {invented or 'none'}")
        drawn[f"{label}: the test faces that it gets most wrong, and the FAN's landmarks"] = (
            face_figures.faces(_middle(faces["image"]), np.asarray(landmarks), names)
        )
    return drawn


def draw_predicted_relations(
    runs: Mapping[str, Path], make_data: Callable[[Config], Any]
) -> dict[str, Figure]:
    """Correlations between the AUs of the truth and of the predictions, and as graphs (AUNet, Fig. 8)."""
    drawn = {}
    for label, run in runs.items():
        config, found = _last_predictions(run)
        scores = evaluate.read_scores(run / "eval" / config.data.corpus)
        stage = scores["stages"][list(config.stages)[-1]]
        threshold = [row["threshold"] for row in stage[evaluate.rules(stage)[-1]]["per_au"]]
        present = found["probability"] >= np.array(threshold)
        values = {"truth": found["truth"], f"{label}, predictions": present}
        panels = {name: metrics.adjacency(value, found["mask"]) for name, value in values.items()}
        caption = f"{label}: correlations between AUs"
        drawn[caption] = figures.matrices(panels, config.data.aus)
        drawn[f"{caption} beyond .2, as a graph"] = face_figures.relation_graph(panels, config.data.aus)
    return drawn


def draw_timeline(runs: Mapping[str, Path], make_data: Callable[[Config], Any]) -> dict[str, Figure]:
    """Predictions over the test video in which AUs come and go most, and the truth (AUNet, Fig. 10)."""
    drawn = {}
    for label, run in runs.items():
        config, found = _last_predictions(run)
        records = examples.choose_records(found)["sequence"]
        first = int(np.flatnonzero(found["record"] == records[0])[0])
        rows = (found["subject"] == found["subject"][first]) & (found["video"] == found["video"][first])
        order = np.flatnonzero(rows)[np.argsort(found["frame"][rows])]
        rate = make_data(config).manifest.get("fps") or _FRAME_RATE
        model = checkpoint.load_model(run)
        truth = found["truth"][order] * found["mask"][order]
        drawn[f"{label}: probability over one test video (band: the AU is present; line: threshold)"] = (
            figures.timeline(
                found["frame"][order] / rate,
                found["probability"][order],
                truth,
                config.data.aus,
                model.info["thresholds"],
            )
        )
    return drawn


_FRAME_RATE = 25.0  # of BP4D, for corpora that do not say theirs


def _last_predictions(run: Path) -> tuple[Config, evaluate.Predictions]:
    config = _config(run)
    found = evaluate.read_predictions(run / "eval" / config.data.corpus, list(config.stages)[-1])
    return config, found


def _look_inside(
    model: checkpoint.Model, images: NDArray[np.uint8], layers: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, NDArray[np.floating]]]:
    """A network's outputs for faces, and the outputs (n, h, w, c) of those of its layers."""
    network = model.network.clone(flip=False)  # of the faces as they are

    def chosen(module: nn.Module, _: str) -> bool:
        return module.name in layers

    outputs, inner = network.apply(
        model.variables, images, train=False, capture_intermediates=chosen, mutable=["intermediates"]
    )
    leaves = traverse_util.flatten_dict(inner.get("intermediates", {}))
    return outputs, {path[-2]: np.asarray(value[0]) for path, value in leaves.items()}


def _strength(maps: NDArray[np.floating]) -> NDArray[np.floating]:
    """The mean absolute value over channels: (n, h, w, c) -> (n, h, w)."""
    return np.abs(maps).mean(-1)


def _middle(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle frames of tuples (n, 3, h, w, 3); stills as they are."""
    return images[:, 1] if images.ndim == 5 else images


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
    run: Path, make_data: Callable[[Config], Any], kind: str = "localisation"
) -> tuple[checkpoint.Model, dict[str, NDArray[Any]], NDArray[np.integer]]:
    """The model of a run's first stage that detects AUs, test faces of a kind (that show many AUs), and their
    labels."""
    config = _config(run)
    stage = next(name for name in config.stages if models.role(config, name).detects_aus)
    found = evaluate.read_predictions(run / "eval" / config.data.corpus, stage)
    records = examples.choose_records(found)[kind]
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
    "feature maps": draw_feature_maps,
    "landmarks of failures": draw_failures,
    "predicted relations": draw_predicted_relations,
    "motion maps": draw_motion_maps,
    "timeline": draw_timeline,
    "fractions": expression_figures.draw_fractions,
    "losses": expression_figures.draw_losses,
    "embedding": expression_figures.draw_embedding,
    "picture embedding": partial(expression_figures.draw_embedding, field="picture_embedding"),
    "retrieval": expression_figures.draw_retrieval,
}
"""What a figure can be drawn as."""
