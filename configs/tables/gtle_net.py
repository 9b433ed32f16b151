"""What GTLE-Net's paper shows; its rows come with the network."""

from jaxau.reproduce import Figure, Paper, Table

_TABLES: dict[int, Table] = {
    1: Table("Triplet accuracy of four trunks", "fec"),
    2: Table("F1 of each AU on BP4D", "bp4d", shape="methods"),
    3: Table("Accuracy and AUC of each AU on BP4D", "bp4d", shape="methods"),
    4: Table("F1 of each AU on DISFA", "disfa", shape="methods"),
    5: Table("Accuracy and AUC of each AU on DISFA", "disfa", shape="methods"),
    6: Table("F1 of each AU on BP4D+", "bp4d_plus", shape="methods"),
    7: Table("Accuracy and AUC of each AU on BP4D+", "bp4d_plus", shape="methods"),
    8: Table("F1, trained on BP4D, tested on BP4D+", "bp4d_to_bp4dplus", shape="methods"),
    9: Table("F1, accuracy and AUC of 13 AUs on RAF-AU", "raf_au", shape="methods"),
    10: Table("Ablations on BP4D", "bp4d", shape="methods"),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Expressions and their AUs", "", note=_DRAWING),
    2: Figure("Framework", "", note=_DRAWING),
    3: Figure("Map extractor and mask extractor", "", note=_DRAWING),
    4: Figure("100 %, 10 % and 1 % of the training data", "bp4d"),
    5: Figure("Training and validation loss on fold 3", "bp4d"),
    6: Figure("Expression embedding by AU combination", "bp4d"),
    7: Figure("Image retrieval by expression embedding", "raf_au"),
    8: Figure("Learned masks on BP4D", "bp4d"),
    9: Figure("Learned masks on RAF-AU", "raf_au"),
    10: Figure("Learned masks on DISFA and BP4D+", "disfa"),
}

PAPER = Paper("gtle_net", "GTLE-Net", False, _TABLES, _FIGURES)
