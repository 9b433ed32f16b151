"""LAC's ablations, Tables IV to VIII, as rows of overrides of ``configs/lac.py``.

A row is a command as well; its overrides are flags:

    python -m launch.train --config=configs/lac.py:bp4d,stages=frames --config.network.check=none ...

What the paper leaves open, read from its numbers [choice]: the rows of Table IV without ST are detectors for
stills, because the text says so of TS alone and because nothing in them looks across time. Tables V and VI
vary backbone + TS, since t = 16 scores exactly what that row of Table IV does. "Default setting ... Cross
Entropy" is the loss of every row that does not name another; then both y' and y'' have it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import lac


class Row(NamedTuple):
    """One row: its label, the stages that it trains, and path -> value of what it changes."""

    label: str
    stages: tuple[str, ...]
    overrides: Mapping[str, Any]


class Table(NamedTuple):
    """A table: what it shows, the variant of ``configs/lac.py`` that its rows change, the rows."""

    title: str
    variant: str
    rows: tuple[Row, ...]


def configure(row: Row, argument: str) -> ConfigDict:
    """The row's configuration of the variant, e.g. "bp4d" or "synthetic,fold=2"."""
    values = lac.get_config(f"{argument},stages={'+'.join(row.stages)}")
    values.update_from_flattened_dict(row.overrides)
    return values


def short(row: Row) -> ConfigDict:
    """The row on synthetic faces (`small`) in a short budget: the same number of steps for every row.

    27 people with 3 clips of 80 frames each: 14 epochs of 2 clips a video, or 6 of all frames, are 590 to 630
    steps of 32 stills; one seed, one fold.
    """
    values = configure(row, "synthetic")
    values.data.subsequences = 2
    values.stages.frames.epochs = 6 if values.data.sampling == "all" else 14
    if "clips" in values.stages:
        values.stages.clips.epochs = 8
    return values


STILLS, BOTH = ("frames",), ("frames", "clips")


def _row(label: str, stages: tuple[str, ...], loss: Mapping[str, Any], **fields: Any) -> Row:
    """``loss`` holds for every stage; in other names "__" stands for the dot."""
    overrides = {name.replace("__", "."): value for name, value in fields.items()}
    overrides |= {f"stages.{stage}.loss.{name}": value for stage in stages for name, value in loss.items()}
    return Row(label, stages, overrides)


_UNLOCATED = {"localization": 0.0, "activation": 0.0, "consistency": 0.0}
_CE = {"classification": "ce"}
_BACKBONE = {**_CE, **_UNLOCATED, "lock": 0.0}  # y' is y'': it counts once


def _backbone(label: str, **fields: Any) -> Row:
    """The trunk and a linear layer, on stills, with cross-entropy."""
    return _row(label, STILLS, _BACKBONE, network__check="none", **fields)


_TABLE_4 = (
    _backbone("Backbone", data__sampling="all"),
    _backbone("Backbone + TS"),
    _row("Backbone + TS + ST", BOTH, {**_CE, **_UNLOCATED}),
    _row("Backbone + TS + L_loc + L_act", STILLS, {**_CE, "consistency": 0.0}, network__check="linear"),
    _row("Backbone + TS + L_loc + L_act + L_l2g", STILLS, _CE, network__check="linear"),
    _row("Backbone + TS + L_loc + L_act + L_l2g + ST", BOTH, _CE),
    _row("Backbone + TS + L_loc + L_act + L_l2g + ST + L_DWA", BOTH, {"classification": "dwa"}),
)

TABLES: dict[int, Table] = {
    4: Table("Average F1 with different settings on BP4D", "bp4d", _TABLE_4),
    5: Table(
        "Sliding window size t on BP4D",
        "bp4d",
        tuple(_backbone(f"t = {t}", data__clip_length=t) for t in (2, 4, 8, 16, 32, 64)),
    ),
    6: Table(
        "Number of subsequences N_sep on DISFA",
        "disfa",
        tuple(_backbone(f"N_sep = {n}", data__subsequences=n) for n in (1, 2, 4, 8, 12, 16)),
    ),
    7: Table(
        "Loss function on BP4D",
        "bp4d",
        tuple(_row(f"L_{kind.upper()}", BOTH, {"classification": kind}) for kind in ("ce", "wa", "dwa")),
    ),
    # Sizes of networks: nothing is trained.
    8: Table(
        "Parameters and multiply-accumulates of 16 frames",
        "bp4d",
        (_backbone("ResNet-50"), _row("LAC", BOTH, {})),
    ),
}
