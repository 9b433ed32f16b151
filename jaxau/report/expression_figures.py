"""Figures of networks that learn expressions before AUs, from scored runs (GTLE-Net, Figs. 4 to 7)."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxau import checkpoint, evaluate, files, models
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.report import embeddings
from jaxau.report.figures import SERIES, STYLE, WIDTH

MakeData = Callable[[Config], Any]

_FACES = 2000  # at most, in a scatter plot
_QUERIES, _FOUND = 6, 7


@matplotlib.rc_context(STYLE)
def draw_fractions(runs: Mapping[str, Path], make_data: MakeData) -> dict[str, Figure]:
    """Mean F1 and accuracy by share of the training data, a run for each share (GTLE-Net, Fig. 4)."""
    shares, values = [], []
    for run in runs.values():
        config = _config(run)
        scores = evaluate.read_scores(run / "eval" / config.data.corpus)
        stage = scores["stages"][list(config.stages)[-1]]
        mean = stage[evaluate.rules(stage)[-1]]["mean"]
        shares.append(config.data.fraction)
        values.append([mean["f1"], mean["accuracy"]])
    figure = Figure(figsize=(0.75 * WIDTH, 0.3 * WIDTH), layout="constrained")
    for axes, name, column in zip(
        figure.subplots(1, 2), ("F1", "accuracy"), np.array(values, float).T, strict=True
    ):
        axes.plot(np.arange(len(shares)), 100 * column, "o-", color=SERIES[0])
        for place, value in enumerate(column):
            axes.annotate(f"{100 * value:.1f}", (place, 100 * value), (0, 6), textcoords="offset points")
        axes.set_xticks(np.arange(len(shares)), [f"{100 * share:g} %" for share in shares])
        axes.set_ylabel(f"mean {name}, %")
        axes.set_xlabel("of the training frames")
        axes.margins(0.15, 0.25)
    return {"mean F1 and accuracy on the test subjects": figure}


@matplotlib.rc_context(STYLE)
def draw_losses(runs: Mapping[str, Path], make_data: MakeData) -> dict[str, Figure]:
    """Training loss, and cross-entropy on the inner subjects, by epoch of each run's last stage (Fig. 5).

    Raises:
      ValueError: a run that has no inner subjects.
    """
    figure = Figure(figsize=(0.85 * WIDTH, 0.32 * WIDTH), layout="constrained")
    training, validation = figure.subplots(1, 2)
    for color, (label, run) in zip(SERIES, runs.items(), strict=False):
        config = _config(run)
        name = list(config.stages)[-1]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["stage"] == name and "loss" in line]
        epochs = [line for line in lines if line["stage"] == name and "inner/cross_entropy" in line]
        if not epochs:
            raise ValueError(f"{run}: no epoch was scored on inner subjects; use config.selection=honest")
        numbers = sorted({line["epoch"] for line in steps})
        means = [np.mean([line["loss"] for line in steps if line["epoch"] == n]) for n in numbers]
        training.plot(numbers, np.array(means) / len(config.data.aus), "o-", color=color, label=label)
        validation.plot(
            [line["epoch"] for line in epochs],
            [line["inner/cross_entropy"] for line in epochs],
            "o-",
            color=color,
        )
    for axes in (training, validation):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    training.set(xlabel="epoch", ylabel="loss per AU", title="training frames")
    validation.set(xlabel="epoch", ylabel="cross-entropy per AU", title="inner subjects")
    figure.legend(loc="outside lower center", ncols=len(runs))
    return {"loss on the training frames, and on people who do not train": figure}


def draw_embedding(
    runs: Mapping[str, Path], make_data: MakeData, field: str = "embedding"
) -> dict[str, Figure]:
    """Embeddings of the test faces in two dimensions, by AU combination (GTLE-Net, Fig. 6).

    ``field`` is that of the network's outputs, as of `embed`.
    """
    drawn = {}
    for label, run in runs.items():
        faces = embed(run, make_data, field)
        groups = embeddings.combinations(faces["au"], faces["au_mask"], _config(run).data.aus)
        spread = embeddings.average_variance(faces["embedding"], groups)
        said = "" if spread is None else f"; variance within a combination: {spread:.2f} of all"
        points = embeddings.project(faces["embedding"])
        drawn[f"{label}: expression embedding of the test faces by AU combination{said}"] = (
            embeddings.scatter(points, groups, f"{label}: t-SNE of the expression embedding")
        )
    return drawn


def draw_retrieval(runs: Mapping[str, Path], make_data: MakeData) -> dict[str, Figure]:
    """The nearest faces of other people, by embedding (GTLE-Net, Fig. 7)."""
    drawn = {}
    for label, run in runs.items():
        faces = embed(run, make_data)
        shown = np.where(faces["au_mask"], faces["au"], 0)
        # Of as many people as there are, the face that shows most.
        best = [
            np.argmax(np.where(faces["subject"] == s, shown.sum(1), -1)) for s in np.unique(faces["subject"])
        ]
        queries = np.array(sorted(best, key=lambda i: -shown[i].sum())[:_QUERIES])
        others = min(int((faces["subject"] != faces["subject"][query]).sum()) for query in queries)
        found = embeddings.nearest(faces["embedding"], queries, faces["subject"], min(_FOUND, others))
        drawn[f"{label}: for each framed face, the nearest of other people by expression embedding"] = (
            embeddings.retrieval(faces["image"], queries, found, shown, _config(run).data.aus)
        )
    return drawn


def embed(run: Path, make_data: MakeData, field: str = "embedding") -> dict[str, NDArray[Any]]:
    """Test faces with their expression embedding: that of the stage of AUs, if it has one, or of the first.

    Args:
      run: scored.
      make_data: as for ``train.run``.
      field: of the network's outputs that is the embedding.

    Returns:
      ``image`` (n, s, s, 3), ``au``, ``au_mask`` (n, k), ``subject`` (n,) and ``embedding`` (n, d); at most
      2000 faces, evenly over the test frames.

    Raises:
      ValueError: a run whose stages have no embedding, or detect no AUs in stills.
    """
    config = _config(run)
    stills = [name for name, stage in config.stages.items() if stage.view == "frames"]
    if not stills:
        raise ValueError(f"{run}: no stage of stills, so no faces with AUs to embed; train stage frames, too")
    first = next(iter(config.stages))
    of = {stage: models.role(config, stage) for stage in (stills[-1], first)}
    step = {stage: _step(run / stage) for stage in of}
    parts: list[dict[str, NDArray[Any]]] = []
    for batch in make_data(config).evaluate(stills[-1], "test", config.stages[stills[-1]].batch_size):
        outputs: Any = {}
        for stage in of:
            given, _ = models.arguments(of[stage], batch, train=False)
            outputs = outputs if field in outputs else step[stage](*given)
        if field not in outputs:
            raise ValueError(f"{run}: stage {first} has no {field}; train triplets or emotions before")
        fields = {name: batch[name] for name in ("image", "au", "au_mask", "subject")}
        fields["embedding"] = np.asarray(outputs[field])
        parts.append({name: value[batch["mask"]] for name, value in fields.items()})
    faces = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    n = len(faces["subject"])
    chosen = np.unique(np.linspace(0, n - 1, min(n, _FACES)).astype(int))
    return {name: value[chosen] for name, value in faces.items()}


def _step(folder: Path) -> Callable[..., Any]:
    model = checkpoint.load_model(folder)
    return jax.jit(partial(model.network.apply, model.variables, train=False))


def _config(run: Path) -> Config:
    return config_lib.from_dict(files.read_json(run / "config.json"))
