"""GLEE-Net's tables and figures as rows of overrides of ``configs/glee_net.py``.

What the rows of Table V mean here stands in ``jaxau/models/glee_net.py``. With ``--budget=paper`` triplets
are FEC's and the identity model is FaceNet (``weights/facenet``); on synthetic faces it has random weights.
"""

from typing import Any

from configs import glee_net
from jaxau import facs
from jaxau.reproduce import Figure, Paper, Row, Table

_PRETRAINED, _RANDOM = ("triplets", "frames"), ("frames",)
_FACENET = {"identity": "weights/facenet"}


def _row(label: str, stages: tuple[str, ...], changes: dict[str, Any], published: str = "") -> Row:
    has_identity = changes.get("network.branches", "") not in ("resnet", "none")
    return Row(label, stages, changes, published, _FACENET if has_identity else {})


def _ablation(label: str, stages: tuple[str, ...], changes: dict[str, Any], what: str) -> Row:
    return _row(label, stages, changes, f"GLEE-Net {label}: {what}")


_GLOBAL = {"network.branches": "global", "stages.triplets.trainable": ("face", "global_fc")}
_WITHOUT_3D = {"network.expression": False}
_FULL = _row("GLEE-Net", _PRETRAINED, {}, "GLEE-Net")
_WITHOUT = _ablation("w/o pretrain", _RANDOM, {}, "no expression pretraining")
_NO_3DGB = _ablation("w/o 3DGB", _PRETRAINED, _WITHOUT_3D, "no 3D global branch")
_ONLY_3DGB = _ablation("w/o GB & LB", _RANDOM, {"network.branches": "none"}, "3D global branch alone")
_BP4D_AUS: dict[str, Any] = {"data.aus": facs.CORPUS_AUS["bp4d"]}  # and BP4D+'s, whatever it is trained on

_ABLATIONS = (
    _WITHOUT,
    _ablation(
        "w. fixed GB & LB",
        _PRETRAINED,
        {"network.fixed_branches": True, "stages.frames.trainable": ("classifier", "absent_expression")},
        "pretrained global and local branch not updated",
    ),
    _ablation(
        "w. ResNet", _RANDOM, {"network.branches": "resnet"}, "ResNet in place of the global and local branch"
    ),
    _ONLY_3DGB,
    _NO_3DGB,
    _ablation("w/o LB", _PRETRAINED, _GLOBAL, "no local branch"),
    _ablation(
        "w/o TC", _PRETRAINED, {"network.classifier": "mlp"}, "MLP in place of the transformer classifier"
    ),
    _ablation("w/o joint FC", _PRETRAINED, {"network.joint": False}, "no joint fully connected layer"),
    _FULL._replace(label="GLEE-Net (Full)"),
)

_TABLES: dict[int, Table] = {
    1: Table("F1 of each AU", "bp4d", (_FULL,), "methods"),
    2: Table('F1 of each AU (printed as a second "I")', "disfa", (_FULL,), "methods"),
    3: Table("F1 of each AU", "bp4d_plus", (_FULL._replace(overrides=_BP4D_AUS),), "methods"),
    4: Table("F1 of each AU across corpora", "bp4d_to_bp4dplus", (_FULL,), "methods"),
    5: Table("Ablations", "bp4d", _ABLATIONS, "methods"),
}

_DRAWING = "a drawing of the method: nothing to run"
_BRANCHES = (
    _ONLY_3DGB._replace(label="3DGB"),
    _row("GB", _PRETRAINED, {**_GLOBAL, **_WITHOUT_3D}),
    _NO_3DGB._replace(label="GB & LB"),
    _FULL._replace(label="GB & LB & 3DGB"),
)
_FIGURES: dict[int, Figure] = {
    1: Figure("Faces and their AUs", "", note=_DRAWING),
    2: Figure("Embeddings by AU combination", "bp4d", (_FULL,), "picture embedding"),
    3: Figure("Architecture", "", note=_DRAWING),
    4: Figure("Facial parts that are cropped", "", note=_DRAWING),
    5: Figure("Embeddings with and without pre-training", "bp4d", (_FULL, _WITHOUT), "picture embedding"),
    6: Figure("Embeddings with and without a branch, by AU combination", "bp4d", _BRANCHES, "embedding"),
    7: Figure("Image retrieval by embedding", "bp4d", _BRANCHES, "retrieval"),
}

_BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data.inner_fraction": 0.5,  # triplets need three people in each part
        "network.repeats": (0, 0, 0),
        "network.width": 0.04,
        "network.part_side": 16,
        **{f"stages.{stage}.epochs": 20 for stage in _PRETRAINED},
        **{f"stages.{stage}.max_steps": 20 for stage in _PRETRAINED},
        **{f"stages.{stage}.batch_size": 8 for stage in _PRETRAINED},
    },
    # The same number of steps for every row.
    "short": {
        **{f"stages.{stage}.epochs": 100 for stage in _PRETRAINED},
        **{f"stages.{stage}.max_steps": 300 for stage in _PRETRAINED},
    },
}

PAPER = Paper("glee_net", "GLEE-Net", True, _TABLES, _FIGURES, glee_net.get_config, _BUDGETS)
