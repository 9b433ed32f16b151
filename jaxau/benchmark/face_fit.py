"""The fit of a face model on faces of which all is known: against SciPy's least squares, and the truth."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from jaxau.benchmark.machine import Row, seconds_of, spread
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable import fit as fitting
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.expression import SHAPES, limit_weights, shape_weights
from jaxau.morphable.grid import Floats, sample
from jaxau.morphable.identity import LIMIT, MODES
from jaxau.morphable.landmarks import LANDMARKS_68, LANDMARKS_98
from jaxau.morphable.linear_model import FaceModel, built_in
from jaxau.morphable.shape import HeadShape

SIZE, SCALE = 256, 0.95
FOCAL = Camera(SIZE, np.eye(3), scale=SCALE).focal
METHODS = ("trf", "lm")
"""Of SciPy: its default, and MINPACK's Levenberg-Marquardt."""
AS_LOW = 1.0001
"""An energy is as low as another up to this factor."""


@dataclass(frozen=True)
class KnownFaces:
    """Faces (b) of a linear model, seen by a camera.

    Attributes:
      shape: (b, s) coefficients, standard normal within 2.2.
      expression: (b, 51), three in ten of them between 0 and 1.
      pose: (b, 3) degrees: yaw, pitch, roll.
      landmarks: (b, p, 2) pixels of pictures of `SIZE`, by a focal length `FOCAL`.
    """

    shape: Floats
    expression: Floats
    pose: Floats
    landmarks: Floats


def known_faces(count: int, noise: float = 0.0, seed: int = 0, model: FaceModel | None = None) -> KnownFaces:
    """Draw faces of the model (None = `built_in`), with ``noise`` pixels on their landmarks."""
    model = model or built_in()
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 1, (count, len(model.shape))).clip(-LIMIT, LIMIT)
    some, how_much = rng.random((count, 51)) < 0.3, rng.uniform(0, 1, (count, 51))
    expression = np.where(some, how_much, 0)
    pose = rng.normal(0, [15, 8, 8], (count, 3))
    shift = rng.normal(0, 5, (count, 2))
    points = model.mean + np.tensordot(shape, model.shape, 1) + np.tensordot(expression, model.expression, 1)
    exact = np.stack(
        [
            Camera(SIZE, rotation(*p), (s[0], s[1]), SCALE).project(xyz)[0]
            for p, s, xyz in zip(pose, shift, points, strict=True)
        ]
    )
    return KnownFaces(shape, expression, pose, exact + noise * rng.normal(0, 1, exact.shape))


class Residuals:
    """What SciPy minimises for one face: the energy of `jaxau.morphable.fit`, in float64 NumPy arrays.

    Args:
      arrays: of `jaxau.morphable.fit.normalize`.
      face: (p, 2) landmarks from the middle of the picture, y up, in half sides.
      turned: (3, 3) rotation at the start.
      focal: length in half sides.
    """

    def __init__(self, arrays: fitting.Normalized, face: Floats, turned: Floats, focal: float):
        self._mean, self._bases = arrays.mean.ravel(), arrays.bases.reshape(3 * len(face), -1)
        self._face, self._turned, self._focal = face, turned, focal
        self._curves = []
        for contour in arrays.contours:
            first = face[contour.first]
            edge = face[contour.last] - first
            self._curves.append((contour.inner, first, edge, np.square(edge).sum(-1)))

    def __call__(self, x: Floats) -> Floats:
        """The (2 p + n,) numbers whose squares the energy adds up.

        Args:
          x: (6 + n,) rotation vector from the start, translation, coefficients.
        """
        rotation = Rotation.from_rotvec(x[:3]).as_matrix() @ self._turned
        posed = (self._mean + self._bases @ x[6:]).reshape(-1, 3) @ rotation.T + x[3:6]
        projected = self._focal * posed[:, :2] / -posed[:, 2:]
        off = projected - self._face
        for inner, first, edge, square in self._curves:
            from_first = projected[inner, None] - first
            share = np.clip((from_first * edge).sum(-1) / square, 0, 1)
            from_first -= share[..., None] * edge
            nearest = np.square(from_first).sum(-1).argmin(-1)
            off[inner] = from_first[np.arange(len(nearest)), nearest]
        return np.concatenate([off.ravel(), np.sqrt(fitting.WEIGHT) * x[6:]])


def scipy_energies(model: FaceModel, landmarks: Floats, method: str) -> Floats:
    """Energies (b,) that SciPy's ``method`` reaches for each face from the fit's own start.

    On one thread: on several, its small decompositions wait for each other, and take longer.
    """
    arrays, *_ = fitting.normalize(model, landmarks.shape[1])
    seen, focal = (landmarks - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2), FOCAL / (SIZE / 2)
    start = fitting.first_guess(arrays, seen, focal)
    energies = []
    with threadpool_limits(1):
        for i, face in enumerate(seen):
            x = np.concatenate([np.zeros(3), start.translation[i], start.coefficients[i]])
            found = least_squares(Residuals(arrays, face, start.rotation[i], focal), x, method=method)
            energies.append(2 * found.cost)
    return np.array(energies)


def measure_fit(faces: int, noise: float, rounds: int, turn: int = 3) -> Row:
    """Fit known faces by turns with SciPy, whose methods fit another share of the faces in each round.

    Args:
      faces: how many; all of them in each of our turns.
      noise: pixels on their landmarks.
      rounds: among which SciPy's faces are divided.
      turn: fits in a row, of which the median counts.

    Returns:
      ``faces``, ``noise``, ``faces_per_second`` of ours, and of each of `METHODS` ``faces_per_second``,
      ``speed_ratio`` (its seconds for a face over ours, by rounds) and ``as_low``: on how many of the faces
      our energy is at most `AS_LOW` times its.
    """
    model, known = built_in(), known_faces(faces, noise)
    found = fitting.fit(model, known.landmarks, SIZE, FOCAL)  # compiles
    ours: list[float] = []
    energies: dict[str, list[Floats]] = {method: [] for method in METHODS}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}

    def step() -> None:
        fitting.fit(model, known.landmarks, SIZE, FOCAL)

    for part in np.array_split(known.landmarks, rounds):
        for method in METHODS:
            begin = time.perf_counter()
            energies[method].append(scipy_energies(model, part, method))
            seconds[method].append((time.perf_counter() - begin) / len(part))
            ours.append(float(np.median([seconds_of(step) for _ in range(turn)])) / faces)
            ratios[method].append(seconds[method][-1] / ours[-1])
    theirs: dict[str, Any] = {
        method: {
            "faces_per_second": spread([1 / s for s in seconds[method]]),
            "speed_ratio": spread(ratios[method]),
            "as_low": int((found.energy <= AS_LOW * np.concatenate(energies[method])).sum()),
        }
        for method in METHODS
    }
    return {"faces": faces, "noise": noise, "faces_per_second": spread([1 / s for s in ours]), **theirs}


def rendered_faces(count: int, points: int, noise: float = 0.0, seed: int = 0) -> KnownFaces:
    """Faces as the renderer draws them, whose lids and lips are not linear.

    Their expressions are AUs of both sides, one in five between 0 and 1.

    Args:
      count: of faces.
      points: 68 or 98 landmarks.
      noise: pixels on them.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    identity = rng.normal(0, 1, (count, len(MODES))).clip(-LIMIT, LIMIT)
    active = rng.random((count, len(SYNTHETIC_AUS))) < 0.2
    weights = limit_weights(np.where(active, rng.uniform(0, 1, active.shape), 0))
    pose = rng.normal(0, [12, 7, 5], (count, 3))
    places = LANDMARKS_98 if points == 98 else LANDMARKS_68
    landmarks = np.zeros((count, points, 2))  # of 98, the pupils do not count
    for i in range(count):
        vertices = HeadShape(identity[i]).vertices(weights[i].astype(np.float32))
        on_mesh = sample(vertices, places).astype(np.float64)
        landmarks[i, : len(places)] = Camera(SIZE, rotation(*pose[i]), scale=SCALE).project(on_mesh)[0]
    landmarks += noise * rng.normal(0, 1, landmarks.shape)
    return KnownFaces(identity, shape_weights(weights), pose, landmarks)


def measure_accuracy(known: KnownFaces, rendered: bool, noise: float) -> Row:
    """Fit known faces and compare pose and expression with the truth.

    Returns:
      ``faces``, ``rendered``, ``landmarks``, ``noise`` as given; ``pose_degrees``, over faces, of the angle
      about which a face is most wrong, and ``most_degrees``, of the worst face; ``within_a_degree``, a share
      of the faces; ``correlation`` of coefficients with the truth, over the shapes that move; and
      ``correlation_of``, the lower of both sides of AU2, 4 and 9.
    """
    points = known.landmarks.shape[1]
    found = fitting.fit(built_in(98 if points == 98 else 68), known.landmarks, SIZE, FOCAL)
    off = np.abs(found.pose - known.pose).max(1)
    moving = np.flatnonzero(known.expression.std(0) > 0)
    correlation = {
        SHAPES[i]: float(np.corrcoef(found.expression[:, i], known.expression[:, i])[0, 1]) for i in moving
    }
    return {
        "faces": len(off),
        "rendered": rendered,
        "landmarks": points,
        "noise": noise,
        "pose_degrees": spread(off.tolist()),
        "most_degrees": float(off.max()),
        "within_a_degree": float((off < 1).mean()),
        "correlation": spread(list(correlation.values())),
        "correlation_of": {
            name: min(correlation[f"{name} right"], correlation[f"{name} left"])
            for name in ("AU02", "AU04", "AU09")
        },
    }
