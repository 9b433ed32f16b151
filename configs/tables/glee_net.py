"""What GLEE-Net's paper shows; its rows come with the network."""

from jaxau.reproduce import Figure, Paper, Table

_TABLES: dict[int, Table] = {
    1: Table("F1 of each AU on BP4D", "bp4d", shape="methods"),
    2: Table('F1 of each AU on DISFA (printed as a second "I")', "disfa", shape="methods"),
    3: Table("F1 of each AU on BP4D+", "bp4d_plus", shape="methods"),
    4: Table("F1, trained on BP4D, tested on BP4D+", "bp4d_to_bp4dplus", shape="methods"),
    5: Table("Ablations on BP4D", "bp4d", shape="methods"),
}

_DRAWING = "a drawing of the method: nothing to run"
_FIGURES: dict[int, Figure] = {
    1: Figure("Faces and their AUs", "", note=_DRAWING),
    2: Figure("Embeddings by AU combination", "bp4d"),
    3: Figure("Architecture", "", note=_DRAWING),
    4: Figure("Facial parts that are cropped", "", note=_DRAWING),
    5: Figure("Embeddings with and without pre-training", "bp4d"),
    6: Figure("Embeddings with and without a branch, by AU combination", "bp4d"),
    7: Figure("Image retrieval by embedding", "bp4d"),
}

PAPER = Paper("glee_net", "GLEE-Net", True, _TABLES, _FIGURES)
