"""AAR's tables and figures as rows of overrides of ``configs/aar.py``.

The rows of Table VII are the structures of Table VI; what their names mean here stands in
``jaxau/models/aar.py``. Rows without G are detectors for stills: the attention network alone.
"""

from typing import Any

from configs import aar
from jaxau.reproduce import Figure, Paper, Row, Table

STILLS, ALL = ("frames",), ("frames", "cache", "features")

_FULL = Row("AAR", ALL, {}, "AAR")
_UNATTENDED = {"network.attention": False, "stages.frames.loss.attention": 0.0}
_AA = Row("AA", STILLS, {}, "AA: BW-Net + learned attention")


def _graph(label: str, published: str, graph: str, time: str) -> Row:
    return Row(label, ALL, {"network.graph": graph, "network.time": time}, published)


_VARIANTS = (
    Row(
        "B-Net",
        STILLS,
        {**_UNATTENDED, "stages.frames.loss.weighted": False},
        "B-Net: region layers + AU branches",
    ),
    Row("BW-Net", STILLS, _UNATTENDED, "BW-Net: B-Net + loss weights"),
    _AA,
    _graph("AA + G_sh", "AA + G_sh: AA + spatial graph with parameters shared by all AUs", "shared", "none"),
    _graph("AA + G_sp", "AA + G_sp: AA + spatial graph with parameters of each AU", "specific", "none"),
    _graph(
        "AA + G_sp + T_avg",
        "AA + G_sp + T_avg: AA + G_sp + mean prediction over the frames",
        "specific",
        "average",
    ),
    _FULL,
)

_TABLES: dict[int, Table] = {
    1: Table("Occurrence rates of the training sets", "", note="no network: a data set's manifest has them"),
    2: Table("F1 of each AU", "bp4d", (_FULL,), "methods"),
    3: Table("F1 of each AU", "disfa", (_FULL,), "methods"),
    4: Table("F1 of each AU", "gft", (_FULL,), "methods"),
    5: Table("F1 of each AU", "aff_wild2", (_FULL,), "methods"),
    6: Table("Structures of the variants", "", note="no results in it: those of these variants are in VII"),
    7: Table("Variants", "bp4d", _VARIANTS, "methods"),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Attention maps of several methods", "bp4d", (_AA,), "localisation"),
    2: Figure("Architecture", "", note=_DRAWING),
    3: Figure("Region layer and graph layer", "", note=_DRAWING),
    4: Figure("AU centers", "", note="a drawing of jaxau/faces/landmarks.py: nothing to run"),
    5: Figure("Attention maps, and combined over occurring AUs", "aff_wild2", (_AA,), "combined maps"),
    6: Figure("Predefined and learned maps, misaligned and occluded", "aff_wild2", (_AA,), "disturbed maps"),
    7: Figure("Learned relations of AUs (not printed in the paper)", "bp4d", (_FULL,), "adjacency"),
}

_BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data.image_size": 32,
        "data.clip_length": 8,
        "network.width": 1,
        "network.pool": 2,
        "network.window": 8,
        "stages.frames.epochs": 20,
        "stages.frames.max_steps": 20,
        "stages.frames.batch_size": 8,
        "stages.frames.augment.resize_to": 36,
        "stages.cache.cache": 2,
        "stages.cache.augment.resize_to": 36,
        "stages.features.epochs": 20,
        "stages.features.max_steps": 20,
        "stages.features.batch_size": 2,
        "stages.features.augment.resize_to": 36,
    },
    # The same number of steps for every row.
    "short": {
        "stages.frames.epochs": 100,
        "stages.frames.max_steps": 400,
        "stages.features.epochs": 100,
        "stages.features.max_steps": 200,
    },
}

PAPER = Paper("aar", "AAR", True, _TABLES, _FIGURES, aar.get_config, _BUDGETS)
