"""AUNet's tables and figures as rows of overrides of ``configs/aunet.py``.

What the names of the variants mean here stands in ``jaxau/models/aunet.py``. Rows without VAE have no stage
of labels, and those without TDN see stills. JAA-Net, a network for face parsing and FlowNet are others':
their numbers are the printed ones alone, and DIS optical flow stands where FlowNet did. DISFA's networks
began with BP4D's in the paper: `configs/aunet.py:disfa` does so with --config.finetune, Table XIV does not.
"""

from collections.abc import Mapping
from typing import Any

from configs import aunet
from jaxau.reproduce import Figure, Paper, Row, Table

_BOTH, _DETECTOR = ("labels", "tuples"), ("tuples",)
_STILLS = {"network.motion": False, "stages.tuples.view": "frames"}
_RESNET = {"network.trunk": "resnet18", "stages.tuples.trainable": ("head", "trunk")}


def _without_vae(stage: str) -> dict[str, Any]:
    return {
        "network.vae": False,
        f"stages.{stage}.start_from": "",
        f"stages.{stage}.loss.consistency": "none",
    }


_NO_VAE = _without_vae("tuples")
_AU_FAN = Row("AU-FAN", _DETECTOR, {**_NO_VAE, **_STILLS}, "AU-FAN")
_AU_VAE = Row("AU-VAE", _BOTH, _STILLS, "AU-VAE: AU-FAN + VAE")
_AU_TDN = Row("AU-TDN", _DETECTOR, _NO_VAE, "AU-TDN: AU-FAN + TDN")
_AUNET = Row("AUNet", _BOTH, {}, "AUNet")
_LABEL_SPACE = Row(
    "AUNet, label space aligned",
    _BOTH,
    {"stages.tuples.loss.consistency": "label_space"},
    "AUNet with consistency in the label space of the VAE",
)
_FLOW = Row("AU-FAN + DIS flow", ("flow",), _without_vae("flow"), "AU-FAN + FlowNet")
_RESNET18 = Row("ResNet18", _DETECTOR, {**_RESNET, **_NO_VAE, **_STILLS}, "ResNet18", weights={})
_IMAGENET = Row(
    "ResNet18, ImageNet",
    _DETECTOR,
    _RESNET18.overrides,
    "AU-FAN with ResNet18 pretrained on ImageNet in place of FAN",
    weights={"trunk": "weights/resnet18"},
)
_RESNET18_A = Row("ResNet18-A", _BOTH, _RESNET, "ResNet18-A", weights={})


def _published(row: Row, name: str) -> Row:
    return row._replace(published=name)


_TRUNKS = (_RESNET18, _IMAGENET, _AU_FAN)
_VARIANTS = (_AU_FAN, _AU_VAE, _AU_TDN, _AUNET, _LABEL_SPACE)
_METHODS = (_RESNET18, _RESNET18_A, _AU_FAN, _AUNET)
_RELATIONS = (_AU_FAN, _published(_AU_VAE, "AU-VAE against AU-FAN"), _AUNET)
_PAIRED = (
    _AU_FAN,
    _published(_AU_VAE, "AU-VAE: AU-FAN + VAE against AU-FAN, paired t-test"),
    _published(_AU_TDN, "AU-TDN: AU-FAN + TDN against AU-FAN, paired t-test"),
    _published(_AUNET, "AUNet against AU-FAN, paired t-test"),
)

_PROSE = "no results in it: a description"
_TABLES: dict[int, Table] = {
    1: Table("AUs, their muscles and landmarks", "", note="no results in it: jaxau/facs.py has them"),
    2: Table("AUs of expressions", "", note=_PROSE),
    3: Table("F1 of each AU", "bp4d", _TRUNKS, "methods"),
    4: Table("F1 of each AU across corpora", "bp4d_to_disfa", _TRUNKS, "methods"),
    5: Table("F1 of each AU across corpora", "bp4d_to_aff_wild2", _TRUNKS, "methods"),
    6: Table("Four variants", "", note=_PROSE),
    7: Table("Variants trained on the mixture", "mixture_to_bp4d", _VARIANTS, "methods"),
    8: Table("Variants trained on the mixture", "mixture_to_disfa", _VARIANTS, "methods"),
    9: Table("Variants trained on the mixture", "mixture_to_aff_wild2", _VARIANTS, "methods"),
    10: Table("Relations of AUs in the predictions", "mixture", _RELATIONS, "relations"),
    11: Table("TDN against optical flow", "mixture_to_bp4d", (_AU_FAN, _AU_TDN, _FLOW)),
    12: Table("Paired t-tests of the variants", "mixture_to_bp4d", _PAIRED, "paired"),
    13: Table("F1 of each AU", "bp4d", _METHODS, "methods"),
    14: Table("F1 of each AU, not begun with BP4D's run as in the paper", "disfa", _METHODS, "methods"),
    15: Table("Corpora", "", note=_PROSE),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Three key factors", "", note=_DRAWING),
    2: Figure("Muscles, landmarks and single AUs", "", note=_DRAWING),
    3: Figure("Pipeline of a generic system", "", note=_DRAWING),
    4: Figure("Overview", "", note=_DRAWING),
    5: Figure("Residual block of the FAN", "", note=_DRAWING),
    6: Figure("Feature maps of ResNet18 and AU-FAN", "bp4d", (_RESNET18, _AU_FAN), "feature maps"),
    7: Figure("Failures under occlusion and pose", "aff_wild2", (_AU_FAN,), "landmarks of failures"),
    8: Figure("Adjacency matrices and graph of AU-VAE", "bp4d", (_AU_VAE,), "predicted relations"),
    9: Figure("Static and dynamic feature maps of the TDN", "bp4d", (_AU_TDN,), "motion maps"),
    10: Figure("Predictions over time against the truth", "bp4d", (_AU_FAN, _AU_TDN), "timeline"),
}

_SMOKE: Mapping[str, Any] = {
    "data.image_size": 64,
    "network.width": 16,
    "network.hourglasses": 1,
    "stages.labels.epochs": 20,
    "stages.labels.max_steps": 20,
    "stages.labels.batch_size": 16,
}
_SHORT: Mapping[str, Any] = {"stages.labels.epochs": 100, "stages.labels.max_steps": 600}
_BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        **_SMOKE,
        **{f"stages.{stage}.epochs": 20 for stage in ("flow", "tuples")},
        **{f"stages.{stage}.max_steps": 20 for stage in ("flow", "tuples")},
        **{f"stages.{stage}.batch_size": 8 for stage in ("flow", "tuples")},
    },
    # The same number of steps for every row.
    "short": {
        **_SHORT,
        **{f"stages.{stage}.epochs": 100 for stage in ("flow", "tuples")},
        **{f"stages.{stage}.max_steps": 400 for stage in ("flow", "tuples")},
    },
}

PAPER = Paper("aunet", "AUNet", True, _TABLES, _FIGURES, aunet.get_config, _BUDGETS)
