"""Expression and head pose of aligned faces: the same for the records of a corpus and in prediction."""

import numpy as np

from jaxau.faces.align import check_alignment
from jaxau.faces.landmarks import mirror_order
from jaxau.morphable.curves import SCHEMES
from jaxau.morphable.fit import Fit, fit
from jaxau.morphable.grid import Floats
from jaxau.morphable.linear_model import FaceModel, built_in

FITTED = tuple(SCHEMES)
"""Numbers of landmarks to which a model can be fitted; five are too few."""


def model_for(points: int, model: FaceModel | None) -> FaceModel:
    """``model``, or without one the built-in model with such landmarks.

    Raises:
      ValueError: no model can be fitted to these.
    """
    if points not in FITTED:
        raise ValueError(
            f"{points} landmarks: a face model needs one of {FITTED}; prepare the corpus with a detector or "
            "a table of such landmarks"
        )
    return model or built_in(98 if points == 98 else 68)


def fit_aligned(model: FaceModel, landmarks: Floats, alignment: str) -> Fit:
    """Fit a model to landmarks (b, p, 2) in the pixels of aligned faces, whatever their size.

    The camera is that of JAA-Net's box. The roll of the head is what the alignment left of it.
    """
    of = check_alignment(alignment)
    middle = (of.size - 1) / 2
    return fit(model, (np.asarray(landmarks, np.float64) - middle) * of.boxes + middle, of.size)


def mirrored(landmarks: Floats, alignment: str) -> Floats:
    """Landmarks (b, p, 2) of the mirror images of aligned faces; missing ones stay missing."""
    other = np.array(landmarks[:, mirror_order(landmarks.shape[1])])
    other[..., 0] = check_alignment(alignment).size - 1 - other[..., 0]
    return other


def openface_pose(rotation: Floats, matrix: Floats) -> tuple[float, float, float]:
    """Head pose in a picture as OpenFace 2 states it: radians about x, y and z, R = Rx Ry Rz.

    Args:
      rotation: (3, 3) of a `Fit` to an aligned face.
      matrix: (2, 3) of its alignment, from the picture.
    """
    turn = np.eye(3)
    turn[:2, :2] = (matrix[:, :2] / np.sqrt(np.linalg.det(matrix[:, :2]))).T
    flip = np.diag([1.0, -1.0, -1.0])  # OpenFace's axes: x right, y down, z away
    r = turn @ flip @ rotation @ flip
    about_x, about_z = np.arctan2(-r[1, 2], r[2, 2]), np.arctan2(-r[0, 1], r[0, 0])
    return float(about_x), float(np.arcsin(np.clip(r[0, 2], -1, 1))), float(about_z)
