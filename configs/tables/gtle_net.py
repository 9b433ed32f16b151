"""GTLE-Net's tables and figures as rows of overrides of ``configs/gtle_net.py``.

What the rows of Table 10 mean here stands in ``jaxau/models/gtle_net.py``. Table 1 needs triplets: FEC's with
``--corpus=bp4d --budget=paper``, synthetic ones with ``--corpus=synthetic``. The names of GTLE-Net's own rows
are those of the published numbers; JAA-Net and others stand with their printed numbers alone.
"""

from typing import Any

from configs import gtle_net
from jaxau import facs
from jaxau.reproduce import Figure, Paper, Row, Table

_TRIPLETS, _EMOTIONS, _RANDOM = ("triplets", "frames"), ("emotions", "frames"), ("frames",)


def _trunk(label: str, trunk: str) -> Row:
    return Row(label, ("triplets",), {"network.trunk": trunk}, label)


def _imagenet(label: str, trunk: str, published: str) -> Row:
    return Row(
        label, _RANDOM, {"network.trunk": trunk}, f"GTLE-Net {published}", {"trunk": f"weights/{trunk}"}
    )


_FULL = Row("GTLE-Net", _TRIPLETS, {}, "GTLE-Net")
_WITHOUT = Row("w/o pretrain", _RANDOM, {}, "GTLE-Net w/o pretrain: GEE from random weights")
_EMOTION = Row(
    "w. GEE Emotion",
    _EMOTIONS,
    {},
    "GTLE-Net w. GEE Emotion: GEE pretrained as classifier of 7 emotions on AffectNet",
)
_MAPS = Row("w/o E_m", _TRIPLETS, {"network.extractors": "maps"}, "GTLE-Net w/o E_m: no AU mask extractor")
_BP4D_AUS: dict[str, Any] = {"data.aus": facs.CORPUS_AUS["bp4d"]}  # and BP4D+'s, whatever it is trained on

_ABLATIONS = (
    _WITHOUT,
    Row(
        "w. GEE fixed",
        _TRIPLETS,
        {
            "network.fixed_encoder": True,
            "stages.frames.trainable": ("map_extractor", "mask_extractor", "classifiers"),
        },
        "GTLE-Net w. GEE fixed: GEE pretrained on FEC triplets and not updated",
    ),
    _EMOTION,
    _imagenet("w. GEE ImageNet", "inception_resnet", "w. GEE ImageNet: GEE pretrained on ImageNet"),
    _imagenet(
        "w. VGG16 ImageNet", "vgg16", "w. VGG16 ImageNet: GEE replaced by VGG16 pretrained on ImageNet"
    ),
    _imagenet(
        "w. RepVGG-A2 ImageNet",
        "repvgg_a2",
        "w. RepVGG-A2 ImageNet: GEE replaced by RepVGG-A2 pretrained on ImageNet",
    ),
    _imagenet(
        "w. ResNet50 ImageNet",
        "resnet50",
        "w. ResNet50 ImageNet: GEE replaced by ResNet50 pretrained on ImageNet",
    ),
    Row(
        "w/o E_m & E_a",
        _TRIPLETS,
        {"network.extractors": "none"},
        "GTLE-Net w/o E_m & E_a: no AU mask extractor and no AU feature map extractor",
    ),
    _MAPS,
    Row(
        "w. Supervised-attention",
        _TRIPLETS,
        {"stages.frames.loss.attention": 1.0},
        "GTLE-Net w. supervised attention: masks supervised by landmark maps",
    ),
    _FULL._replace(label="GTLE-Net (Full)"),
)

_TABLES: dict[int, Table] = {
    1: Table(
        "Triplet accuracy of four trunks",
        "fec",
        (
            _trunk("VGG16", "vgg16"),
            _trunk("ResNet50", "resnet50"),
            _trunk("RepVGG-A2", "repvgg_a2"),
            _trunk("InceptionResNetV1", "inception_resnet"),
        ),
        "triplets",
    ),
    2: Table("F1 of each AU", "bp4d", (_FULL,), "methods"),
    3: Table("Accuracy and AUC of each AU", "bp4d", (_FULL,), "methods"),
    4: Table("F1 of each AU", "disfa", (_FULL,), "methods"),
    5: Table("Accuracy and AUC of each AU", "disfa", (_FULL,), "methods"),
    6: Table("F1 of each AU", "bp4d_plus", (_FULL._replace(overrides=_BP4D_AUS),), "methods"),
    7: Table("Accuracy and AUC of each AU", "bp4d_plus", (_FULL._replace(overrides=_BP4D_AUS),), "methods"),
    8: Table("F1 of each AU across corpora", "bp4d_to_bp4dplus", (_FULL,), "methods"),
    9: Table(
        "F1, accuracy and AUC of 13 AUs",
        "raf_au",
        (
            _WITHOUT._replace(label="w/o GEE", published="GTLE-Net w/o GEE: GEE from random weights"),
            _FULL,
        ),
        "methods",
    ),
    10: Table("Ablations", "bp4d", _ABLATIONS, "methods"),
}


def _fraction(percent: int) -> Row:
    changed = {"data.fraction": percent / 100, "data.fraction_by": "frame"}
    return Row(f"{percent} % of the frames", _TRIPLETS, changed if percent < 100 else {})


_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Expressions and their AUs", "", note=_DRAWING),
    2: Figure("Framework", "", note=_DRAWING),
    3: Figure("Map extractor and mask extractor", "", note=_DRAWING),
    4: Figure(
        "100 %, 10 % and 1 % of the training data",
        "bp4d",
        tuple(_fraction(percent) for percent in (100, 10, 1)),
        "fractions",
    ),
    5: Figure("Training and validation loss", "bp4d", (_FULL, _EMOTION, _MAPS), "losses"),
    6: Figure("Expression embedding by AU combination", "bp4d", (_FULL,), "embedding"),
    7: Figure("Image retrieval by expression embedding", "raf_au", (_FULL,), "retrieval"),
    8: Figure("Learned masks", "bp4d", (_FULL,), "localisation"),
    9: Figure("Learned masks", "raf_au", (_FULL,), "localisation"),
    10: Figure("Learned masks of two more corpora", "disfa", (_FULL,), "localisation"),
}

_STAGES = ("triplets", "emotions", "frames")
_BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data.image_size": 32,
        "data.inner_fraction": 0.5,  # triplets need three people in each part
        "network.width": 0.03,
        "network.trunk": "vgg16",  # is compiled soonest; rows of Tables 1 and 10 have their own
        **{f"stages.{stage}.epochs": 20 for stage in _STAGES},
        **{f"stages.{stage}.max_steps": 20 for stage in _STAGES},
        **{f"stages.{stage}.batch_size": 8 for stage in _STAGES},
    },
    # The same number of steps for every row.
    "short": {
        **{f"stages.{stage}.epochs": 100 for stage in _STAGES},
        **{f"stages.{stage}.max_steps": 400 for stage in _STAGES},
    },
}

PAPER = Paper("gtle_net", "GTLE-Net", False, _TABLES, _FIGURES, gtle_net.get_config, _BUDGETS)
