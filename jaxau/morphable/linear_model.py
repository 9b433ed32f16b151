"""A linear face model as a fit needs it: mean, shapes and expressions of its 68 landmarks.

Axes: +x the subject's left (image right in a frontal picture), +y up, +z out of the face; any unit of
length. The landmarks are in the iBUG order. `read_model` (``jaxau.morphable.model_files``) reads the models
that others publish; `built_in` is jaxau's own.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import SHAPES, expression_shapes
from jaxau.morphable.grid import Floats, sample
from jaxau.morphable.identity import MODES, identity_basis
from jaxau.morphable.landmarks import LANDMARKS_68, LANDMARKS_98
from jaxau.morphable.shape import HeadShape

POINTS = 68
SHAPES_USED, EXPRESSIONS = 60, 51
"""How many shapes a fit uses at most, and how many expressions it gives (GLEE-Net, Sec. III-C)."""


@dataclass(frozen=True)
class FaceModel:
    """Landmarks of a linear face model: mean, and displacements that add up, of shape and expression.

    Attributes:
      name: of the model, as manifests and checkpoints state it.
      mean: (68, 3) float64, a neutral face; 68 is 96 in the built-in model for 98 landmarks.
      shape: (s, 68, 3) float64 displacements at coefficient 1, s <= 60.
      expression: (51, 68, 3) float64; a model with fewer has zeros in the last, whose coefficients stay 0.
      expression_names: of those that the model has, at most 51.
      landmarks_from: which table says where the landmarks are.
    """

    name: str
    mean: Floats
    shape: Floats
    expression: Floats
    expression_names: tuple[str, ...]
    landmarks_from: str

    def __post_init__(self) -> None:
        points = len(self.mean)
        for what, array, wanted in (
            ("mean", self.mean, (points, 3)),
            ("shape", self.shape, (len(self.shape), points, 3)),
            ("expression", self.expression, (EXPRESSIONS, points, 3)),
        ):
            if np.shape(array) != wanted or not np.isfinite(array).all():
                raise ValueError(
                    f"face model {self.name}: {what} of shape {np.shape(array)} must be finite numbers of "
                    f"shape {wanted}; correct the file"
                )
        if points != POINTS:
            return
        x, y, z = self.mean.T
        upright = x[36] < x[45] and x[48] < x[54] and y[8] < y[33] < y[27] and z[30] > z[[36, 45]].mean()
        if not upright:
            raise ValueError(
                f"face model {self.name}: by its landmarks ({self.landmarks_from}) the face does not look "
                "along +z, upright along +y, the subject's left at +x; the indices must be in iBUG's order "
                "(36 the outer corner of the right eye, 8 the chin, 30 the tip of the nose), the axes so"
            )


def make_model(
    name: str, mean: Floats, shape: Floats, expression: Floats, names: tuple[str, ...], landmarks_from: str
) -> FaceModel:
    """A model of the first 60 shapes and the first 51 expressions; missing expressions are zero."""
    shape, expression = np.asarray(shape, np.float64)[:SHAPES_USED], np.asarray(expression, np.float64)
    expression = expression[:EXPRESSIONS]
    padded = np.zeros((EXPRESSIONS, *expression.shape[1:]))
    padded[: len(expression)] = expression
    return FaceModel(name, np.asarray(mean, np.float64), shape, padded, names[:EXPRESSIONS], landmarks_from)


@lru_cache(maxsize=2)
def built_in(points: int = POINTS) -> FaceModel:
    """jaxau's own model in millimetres, of 27 identity modes (1 is a standard deviation) and 51 expression
    shapes (1 is intensity E).

    The mean is the drawn one, whose lids lie on the eyeballs. Around lids and lips the drawn faces do more
    than add up shapes (``jaxau.morphable.shape``).

    Args:
      points: 98 gives it with the first 96 landmarks of WFLW in place of the 68.
    """
    places = LANDMARKS_98 if points == 98 else LANDMARKS_68
    identity, expression = identity_basis().vertices, expression_shapes()
    mean = HeadShape(np.zeros(len(MODES))).vertices(np.zeros(len(SYNTHETIC_AUS), np.float32))
    return FaceModel(
        "built-in",
        sample(mean.astype(np.float64), places),
        np.stack([sample(mode.astype(np.float64), places) for mode in identity]),
        np.stack([sample(shape.astype(np.float64), places) for shape in expression]),
        SHAPES,
        "jaxau.morphable.landmarks",
    )
