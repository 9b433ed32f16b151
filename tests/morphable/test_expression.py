"""Geometry of the Action Units: what each must move, on thirty random people."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import expression_basis, limit_weights
from jaxau.morphable.grid import (
    EYE_LOWER,
    EYE_UPPER,
    LIP_LOWER,
    LIP_UPPER,
    SLITS,
    TRIANGLES,
    Floats,
    sample,
)
from jaxau.morphable.head import (
    ACROSS,
    EYE_INNER,
    EYE_OUTER,
    EYEBALL_RADIUS,
    MEAN_HEAD,
    MOUTH_CORNER,
    REFERENCE_X,
    REFERENCE_Y,
)
from jaxau.morphable.identity import LIMIT, MODES, identity_basis
from jaxau.morphable.landmarks import LANDMARKS_68
from jaxau.morphable.shape import LID_THICKNESS, HeadShape, lip_gap, normals

PEOPLE = 30


def _people() -> list[tuple[HeadShape, Floats]]:
    rng = np.random.default_rng(0)
    people = []
    for _ in range(PEOPLE):
        identity = np.clip(rng.normal(0, 1, len(MODES)), -LIMIT, LIMIT)
        gains = np.clip(rng.normal(1, 0.16, len(SYNTHETIC_AUS)), 0.65, 1.4)
        gains[SYNTHETIC_AUS.index(43)] = 1
        people.append((HeadShape(identity), gains))
    return people


PERSONS = _people()


def _vertices(person: tuple[HeadShape, Floats], aus: Mapping[int, float]) -> Floats:
    shape, gains = person
    weights = np.zeros(len(SYNTHETIC_AUS))
    for au, intensity in aus.items():
        weights[SYNTHETIC_AUS.index(au)] = intensity / 5
    return shape.vertices(limit_weights(weights * gains))


def _points(person: tuple[HeadShape, Floats], aus: Mapping[int, float]) -> Floats:
    return sample(_vertices(person, aus), LANDMARKS_68)


def _distance(p: Floats, a: int, b: int) -> float:
    return float(np.linalg.norm(p[a] - p[b]))


def _height(p: Floats, *points: int) -> float:
    return float(np.mean([p[i, 1] for i in points]))


def _aperture(p: Floats) -> float:
    return _height(p, 37, 38, 43, 44) - _height(p, 40, 41, 46, 47)


def _vermilion(p: Floats) -> float:
    return p[51, 1] - p[62, 1] + p[66, 1] - p[57, 1]


# What grows with the intensity, and the mm by which it must have grown at E in the mean.
METRICS: dict[int, tuple[Callable[[Floats], float], tuple[float, float]]] = {
    1: (lambda p: _height(p, 21, 22), (8, 11)),
    2: (lambda p: _height(p, 17, 26), (7.5, 10.5)),
    4: (lambda p: -_height(p, 21, 22) - _distance(p, 21, 22), (15, 21)),
    5: (_aperture, (2.2, 3.8)),
    6: (lambda p: -_aperture(p), (1.6, 3.2)),
    7: (lambda p: -_aperture(p), (3.4, 5.2)),
    9: (lambda p: _height(p, 31, 35), (6.5, 9.5)),
    10: (lambda p: p[51, 1], (3.6, 5.2)),
    12: (lambda p: _distance(p, 48, 54) + _height(p, 48, 54), (27, 38)),
    14: (lambda p: _distance(p, 48, 54) - (p[48, 2] + p[54, 2]) / 2, (14, 20)),
    15: (lambda p: -_height(p, 48, 54), (7.5, 11)),
    16: (lambda p: -p[57, 1], (5.4, 7.4)),
    17: (lambda p: p[57, 1], (5, 7.4)),
    18: (lambda p: -_distance(p, 48, 54), (11, 15.5)),
    20: (lambda p: _distance(p, 48, 54), (18, 27)),
    23: (lambda p: -_vermilion(p), (4.7, 7)),
    24: (lambda p: -_vermilion(p), (6.3, 9)),
    25: (lambda p: p[62, 1] - p[66, 1], (5, 7)),
    26: (lambda p: -p[8, 1], (9, 12.5)),
    27: (lambda p: -p[8, 1], (16, 23)),
    43: (lambda p: -_aperture(p), (8.5, 11)),
}


@pytest.mark.parametrize("au", SYNTHETIC_AUS)
def test_metric_grows_with_intensity(au: int) -> None:
    metric, (least, most) = METRICS[au]
    values = np.array([[metric(_points(person, {au: step})) for step in range(6)] for person in PERSONS])
    assert np.diff(values, axis=1).min() > 0.05  # mm per letter, every person
    assert least < (values[:, -1] - values[:, 0]).mean() < most


# AUs that move the same points: brows up and down, lids, lip corners, lips and jaw.
KIN: dict[int, set[int]] = {
    1: {4, 9},
    2: set(),
    4: {1, 9},
    5: {6, 7, 43},
    6: {5, 7, 43},
    7: {5, 6, 43},
    9: {10},
    10: {9, 12, 17, 23, 24, 25, 27},
    12: {14, 18, 20, 27},
    14: {12, 18, 20},
    15: {12, 20, 26, 27},
    16: {12, 17, 23, 24, 25, 26, 27},
    17: {12, 16, 23, 24, 25, 26, 27},
    18: {12, 14, 20, 23, 27},
    20: {12, 14, 18, 27},
    23: {16, 17, 20, 24, 25, 27},
    24: {16, 17, 23},
    25: {10, 16, 26, 27},
    26: {27},
    27: {26},
    43: {5, 7},
}


@pytest.mark.parametrize("au", SYNTHETIC_AUS)
def test_other_action_units_leave_the_metric_alone(au: int) -> None:
    """An AU's metric moves less than a quarter of its range under any AU that is not its kin."""
    metric = METRICS[au][0]
    person = (HeadShape(np.zeros(len(MODES))), np.ones(len(SYNTHETIC_AUS)))
    still = metric(_points(person, {}))
    own = metric(_points(person, {au: 5})) - still
    moved = {
        other: (metric(_points(person, {other: 5})) - still) / own
        for other in SYNTHETIC_AUS
        if other != au and other not in KIN[au]
    }
    assert {other: share for other, share in moved.items() if abs(share) >= 0.25} == {}


def test_neutral_faces_are_at_rest() -> None:
    apertures = [_aperture(_points(person, {})) for person in PERSONS]
    assert 9.3 < np.mean(apertures) < 10.2
    assert min(apertures) > 4
    for person in PERSONS:
        vertices = _vertices(person, {})
        assert np.abs(vertices[LIP_UPPER] - vertices[LIP_LOWER]).max() == 0


@pytest.mark.parametrize("also", [{}, {5: 5}, {6: 5, 7: 5}])
def test_au43_closes_every_eye(also: dict[int, float]) -> None:
    for person in PERSONS:
        vertices = _vertices(person, {43: 5, **also})
        assert np.abs(vertices[EYE_UPPER, :, 1] - vertices[EYE_LOWER, :, 1]).max() < 1e-4


@pytest.mark.parametrize("aus", [{7: 5}, {6: 5, 7: 5}, {6: 5, 7: 5, 9: 5, 4: 5, 12: 5}])
def test_tight_lids_leave_a_quarter_of_the_aperture(aus: dict[int, float]) -> None:
    for person in PERSONS:
        left = _aperture(_points(person, aus)) / _aperture(_points(person, {}))
        assert 0.25 <= left < 0.85


def test_lips_and_lids_never_pass_each_other() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        aus = {int(au): float(rng.uniform(0, 5)) for au in rng.choice(SYNTHETIC_AUS, 6, False)}
        vertices = _vertices(PERSONS[rng.integers(PEOPLE)], aus)
        for upper, lower in SLITS:
            assert (vertices[upper, :, 1] - vertices[lower, :, 1]).min() > -1e-4


def test_doubled_rows_coincide_outside_the_openings() -> None:
    beyond_eye = (ACROSS[EYE_UPPER] <= EYE_INNER) | (ACROSS[EYE_UPPER] >= EYE_OUTER)
    beyond_mouth = ACROSS[LIP_UPPER] >= MOUTH_CORNER
    for fields in (expression_basis(), identity_basis().vertices):
        eye = fields[:, EYE_UPPER] - fields[:, EYE_LOWER]
        lip = fields[:, LIP_UPPER] - fields[:, LIP_LOWER]
        assert np.abs(eye[:, beyond_eye]).max() == 0
        assert np.abs(lip[:, beyond_mouth]).max() == 0


def test_identity_parts_no_lips_and_only_one_mode_parts_lids() -> None:
    modes = identity_basis().vertices
    assert np.abs(modes[:, LIP_UPPER] - modes[:, LIP_LOWER]).max() == 0
    opens = np.abs(modes[:, EYE_UPPER] - modes[:, EYE_LOWER]).max(axis=(1, 2)) > 0
    assert [name for name, parts in zip(MODES, opens, strict=True) if parts] == ["eye_opening"]


def _frontal_areas(vertices: Floats) -> Floats:
    """Signed areas of the triangles of the face seen from the front; a fold is negative."""
    face = (ACROSS < 45) & (REFERENCE_Y > -105) & (REFERENCE_Y < 92)
    inside = face.ravel()[TRIANGLES].all(1)
    corners = vertices.reshape(-1, 3)[TRIANGLES[inside], :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def test_skin_hardly_ever_folds_over_itself() -> None:
    for person in PERSONS:
        for au in SYNTHETIC_AUS:
            folded = (_frontal_areas(_vertices(person, {au: 5})) < 0).sum()
            assert folded <= 12, (au, folded)  # of 9,000
    rng = np.random.default_rng(0)
    folded_shares = []
    for draw in range(200):
        aus = {int(au): float(rng.uniform(0, 5)) for au in rng.choice(SYNTHETIC_AUS, 6, False)}
        folded_shares.append((_frontal_areas(_vertices(PERSONS[draw % PEOPLE], aus)) < 0).mean())
    assert np.mean(np.array(folded_shares) == 0) >= 0.97
    assert max(folded_shares) < 0.02


def test_lids_lie_on_the_eyeball() -> None:
    reach = EYEBALL_RADIUS + LID_THICKNESS
    for shape, gains in PERSONS[:10]:
        for closing in (0.0, 0.5, 1.0):
            weights = np.zeros(len(SYNTHETIC_AUS))
            weights[SYNTHETIC_AUS.index(43)] = closing
            vertices = shape.vertices(weights * gains)
            for center in shape.eyeballs:
                beside = np.square(vertices[..., :2] - center[:2]).sum(-1)
                before = (beside < reach**2) & (vertices[..., 2] > 40)
                surface = center[2] + np.sqrt(reach**2 - beside[before])
                assert (vertices[before, 2] - surface).min() > -1e-3


def test_the_linear_model_is_exact_away_from_contacts() -> None:
    rng = np.random.default_rng(2)
    shape, gains = PERSONS[3]
    weights = limit_weights(rng.uniform(0, 1, len(SYNTHETIC_AUS)) * gains)
    basis = expression_basis()
    linear = shape.neutral + np.tensordot(weights.astype(np.float32), basis, 1)
    difference = np.abs(shape.vertices(weights) - linear).max(-1)
    contacts = (np.abs(REFERENCE_Y) < 20) & (ACROSS < 52) | (np.abs(REFERENCE_Y + 66) < 13)
    assert difference[~contacts].max() < 1e-3
    assert difference[contacts].max() > 0.5


def test_mean_head_and_fields_are_mirror_images() -> None:
    flip = np.array([-1, 1, 1])
    assert np.abs(MEAN_HEAD - MEAN_HEAD[:, ::-1] * flip).max() < 1e-9
    for fields in (expression_basis(), identity_basis().vertices):
        assert np.abs(fields - fields[:, :, ::-1] * flip).max() < 1e-5


def test_asymmetry_strengthens_the_subjects_left() -> None:
    shape = HeadShape(np.zeros(len(MODES)))
    weights = np.zeros(len(SYNTHETIC_AUS))
    weights[SYNTHETIC_AUS.index(12)] = 1
    points = sample(shape.vertices(weights, asymmetry=0.3), LANDMARKS_68)
    assert points[54, 1] > points[48, 1] + 3  # his left corner of the mouth is higher
    assert points[54, 0] > 0 > points[48, 0]


def test_weights_that_share_skin_saturate_smoothly() -> None:
    weights = np.zeros((100, len(SYNTHETIC_AUS)))
    weights[:, SYNTHETIC_AUS.index(9)] = np.linspace(0, 1.4, 100)
    weights[:, SYNTHETIC_AUS.index(10)] = np.linspace(0, 1.4, 100)
    limited = limit_weights(weights)
    total = limited.sum(1)
    assert (np.diff(total) > 0).all() and total.max() < 1.3
    assert np.abs(np.diff(total, 2)).max() < 0.1 * np.diff(total)[0]  # no kink at 1
    alone = weights.sum(1) < 1
    np.testing.assert_allclose(limited[alone], weights[alone])


def test_lip_gap_is_the_gap_of_the_mesh() -> None:
    rng = np.random.default_rng(3)
    for person in PERSONS[:10]:
        weights = limit_weights(rng.uniform(0, 0.8, len(SYNTHETIC_AUS)) * person[1])
        points = sample(person[0].vertices(weights), LANDMARKS_68)
        assert lip_gap(weights) == pytest.approx(points[62, 1] - points[66, 1], abs=1e-3)


def test_normals_point_outwards_and_cross_a_closed_slit() -> None:
    vertices = _vertices(PERSONS[0], {43: 5})
    normal = normals(vertices)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-3)
    assert normal[40, 50, 2] > 0.8  # the bridge of the nose faces the camera
    assert normal[20, 5, 0] < -0.5 and normal[20, -6, 0] > 0.5  # the sides face sideways
    bridge = np.abs(REFERENCE_X[EYE_UPPER]) < 10
    np.testing.assert_allclose(normal[EYE_UPPER, bridge], normal[EYE_LOWER, bridge], atol=0.05)


def test_identity_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="21 modes"):
        HeadShape(np.zeros(5))
