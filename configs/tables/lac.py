"""LAC's tables and figures as rows of overrides of ``configs/lac.py``.

    python -m launch.reproduce --paper=lac --table=IV --corpus=synthetic --budget=short --data_dir=data \
        --workdir=runs/tables

What the paper leaves open, read from its numbers [choice]: the rows of Table IV without ST are detectors for
stills, because the text says so of TS alone and because nothing in them looks across time. Tables V and VI
vary backbone + TS, since t = 16 scores exactly what that row of Table IV does. "Default setting ... Cross
Entropy" is the loss of every row that does not name another; then both y' and y'' have it.
"""

from collections.abc import Mapping
from typing import Any

from configs import lac
from jaxau.reproduce import Figure, Paper, Row, Table

STILLS, BOTH = ("frames",), ("frames", "clips")


def _row(label: str, published: str, stages: tuple[str, ...], loss: Mapping[str, Any], **fields: Any) -> Row:
    """``loss`` holds for every stage; in other names "__" stands for the dot."""
    overrides = {name.replace("__", "."): value for name, value in fields.items()}
    overrides |= {f"stages.{stage}.loss.{name}": value for stage in stages for name, value in loss.items()}
    return Row(label, stages, overrides, published)


_UNLOCATED = {"localization": 0.0, "activation": 0.0, "consistency": 0.0}
_CE = {"classification": "ce"}
_BACKBONE = {**_CE, **_UNLOCATED, "lock": 0.0}  # y' is y'': it counts once


def _backbone(label: str, published: str, **fields: Any) -> Row:
    """The trunk and a linear layer, on stills, with cross-entropy."""
    return _row(label, published, STILLS, _BACKBONE, network__check="none", **fields)


# As the published numbers spell them.
_PLAIN = "ResNet-50 backbone"
_TS = f"{_PLAIN} + temporal sampling"
_LOCATED = f"{_TS} + L_loc + L_act"

_FULL = _row("LAC", "LAC", BOTH, {"classification": "dwa"})
_STILL_BACKBONE = _backbone("Backbone", _PLAIN, data__sampling="all")

_TABLE_4 = (
    _STILL_BACKBONE,
    _backbone("Backbone + TS", _TS),
    _row("Backbone + TS + ST", f"{_TS} + ST module", BOTH, {**_CE, **_UNLOCATED}),
    _row(
        "Backbone + TS + L_loc + L_act",
        _LOCATED,
        STILLS,
        {**_CE, "consistency": 0.0},
        network__check="linear",
    ),
    _row(
        "Backbone + TS + L_loc + L_act + L_l2g",
        f"{_LOCATED} + L_l2g",
        STILLS,
        _CE,
        network__check="linear",
    ),
    _row("Backbone + TS + L_loc + L_act + L_l2g + ST", f"{_LOCATED} + L_l2g + ST module", BOTH, _CE),
    _FULL._replace(label="Backbone + TS + L_loc + L_act + L_l2g + ST + L_DWA"),
)

_TABLES: dict[int, Table] = {
    1: Table("Center coordinates of each AU", "", note="no results in it: jaxau/faces/landmarks.py has them"),
    2: Table("F1 of each AU on BP4D", "bp4d", (_FULL,), "methods"),
    3: Table("F1 of each AU on DISFA", "disfa", (_FULL,), "methods"),
    4: Table("Average F1 with different settings on BP4D", "bp4d", _TABLE_4),
    5: Table(
        "Sliding window size t on BP4D",
        "bp4d",
        tuple(
            _backbone(f"t = {t}", f"{_TS}, sliding window t={t}", data__clip_length=t)
            for t in (2, 4, 8, 16, 32, 64)
        ),
    ),
    6: Table(
        "Number of subsequences N_sep on DISFA",
        "disfa",
        tuple(
            _backbone(f"N_sep = {n}", f"{_TS}, subsequences N_sep={n}", data__subsequences=n)
            for n in (1, 2, 4, 8, 12, 16)
        ),
    ),
    7: Table(
        "Loss function on BP4D",
        "bp4d",
        (
            _row("L_CE", "LAC with cross-entropy loss in place of DWA", BOTH, _CE),
            _row("L_WA", "LAC with WA loss in place of DWA", BOTH, {"classification": "wa"}),
            _FULL._replace(label="L_DWA"),
        ),
    ),
    8: Table(
        "Parameters and multiply-accumulates of 16 frames",
        "bp4d",
        (_backbone("ResNet-50", "ResNet50"), _FULL),
        "sizes",
    ),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("AU centers and the pipeline", "", note=_DRAWING),
    2: Figure("Framework", "", note=_DRAWING),
    3: Figure("ST module", "", note=_DRAWING),
    4: Figure("Class distribution over epochs on DISFA", "disfa", (_FULL,), "distribution"),
    5: Figure("Recall, the difficulty of an AU, over epochs on DISFA", "disfa", (_FULL,), "recall"),
    6: Figure("Activation maps of each AU", "bp4d", (_STILL_BACKBONE, _FULL), "localisation"),
    7: Figure("Activation maps over a sequence", "bp4d", (_STILL_BACKBONE, _FULL), "sequence"),
    8: Figure("Activation maps of failures", "bp4d", (_FULL,), "failures"),
}

_BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data.image_size": 32,
        "data.clip_length": 4,
        "data.subsequences": 4,
        "network.stage_sizes": (1,),
        "network.widths": (8,),
        "network.features": 8,
        "stages.frames.epochs": 20,
        "stages.frames.max_steps": 20,
        "stages.frames.batch_size": 8,
        "stages.frames.augment.resize_to": 36,
        "stages.clips.epochs": 20,
        "stages.clips.max_steps": 20,
        "stages.clips.batch_size": 2,
        "stages.clips.augment.resize_to": 36,
    },
    # The same number of steps for every row, whatever its epochs hold.
    "short": {
        "data.subsequences": 2,
        "stages.frames.epochs": 100,
        "stages.frames.max_steps": 400,
        "stages.clips.epochs": 10,
        "stages.clips.max_steps": 100,
    },
}

PAPER = Paper("lac", "LAC", True, _TABLES, _FIGURES, lac.get_config, _BUDGETS)
