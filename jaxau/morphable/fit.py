"""Fitting a linear face model to landmarks: shape, expression and head pose of many faces at once.

GLEE-Net, Eq. 3: over the landmarks, the squared distance between the detected point and the projected model,
plus 1e-4 times the squared coefficients, of bases normalised to [-3, 3]. Landmarks in the middle of a contour
are compared with the detected curve and not with its points. Levenberg-Marquardt with a fixed number of
steps; a face that is done, or cannot be fitted, is masked. Energies are computed in float64, because float32
knows small ones to 1e-4 only; the directions of steps in float32, which is half the work.

Distances count in half sides of the picture [choice]: with pixels, 1e-4 would depend on the resolution and be
nothing at any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxau.morphable.curves import SCHEMES, Contour, check_landmarks, contours
from jaxau.morphable.grid import Floats
from jaxau.morphable.linear_model import POINTS, FaceModel

STEPS = 16
WEIGHT = 1e-4  # of both regularisers
SEEN_FROM = 650.0 / 191.0
"""Focal length of an aligned face, in sides of JAA-Net's box: a head that fills it (191 mm) from 650 mm."""
_REACH = 3.0
_FACES_AT_ONCE = (1, 4, 16)  # sizes that are compiled: more no longer fit in the cache
_POSE = 6
_FIRST_DAMPING, _DAMPING_OF_REFUSED = 1e-6, 1e-3
"""The first steps are nearly Gauss-Newton's; from one that fails, damping starts where it can be felt."""
_POOR, _GOOD = 0.25, 0.75  # decrease of the energy, as a share of what was predicted
_LESS, _MORE = 0.1, 10.0  # damping after a good step, or a poor one
_POINT_STEPS, _WAY_STEPS = 1, 3
_CLEARLY = 0.9
"""Sliding along curves has local minima, so that each face goes two ways for some steps. The second is taken
where its energy is less by this factor."""
_LEAST_DAMPING, _MOST_DAMPING = 1e-7, 1e6
_DONE = 1e-9  # relative decrease of the energy that is still predicted


@dataclass(frozen=True)
class Fit:
    """Faces (b) after the fit. A face with a reason has NaN in every field.

    Attributes:
      expression: (b, 51) coefficients, in the unit of the model's own expressions.
      shape: (b, s) likewise.
      rotation: (b, 3, 3) of the head (`jaxau.morphable.camera.rotation`).
      translation: (b, 3) from the camera, in the model's unit; the camera looks along -z.
      energy: (b,) Eq. 3, in half sides squared.
      error: (b,) root of the mean squared distance in pixels between the landmarks and the model's points.
      reasons: b, why a face could not be fitted; "" where it was.
    """

    expression: Floats
    shape: Floats
    rotation: Floats
    translation: Floats
    energy: Floats
    error: Floats
    reasons: tuple[str, ...]

    @property
    def ok(self) -> Floats:
        """(b,) bool: fitted."""
        return np.array([not reason for reason in self.reasons], bool)

    @property
    def pose(self) -> Floats:
        """(b, 3) degrees: yaw, pitch, roll as `jaxau.morphable.camera.rotation` takes them."""
        r = self.rotation
        pitch = np.arcsin(np.clip(r[:, 2, 1], -1, 1))
        yaw = np.arctan2(-r[:, 2, 0], r[:, 2, 2])
        roll = np.arctan2(-r[:, 0, 1], r[:, 1, 1])
        return np.rad2deg(np.stack([yaw, pitch, roll], -1))


class Unknowns(NamedTuple):
    """What is fitted: rotation (b, 3, 3), translation (b, 3), coefficients (b, n): shape, then expression."""

    rotation: Any
    translation: Any
    coefficients: Any


class Normalized(NamedTuple):
    """A face model with mean and bases in [-3, 3] (GLEE-Net, Sec. III-C), for p landmarks.

    The mean is centred and scaled by one factor. The shapes have one factor too, and the expressions one, so
    that the most moving of them reaches 3 and their proportions remain [choice].
    """

    mean: Any  # (p, 3)
    bases: Any  # (p, 3, n)
    contours: tuple[Contour, ...]
    order: Any  # (p,) places in the string of all points and then the points of each contour


def normalize(model: FaceModel, points: int) -> tuple[Normalized, Floats, float, Floats]:
    """The model as the energy sees it.

    Returns:
      It, the factors (n,) from its coefficients to those of ``model``, its unit in that of ``model``, and the
      centre (3,) of the mean.

    Raises:
      ValueError: the model has no such landmarks.
    """
    if (points == 98) != (len(model.mean) == 96):
        raise ValueError(
            f"{points} landmarks: face model {model.name} has {POINTS if points == 98 else 98}; give "
            "landmarks that the model has (of 98 only the built-in one knows where they are)"
        )
    center = (model.mean.max(0) + model.mean.min(0)) / 2
    unit = np.abs(model.mean - center).max() / _REACH
    scales = [
        _REACH / max(float(np.abs(basis).max(initial=0)), 1e-12) for basis in (model.shape, model.expression)
    ]
    factors = np.repeat(scales, [len(model.shape), len(model.expression)])
    bases = np.concatenate([model.shape, model.expression]) * factors[:, None, None]
    kept = SCHEMES[points]
    mean = ((model.mean - center) / unit)[kept]
    on_curves, order = contours(points), np.arange(len(kept))
    inner = np.concatenate([contour.inner for contour in on_curves])
    order[inner] = len(kept) + np.arange(len(inner))
    arrays = Normalized(mean, np.ascontiguousarray(np.moveaxis(bases[:, kept], 0, 2)), on_curves, order)
    return arrays, factors * unit, unit, center


def fit(
    model: FaceModel,
    landmarks: Floats,
    size: float,
    focal: float | None = None,
    steps: int = STEPS,
) -> Fit:
    """Fit a face model to the landmarks of many faces.

    Args:
      model: of 68 landmarks, or for 98 given ones `built_in` (98).
      landmarks: (b, p, 2) pixels of square pictures, p of 98, 68, 66 or 49.
      size: side of the pictures; the camera looks through their middle.
      focal: length of the perspective camera in pixels; None = `SEEN_FROM` sides, as for a face cut out by
        "jaa200" or "jaa256".
      steps: of Levenberg-Marquardt.

    Raises:
      ValueError: landmarks of another shape.
    """
    landmarks = np.asarray(landmarks, np.float64)
    reasons = check_landmarks(landmarks)
    arrays, factors, unit, middle = normalize(model, landmarks.shape[1])
    landmarks = landmarks[:, : len(SCHEMES[landmarks.shape[1]])]  # without pupils
    faces, shapes = len(landmarks), len(model.shape)
    rows = np.array([i for i, reason in enumerate(reasons) if not reason], int)
    found = Found(
        Unknowns(
            np.full((faces, 3, 3), np.nan),
            np.full((faces, 3), np.nan),
            np.full((faces, len(factors)), np.nan),
        ),
        np.full(faces, np.nan),
        np.full(faces, np.nan),
    )
    focal = (focal or SEEN_FROM * size) / (size / 2)
    seen = (landmarks - (size - 1) / 2) * [1, -1] / (size / 2)
    for chunk in np.split(rows, range(_FACES_AT_ONCE[-1], len(rows), _FACES_AT_ONCE[-1])):
        if not len(chunk):
            continue
        count = next(count for count in _FACES_AT_ONCE if len(chunk) <= count)
        filled = seen[np.concatenate([chunk, np.full(count - len(chunk), chunk[0])])]
        start = first_guess(arrays, filled, focal)
        with jax.enable_x64(True):
            part = _better_way(arrays, filled, focal, start, steps)
        for whole, values in zip(jax.tree.leaves(found), jax.tree.leaves(part), strict=True):
            whole[chunk] = np.asarray(values)[: len(chunk)]
    for i in rows:
        if not all(np.isfinite(values[i]).all() for values in jax.tree.leaves(found)):
            reasons[i] = "the fit did not converge"
            for values in jax.tree.leaves(found):
                values[i] = np.nan
    rotation, translation, coefficients = found.unknowns
    coefficients = coefficients * factors
    return Fit(
        expression=coefficients[:, shapes:],
        shape=coefficients[:, :shapes],
        rotation=rotation,
        translation=translation * unit - rotation @ middle,
        energy=found.energy,
        error=found.error * size / 2,
        reasons=tuple(reasons),
    )


def first_guess(arrays: Normalized, seen: Floats, focal: float) -> Unknowns:
    """The mean face, turned and placed so that its orthographic projection comes closest.

    Args:
      arrays: the model.
      seen: (b, p, 2) landmarks from the middle of the picture, x right, y up, in half sides.
      focal: length in half sides.
    """
    mean = np.concatenate([arrays.mean, np.ones((len(arrays.mean), 1))], 1)
    affine = np.einsum("kp,bpi->bik", np.linalg.pinv(mean), seen / focal)  # (b, 2, 4)
    left, extent, right = np.linalg.svd(affine[..., :3], full_matrices=False)
    upper = left @ right  # the two nearest orthonormal rows
    rotation = np.concatenate([upper, np.cross(upper[:, 0], upper[:, 1])[:, None]], 1)
    depth = 1 / np.maximum(extent.mean(-1), 1e-12)
    translation = np.concatenate([affine[..., 3] * depth[:, None], -depth[:, None]], 1)
    return Unknowns(rotation, translation, np.zeros((len(seen), arrays.bases.shape[-1])))


class Found(NamedTuple):
    """Unknowns with their energy (b,), and the root mean square distance (b,); in half sides."""

    unknowns: Unknowns
    energy: Any
    error: Any


class _At(NamedTuple):
    """The energy at some unknowns, and what its derivatives are made of."""

    energy: Any  # (b,), infinite where a point lies behind the camera
    turned: Any  # (b, p, 3): rotated points
    posed: Any  # (b, p, 3)
    off: Any  # (b, p, 2) from the nearest point of the curve, or from the landmark
    along: Any  # (b, p, 2) unit vector along the curve, 0 where the nearest point is a corner


class _Edges(NamedTuple):
    """Of k landmarks, the m segments of the detected curve that each may lie on."""

    inner: Any  # (k,)
    first: Any  # (b, k, m, 2)
    length: Any  # (b, k, m)
    direction: Any  # (b, k, m, 2)


def _edges(contour: Contour, seen: Any) -> _Edges:
    first = seen[:, contour.first]
    edge = seen[:, contour.last] - first
    length = jnp.sqrt(jnp.square(edge).sum(-1))
    return _Edges(contour.inner, first, length, edge / jnp.where(length > 0, length, 1)[..., None])


def _evaluate(arrays: Normalized, seen: Any, edges: Sequence[_Edges], focal: Any, unknowns: Unknowns) -> _At:
    rotation, translation, coefficients = unknowns
    p, _, n = arrays.bases.shape
    points = arrays.mean + (coefficients @ arrays.bases.reshape(p * 3, n).T).reshape(-1, p, 3)
    turned = points @ rotation.mT
    posed = turned + translation[:, None]
    depth = -posed[..., 2]
    projected = focal * posed[..., :2] / depth[..., None]
    parts = [(projected - seen, jnp.zeros_like(seen)), *(_from_curve(of, projected) for of in edges)]
    off, along = (jnp.concatenate(column, 1)[:, arrays.order] for column in zip(*parts, strict=True))
    energy = jnp.square(off).sum((1, 2)) + WEIGHT * jnp.square(coefficients).sum(1)
    return _At(jnp.where((depth > 0).all(1), energy, jnp.inf), turned, posed, off, along)


def _from_curve(of: _Edges, projected: Any) -> tuple[Any, Any]:
    """(b, k, 2): where projected points (b, p, 2) are from the nearest point of their curve; and along it."""
    from_first = projected[:, of.inner, None] - of.first
    share = (from_first * of.direction).sum(-1)
    off = from_first - jnp.clip(share, 0, of.length)[..., None] * of.direction
    inside = (share > 0) & (share < of.length)
    nearest = jnp.square(off).sum(-1).argmin(-1)
    chosen = (jnp.arange(share.shape[-1]) == nearest[..., None])[..., None]  # quicker than a gather
    along = jnp.where(chosen & inside[..., None], of.direction, 0).sum(2)
    return jnp.where(chosen, off, 0).sum(2), along


def _jacobian(bases: Any, focal: Any, rotation: Any, at: _At) -> Any:
    """(b, p, 2, 6 + n): of ``off`` by a small turn, a shift, and the coefficients."""
    x, y, z = at.posed[..., 0], at.posed[..., 1], at.posed[..., 2]
    depth, zero = -z, jnp.zeros_like(x)
    by_place = (focal / depth)[..., None, None] * jnp.stack(
        [
            jnp.stack([jnp.ones_like(x), zero, x / depth], -1),
            jnp.stack([zero, jnp.ones_like(x), y / depth], -1),
        ],
        -2,
    )  # (b, p, 2, 3)
    by_place -= at.along[..., None] * (at.along[..., None, :] @ by_place)  # sliding costs nothing
    by_turn = jnp.cross(at.turned[:, :, None], by_place)  # d(turn x point) . row = turn . (point x row)
    rows = by_place @ rotation[:, None]
    # Sums of three products: many small matrix products would be slower.
    by_coefficients = sum(rows[..., axis, None] * bases[:, None, axis] for axis in range(3))
    return jnp.concatenate([by_turn, by_place, by_coefficients], -1)


def _turn(rotation: Any, by: Any) -> Any:
    """Rotations (b, 3, 3), turned further by rotation vectors (b, 3); Rodrigues' formula."""
    angle = jnp.linalg.norm(by, axis=-1)[:, None, None]
    safe = jnp.where(angle > 1e-9, angle, 1)
    sine = jnp.where(angle > 1e-9, jnp.sin(safe) / safe, 1)
    cosine = jnp.where(angle > 1e-9, (1 - jnp.cos(safe)) / safe**2, 0.5)
    zero = jnp.zeros_like(by[:, 0])
    x, y, z = by.T
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return (jnp.eye(3) + sine * cross + cosine * cross @ cross) @ rotation


class _State(NamedTuple):
    taken: Any  # steps
    unknowns: Unknowns
    at: _At
    damping: Any  # (b,)
    done: Any  # (b,)


@jax.jit
def _better_way(arrays: Normalized, seen: Any, focal: Any, start: Unknowns, steps: Any) -> Found:
    """Fit from the start, and from where a fit to points alone leads; go the better way to its end."""
    points = arrays._replace(contours=(), order=jnp.arange(seen.shape[1]))
    damping = jnp.full(len(seen), _FIRST_DAMPING)
    by_points = _levenberg_marquardt(points, seen, focal, start, damping, _POINT_STEPS).unknowns
    starts = jax.tree.map(lambda *ways: jnp.concatenate(ways), start, by_points)
    first, many = jnp.minimum(steps, _WAY_STEPS), jnp.tile(seen, (2, 1, 1))
    state = _levenberg_marquardt(arrays, many, focal, starts, jnp.tile(damping, 2), first)
    straight, other = state.at.energy.reshape(2, -1)
    way = jnp.arange(len(seen)) + len(seen) * (other < _CLEARLY * straight)
    unknowns, damping = jax.tree.map(lambda a: a[way], (state.unknowns, state.damping))
    _, unknowns, at, *_ = _levenberg_marquardt(arrays, seen, focal, unknowns, damping, steps - first)
    return Found(unknowns, at.energy, jnp.sqrt(jnp.square(at.off).sum(2).mean(1)))


def _levenberg_marquardt(
    arrays: Normalized, seen: Any, focal: Any, start: Unknowns, damping: Any, steps: Any
) -> _State:
    """The faces after that many steps, or when all are done; those that are done stay as they are."""
    edges = [_edges(contour, seen) for contour in arrays.contours]
    bases = arrays.bases.astype(jnp.float32)
    b, (p, _, n) = len(seen), bases.shape

    def step(state: _State) -> _State:
        taken, unknowns, at, damping, done = state
        now, short = jax.tree.map(lambda a: a.astype(jnp.float32), (unknowns, at))
        jacobian = _jacobian(bases, jnp.float32(focal), now.rotation, short).reshape(b, 2 * p, _POSE + n)
        slope = (jacobian.mT @ short.off.reshape(b, 2 * p, 1))[..., 0]
        slope = slope.at[:, _POSE:].add(WEIGHT * now.coefficients)
        weights = jnp.concatenate([jnp.zeros(_POSE), jnp.full(n, WEIGHT)]).astype(jnp.float32)
        diagonal = jnp.square(jacobian).sum(1) + weights
        more = damping[:, None].astype(jnp.float32) * diagonal
        change = -jax.vmap(_solve)(jacobian.mT @ jacobian + jax.vmap(jnp.diag)(weights + more), slope)
        predicted = (change * (more * change - slope)).sum(1)
        trial = Unknowns(
            _turn(unknowns.rotation, change[:, :3].astype(jnp.float64)),
            unknowns.translation + change[:, 3:_POSE],
            unknowns.coefficients + change[:, _POSE:],
        )
        there = _evaluate(arrays, seen, edges, focal, trial)
        better = (there.energy < at.energy) & ~done
        gained = at.energy - there.energy

        def choose(new: Any, old: Any) -> Any:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        done |= predicted <= _DONE * at.energy
        unknowns, at = jax.tree.map(choose, (trial, there), (unknowns, at))
        poor = ~(gained >= _POOR * predicted)
        raised = jnp.maximum(damping * _MORE, _DAMPING_OF_REFUSED)
        damping = jnp.where(poor, raised, jnp.where(gained > _GOOD * predicted, damping * _LESS, damping))
        return _State(taken + 1, unknowns, at, jnp.clip(damping, _LEAST_DAMPING, _MOST_DAMPING), done)

    at = _evaluate(arrays, seen, edges, focal, start)
    begin = _State(jnp.zeros((), int), start, at, damping, jnp.zeros(b, bool))
    return jax.lax.while_loop(lambda s: (s.taken < steps) & ~s.done.all(), step, begin)


def _solve(matrix: Any, vector: Any) -> Any:
    """Of a positive definite matrix (n, n); NaN where it is not."""
    lower = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    return jax.scipy.linalg.cho_solve((lower, True), vector)
