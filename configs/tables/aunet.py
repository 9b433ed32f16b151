"""What AUNet's paper shows; its rows come with the network."""

from jaxau.reproduce import Figure, Paper, Table

_PROSE = "no results in it: a description"
_TABLES: dict[int, Table] = {
    1: Table("AUs, their muscles and landmarks", "", note="no results in it: jaxau/facs.py has them"),
    2: Table("AUs of expressions", "", note=_PROSE),
    3: Table("F1 of each AU, trained and tested on BP4D", "bp4d", shape="methods"),
    4: Table("F1 of each AU, trained on BP4D, tested on DISFA", "bp4d_to_disfa", shape="methods"),
    5: Table("F1 of each AU, trained on BP4D, tested on Aff-Wild2", "bp4d_to_aff_wild2", shape="methods"),
    6: Table("Four variants", "", note=_PROSE),
    7: Table("Variants trained on the mixture, on BP4D", "mixture_to_bp4d", shape="methods"),
    8: Table("Variants trained on the mixture, on DISFA", "mixture_to_disfa", shape="methods"),
    9: Table("Variants trained on the mixture, on Aff-Wild2", "mixture_to_aff_wild2", shape="methods"),
    10: Table("Adjacency distance and dependency F1 of AU-VAE against AU-FAN", "mixture"),
    11: Table("TDN against optical flow on BP4D", "mixture_to_bp4d"),
    12: Table("Paired t-tests of the variants on BP4D", "mixture_to_bp4d"),
    13: Table("F1 of each AU on BP4D", "bp4d", shape="methods"),
    14: Table("F1 of each AU on DISFA", "disfa", shape="methods"),
    15: Table("Corpora", "", note=_PROSE),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Three key factors", "", note=_DRAWING),
    2: Figure("Muscles, landmarks and single AUs", "", note=_DRAWING),
    3: Figure("Pipeline of a generic system", "", note=_DRAWING),
    4: Figure("Overview", "", note=_DRAWING),
    5: Figure("Residual block of the FAN", "", note=_DRAWING),
    6: Figure("Feature maps of ResNet18 and AU-FAN", "bp4d"),
    7: Figure("Failures under occlusion and pose", "aff_wild2"),
    8: Figure("Adjacency matrices and graph of AU-VAE", "bp4d"),
    9: Figure("Static and dynamic feature maps of the TDN", "bp4d"),
    10: Figure("Predictions over time against the truth", "bp4d"),
}

PAPER = Paper("aunet", "AUNet", True, _TABLES, _FIGURES)
