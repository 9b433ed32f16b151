"""The papers' figures from finished, scored runs: what `jaxau.reproduce` draws."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxau import checkpoint, evaluate, facs, files
from jaxau import config as config_lib
from jaxau.config import Config
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
    chosen = {}
    for label, run in reversed(runs.items()):
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
    return dict(reversed(drawn.items()))


def _config(run: Path) -> Config:
    return config_lib.from_dict(files.read_json(run / "config.json"))


DRAW: dict[str, Draw] = {
    "distribution": partial(draw_epochs, "distribution", "share of positive labels in the epoch's sample"),
    "recall": partial(draw_epochs, "recall", "recall on the training frames"),
    "localisation": partial(draw_maps, "localisation", "test faces of many AUs"),
    "sequence": partial(draw_maps, "sequence", "frames of one test video in order"),
    "failures": partial(draw_maps, "failures", "the test faces that it gets most wrong"),
}
"""What a figure can be drawn as."""
