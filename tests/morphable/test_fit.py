"""The fit against SciPy on an energy written anew, against known faces, and on bad landmarks."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from jaxau.benchmark.face_fit import FOCAL, SIZE, KnownFaces, known_faces, scipy_energies
from jaxau.morphable import fit as fitting
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.curves import CURVES, SCHEMES, contours
from jaxau.morphable.expression import SHAPES
from jaxau.morphable.fit import fit
from jaxau.morphable.grid import sample
from jaxau.morphable.landmarks import LANDMARKS_68, LANDMARKS_98
from jaxau.morphable.linear_model import FaceModel, built_in
from jaxau.morphable.shape import HeadShape

MODEL = built_in()


def _residuals(
    x: np.ndarray, turn: np.ndarray, face: np.ndarray, bases: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Eq. 3 in half sides, face (68, 2) as x right and y up; float64 loops over points and segments."""
    points = mean + bases @ x[6:]
    posed = points @ (Rotation.from_rotvec(x[:3]).as_matrix() @ turn).T + x[3:6]
    projected = FOCAL / (SIZE / 2) * posed[:, :2] / -posed[:, 2:]
    off = projected - face
    for curve in CURVES:
        start, stop = face[list(curve[:-1])], face[list(curve[1:])]
        edge = stop - start
        for point in curve[1:-1]:
            share = ((projected[point] - start) * edge).sum(1) / np.square(edge).sum(1)
            distance = projected[point] - start - np.clip(share, 0, 1)[:, None] * edge
            off[point] = distance[np.square(distance).sum(1).argmin()]
    return np.concatenate([off.ravel(), 1e-2 * x[6:]])


def _scipy(landmarks: np.ndarray) -> np.ndarray:
    """Energies of faces, each from the fit's own start."""
    arrays, *_ = fitting.normalize(MODEL, 68)
    seen = (landmarks - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2)
    begin = fitting.first_guess(arrays, seen, FOCAL / (SIZE / 2))
    energies = []
    for i, face in enumerate(seen):
        x = np.concatenate([np.zeros(3), begin.translation[i], begin.coefficients[i]])
        with threadpool_limits(1):  # quicker than on several
            found = least_squares(_residuals, x, args=(begin.rotation[i], face, arrays.bases, arrays.mean))
        energies.append(2 * found.cost)
    return np.array(energies)


def test_energy_is_the_one_that_is_minimised() -> None:
    drawn = known_faces(3, noise=1)
    arrays, factors, unit, middle = fitting.normalize(MODEL, 68)
    assert np.abs(arrays.mean).max() <= 3 and np.isclose(np.abs(arrays.bases).max((1, 2))[:27].max(), 3)
    found = fit(MODEL, drawn.landmarks, SIZE, FOCAL)
    for i, face in enumerate((drawn.landmarks - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2)):
        shift = (found.translation[i] + found.rotation[i] @ middle) / unit
        coefficients = np.concatenate([found.shape[i], found.expression[i]]) / factors
        x = np.concatenate([np.zeros(3), shift, coefficients])
        energy = np.square(_residuals(x, found.rotation[i], face, arrays.bases, arrays.mean)).sum()
        np.testing.assert_allclose(found.energy[i], energy, rtol=1e-9)  # as float64 knows it


def test_as_low_as_scipy() -> None:
    drawn = known_faces(16, noise=1)
    reference = scipy_energies(MODEL, drawn.landmarks, "lm")
    assert (fit(MODEL, drawn.landmarks, SIZE, FOCAL).energy <= 1.0001 * reference).sum() >= 15


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_as_low_as_scipy_on_50_faces(noise: float) -> None:
    drawn = known_faces(50, noise=noise)
    found = fit(MODEL, drawn.landmarks, SIZE, FOCAL)
    assert (found.energy <= 1.0001 * _scipy(drawn.landmarks)).sum() >= 48


def test_no_step_raises_the_energy_and_the_last_change_nothing() -> None:
    landmarks = known_faces(16, noise=1).landmarks
    energies = np.array(
        [fit(MODEL, landmarks, SIZE, FOCAL, steps).energy for steps in (3, 4, 5, 6, 8, 16, 40)]
    )
    assert (np.diff(energies, axis=0) <= 0).all() and (energies[0] > 1.01 * energies[-1]).any()
    assert (energies[-2] <= 1.0001 * energies[-1]).sum() >= 15


def test_jacobian_is_that_of_the_residuals() -> None:
    """Central differences of the energy written anew, where some points slide and some lie at corners."""
    drawn = known_faces(4, noise=2)
    arrays, *_ = fitting.normalize(MODEL, 68)
    seen = (drawn.landmarks - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2)
    begin, focal = fitting.first_guess(arrays, seen, FOCAL / (SIZE / 2)), FOCAL / (SIZE / 2)
    with jax.enable_x64(True):
        edges = [fitting._edges(contour, seen) for contour in arrays.contours]
        at = fitting._evaluate(arrays, seen, edges, focal, begin)
        ours = np.asarray(fitting._jacobian(arrays.bases, focal, begin.rotation, at))
    slides = np.abs(np.asarray(at.along)).sum(-1) > 0
    inner = np.concatenate([contour.inner for contour in contours(68)])
    assert 0.5 < slides[:, inner].mean() < 1 and not np.delete(slides, inner, 1).any()
    for i, face in enumerate(seen):
        x = np.concatenate([np.zeros(3), begin.translation[i], begin.coefficients[i]])

        def residuals(x: np.ndarray, i: int = i, face: np.ndarray = face) -> np.ndarray:
            return _residuals(x, begin.rotation[i], face, arrays.bases, arrays.mean)[: 2 * 68]

        steps = 1e-6 * np.eye(len(x))
        slope = np.stack([residuals(x + step) - residuals(x - step) for step in steps], 1) / 2e-6
        np.testing.assert_allclose(ours[i].reshape(2 * 68, -1), slope, atol=1e-5)


def test_points_inside_of_contours_lie_on_them_and_their_ends_do_not() -> None:
    on = {int(point): contour for contour in contours(68) for point in contour.inner}
    assert set(range(68)) - set(on) == {0, 16, 17, 21, 22, 26, *range(27, 36), 36, 39, 42, 45, 48, 54, 60, 64}
    for point, curve in ((3, range(17)), (24, range(22, 27)), (46, (45, 46, 47, 42)), (62, range(60, 65))):
        row = list(on[point].inner).index(point)
        pairs = list(zip(on[point].first[row].tolist(), on[point].last[row].tolist(), strict=True))
        assert pairs == list(zip(list(curve)[:-1], list(curve)[1:], strict=True))


@pytest.fixture(scope="module")
def exact() -> tuple[KnownFaces, fitting.Fit]:
    drawn = known_faces(96)
    return drawn, fit(MODEL, drawn.landmarks, SIZE, FOCAL)


def test_pose_of_exact_landmarks(exact: tuple[KnownFaces, fitting.Fit]) -> None:
    drawn, found = exact
    assert found.ok.all()
    assert np.abs(found.pose - drawn.pose).max() < 1
    assert found.error.max() < 0.2


KNOWN = tuple(f"AU{au:02d} {side}" for au in (1, 2, 4, 6) for side in ("right", "left"))


def test_coefficients_of_shapes_that_landmarks_show(exact: tuple[KnownFaces, fitting.Fit]) -> None:
    """Beside all others no column keeps 20 % of its norm, since people rest in the same movements; those that
    keep most are found. Where the person is known, and is the model's mean, eight keep 20 %."""
    share, correlation = _shown(MODEL, *exact)
    assert not [name for name in SHAPES if share[name] >= 0.2]
    most = {name for name in SHAPES if share[name] >= 0.1}
    assert {"AU02 right", "AU02 left", "AU04 right", "AU04 left"} <= most
    assert min(correlation[name] for name in most) >= 0.95
    assert np.median(list(correlation.values())) > 0.75
    person = dataclasses.replace(MODEL, shape=MODEL.shape[:0])
    drawn = known_faces(96, model=person)
    share, correlation = _shown(person, drawn, fit(person, drawn.landmarks, SIZE, FOCAL))
    shown = tuple(name for name in SHAPES if share[name] >= 0.2)
    assert shown == KNOWN
    assert min(correlation[name] for name in shown) >= 0.95


def _shown(
    model: FaceModel, drawn: KnownFaces, found: fitting.Fit
) -> tuple[dict[str, float], dict[str, float]]:
    """By shape: the share that its column keeps, and the correlation of its coefficients with the truth."""
    pairs = zip(found.expression.T, drawn.expression.T, strict=True)
    correlation = [float(np.corrcoef(ours, truth)[0, 1]) for ours, truth in pairs]
    shares = _own_share(model, drawn, found).tolist()
    return dict(zip(SHAPES, shares, strict=True)), dict(zip(SHAPES, correlation, strict=True))


def _own_share(model: FaceModel, drawn: KnownFaces, found: fitting.Fit) -> np.ndarray:
    """(51,) median share of its norm that a column of the energy's Jacobian keeps beside all others.

    Without the regularisers; by central differences of the energy that is written anew.
    """
    arrays, factors, unit, middle = fitting.normalize(model, 68)
    n, shares = len(factors), []
    for i in range(12):
        face = (drawn.landmarks[i] - (SIZE - 1) / 2) * [1, -1] / (SIZE / 2)
        shift = (found.translation[i] + found.rotation[i] @ middle) / unit
        x = np.concatenate(
            [np.zeros(3), shift, np.concatenate([found.shape[i], found.expression[i]]) / factors]
        )

        def residuals(x: np.ndarray, i: int = i, face: np.ndarray = face) -> np.ndarray:
            return _residuals(x, found.rotation[i], face, arrays.bases, arrays.mean)[: 2 * 68]

        jacobian = np.stack([residuals(x + step) - residuals(x - step) for step in 1e-5 * np.eye(6 + n)], 1)
        jacobian /= np.maximum(np.linalg.norm(jacobian, axis=0), 1e-12)
        # What a column keeps beside the others is one over the length of its row in the inverse.
        _, lengths, axes = np.linalg.svd(jacobian, full_matrices=False)
        shares.append(1 / np.linalg.norm(axes / np.maximum(lengths, 1e-6)[:, None], axis=0)[-51:])
    return np.median(shares, 0)


def test_error_grows_smoothly_with_noise() -> None:
    errors = []
    for noise in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        drawn = known_faces(64, noise=noise)
        found = fit(MODEL, drawn.landmarks, SIZE, FOCAL)
        assert found.ok.all() and np.abs(found.expression).max() < 15
        errors.append(np.abs(found.pose - drawn.pose).mean())
    steps = np.diff(errors)
    assert (steps > 0).all() and steps.max() < 4 * errors[1]


def test_faces_turned_far_are_not_left_in_a_local_minimum() -> None:
    """Which curves alone have: from the mean face, points of a turned jaw slide to the wrong segments."""
    drawn, landmarks = known_faces(48), []
    points = MODEL.mean + np.tensordot(drawn.shape, MODEL.shape, 1)
    points = points + np.tensordot(drawn.expression, MODEL.expression, 1)
    poses = drawn.pose * [2, 1.5, 2]
    for pose, xyz in zip(poses, points, strict=True):
        landmarks.append(Camera(SIZE, rotation(*pose), scale=0.95).project(xyz)[0])
    found = fit(MODEL, np.stack(landmarks), SIZE, FOCAL)
    assert found.error.max() < 0.1 and np.abs(found.pose - poses).max() < 0.5


@pytest.mark.parametrize("points", [49, 66])
def test_fewer_landmarks(exact: tuple[KnownFaces, fitting.Fit], points: int) -> None:
    drawn, _ = exact
    found = fit(MODEL, drawn.landmarks[:16, SCHEMES[points]], SIZE, FOCAL)
    assert found.ok.all() and np.abs(found.pose - drawn.pose[:16]).mean() < 0.5


def test_bad_landmarks_have_reasons_and_spoil_no_other_face(exact: tuple[KnownFaces, fitting.Fit]) -> None:
    drawn, alone = exact
    landmarks = drawn.landmarks[:9].copy()
    landmarks[1, 30] = np.nan
    landmarks[2, 5, 0] = np.inf
    landmarks[3] = landmarks[3, :1]
    landmarks[4, 20] = landmarks[4, 33]
    landmarks[5, :, 1] = 2 * landmarks[5, :, 0] + 3
    landmarks[6, 41] = landmarks[6, 37]  # a closed eye is a face
    landmarks[7] *= 1e-30
    found = fit(MODEL, landmarks, SIZE, FOCAL)
    assert found.reasons[1] == "1 of 68 landmarks missing" and found.reasons[2] == "1 of 68 landmarks missing"
    assert "in one place" in found.reasons[3]
    assert found.reasons[4] == "landmarks 20 and 33 in one place"
    assert found.reasons[5] == "landmarks on one line"
    good = found.ok
    assert good[[0, 6, 8]].all() and not good[[1, 2, 3, 4, 5]].any()
    for values in (
        found.expression,
        found.shape,
        found.rotation,
        found.translation,
        found.energy,
        found.error,
    ):
        assert np.isfinite(values[good]).all() and np.isnan(values[~good]).all()
    np.testing.assert_allclose(found.expression[[0, 8]], alone.expression[[0, 8]], atol=2e-3)


@pytest.mark.parametrize(("points", "places"), [(68, LANDMARKS_68), (98, LANDMARKS_98)])
def test_pose_of_rendered_faces(points: int, places: np.ndarray) -> None:
    """Of the renderer's own faces, whose lids and lips are not linear."""
    model, truth, landmarks = built_in(points), [], []
    rng = np.random.default_rng(2)
    for _ in range(32):
        shape = HeadShape(rng.normal(0, 1, 27).clip(-2.2, 2.2))
        truth.append(rng.normal(0, [12, 7, 5]))
        vertices = shape.vertices(np.where(rng.random(25) < 0.2, rng.uniform(0, 1, 25), 0).astype(np.float32))
        seen = Camera(SIZE, rotation(*truth[-1]), scale=0.95).project(sample(vertices, places).astype(float))
        landmarks.append(np.concatenate([seen[0], np.zeros((2 * (points == 98), 2))]))  # pupils do not count
    found = fit(model, np.stack(landmarks), SIZE, FOCAL)
    assert found.ok.all() and found.error.max() < 0.6
    assert np.abs(found.pose - truth).mean() < 0.05 and np.abs(found.pose - truth).max() < 1


def test_98_landmarks_need_a_model_that_has_them() -> None:
    with pytest.raises(ValueError, match="98 landmarks: face model built-in has 68"):
        fit(MODEL, np.zeros((1, 98, 2)), SIZE)


def test_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5, 2\).*68, 66, 49, 98"):
        fit(MODEL, np.zeros((1, 5, 2)), SIZE)
    assert not len(fit(MODEL, np.zeros((0, 68, 2)), SIZE).expression)
