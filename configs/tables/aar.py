"""What AAR's paper shows; its rows come with the network."""

from jaxau.reproduce import Figure, Paper, Table

_TABLES: dict[int, Table] = {
    1: Table("Occurrence rates of the training sets", "", note="no network: a data set's manifest has them"),
    2: Table("F1 of each AU on BP4D", "bp4d", shape="methods"),
    3: Table("F1 of each AU on DISFA", "disfa", shape="methods"),
    4: Table("F1 of each AU on GFT", "gft", shape="methods"),
    5: Table("F1 of each AU on Aff-Wild2", "aff_wild2", shape="methods"),
    6: Table("Structures of the variants", "", note="no results in it: those of these variants are in VII"),
    7: Table("Variants on BP4D", "bp4d", shape="methods"),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Attention maps of several methods", "bp4d"),
    2: Figure("Architecture", "", note=_DRAWING),
    3: Figure("Region layer and graph layer", "", note=_DRAWING),
    4: Figure("AU centers", "", note="a drawing of jaxau/faces/landmarks.py: nothing to run"),
    5: Figure("Attention maps of each AU, and combined over occurring AUs", "aff_wild2"),
    6: Figure("Predefined and learned maps under misalignment and occlusion", "aff_wild2"),
}

PAPER = Paper("aar", "AAR", True, _TABLES, _FIGURES)
