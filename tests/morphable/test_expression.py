"""The shape model: rest, contact, linearity, symmetry. What each AU must move is in test_gates."""

import numpy as np
import pytest
from faces_by_muscle import PERSONS, aperture, points, vertices

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import (
    SHAPES,
    expression_basis,
    expression_shapes,
    limit_weights,
    shape_weights,
)
from jaxau.morphable.grid import EYE_LOWER, EYE_UPPER, LIP_LOWER, LIP_UPPER, sample
from jaxau.morphable.head import ACROSS, EYEBALL_RADIUS, MEAN_HEAD, REFERENCE_X, REFERENCE_Y
from jaxau.morphable.identity import MODES, identity_basis
from jaxau.morphable.landmarks import LANDMARKS_68
from jaxau.morphable.shape import LID_THICKNESS, HeadShape, lip_gap, normals

AUS = len(SYNTHETIC_AUS)


def test_neutral_faces_are_at_rest() -> None:
    apertures = [aperture(points(person, {})) for person in PERSONS]
    assert 9.3 < np.mean(apertures) < 10.2
    assert min(apertures) > 4
    for person in PERSONS:
        rest = vertices(person, {})
        assert np.abs(rest[LIP_UPPER] - rest[LIP_LOWER]).max() == 0


@pytest.mark.parametrize("also", [{}, {5: 5}, {6: 5, 7: 5}, {45: 5}])
def test_au43_closes_every_eye(also: dict[int, float]) -> None:
    for person in PERSONS:
        shut = vertices(person, {43: 5, **also})
        assert np.abs(shut[EYE_UPPER, :, 1] - shut[EYE_LOWER, :, 1]).max() < 1e-4


def test_identity_parts_no_lips_and_two_modes_part_lids() -> None:
    modes = identity_basis().vertices
    assert np.abs(modes[:, LIP_UPPER] - modes[:, LIP_LOWER]).max() == 0
    opens = np.abs(modes[:, EYE_UPPER] - modes[:, EYE_LOWER]).max(axis=(1, 2)) > 0
    assert [name for name, parts in zip(MODES, opens, strict=True) if parts] == [
        "eye_opening",
        "resting_lids",
    ]


def test_lids_lie_on_the_eyeball() -> None:
    reach = EYEBALL_RADIUS + LID_THICKNESS
    for shape, gains in PERSONS[:10]:
        for closing in (0.0, 0.5, 1.0):
            weights = np.zeros(len(SYNTHETIC_AUS))
            weights[SYNTHETIC_AUS.index(43)] = closing
            skin = shape.vertices(weights * gains)
            for center in shape.eyeballs:
                beside = np.square(skin[..., :2] - center[:2]).sum(-1)
                before = (beside < 0.64 * reach**2) & (skin[..., 2] > 40)
                surface = center[2] + np.sqrt(reach**2 - beside[before])
                assert (skin[before, 2] - surface).min() > -1e-3


def _linear(shape, weights, asymmetry):
    coefficients = shape_weights(weights, asymmetry)
    return shape.neutral + np.tensordot(coefficients, expression_shapes(), 1)


def test_the_51_shapes_are_named_and_hold_every_au() -> None:
    assert len(SHAPES) == len(set(SHAPES)) == len(expression_shapes()) == 51
    right = np.linalg.norm(expression_shapes().reshape(51, -1), axis=1)
    assert right.min() > 5  # mm over all vertices: none is empty
    whole = expression_basis()[SYNTHETIC_AUS.index(12)]
    halves = expression_shapes()[[SHAPES.index("AU12 right"), SHAPES.index("AU12 left")]]
    np.testing.assert_allclose(halves.sum(0), whole, atol=1e-5)
    assert (
        np.abs(halves[0][:, 70:]).max() < 0.5 < 9 < np.abs(halves[1][:, 50:]).max()
    )  # column 50: the middle


@pytest.mark.parametrize("asymmetry", [0.0, 0.3])
def test_the_linear_model_is_exact_away_from_contacts(asymmetry: float) -> None:
    """Any weights: outside eyes and lips. Usual weights: everywhere but around the eyes."""
    rng = np.random.default_rng(2)
    eyes = (REFERENCE_Y < 34) & (REFERENCE_Y > -22) & (ACROSS < 56)
    mouth = (REFERENCE_Y < -40) & (REFERENCE_Y > -106) & (ACROSS < 50)
    for shape, gains in PERSONS:
        strong = limit_weights(rng.uniform(0, 1, AUS) * gains)
        difference = np.abs(shape.vertices(strong, asymmetry) - _linear(shape, strong, asymmetry)).max(-1)
        assert difference[~eyes & ~mouth].max() < 1e-3
        assert difference[eyes].max() > 0.5  # the correctives do something
        usual = np.zeros(AUS)
        usual[rng.choice(AUS, 3, False)] = rng.uniform(0, 0.6, 3)
        difference = np.abs(shape.vertices(usual, asymmetry) - _linear(shape, usual, asymmetry)).max(-1)
        assert difference[~eyes].max() < 1e-3


def test_identity_adds_up() -> None:
    basis = identity_basis().vertices
    first, second = (shape for shape, _ in PERSONS[:2])
    difference = np.tensordot(first.identity - second.identity, basis, 1)
    np.testing.assert_allclose(first.neutral - second.neutral, difference, atol=1e-3)


def test_mean_head_and_fields_are_mirror_images() -> None:
    flip = np.array([-1, 1, 1])
    assert np.abs(MEAN_HEAD - MEAN_HEAD[:, ::-1] * flip).max() < 1e-9
    for fields in (expression_basis(), identity_basis().vertices):
        assert np.abs(fields - fields[:, :, ::-1] * flip).max() < 1e-5


def test_asymmetry_strengthens_the_subjects_left() -> None:
    shape = HeadShape(np.zeros(len(MODES)))
    weights = np.zeros(len(SYNTHETIC_AUS))
    weights[SYNTHETIC_AUS.index(12)] = 1
    placed = sample(shape.vertices(weights, asymmetry=0.3), LANDMARKS_68)
    assert placed[54, 1] > placed[48, 1] + 3  # his left corner of the mouth is higher
    assert placed[54, 0] > 0 > placed[48, 0]


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
        placed = sample(person[0].vertices(weights), LANDMARKS_68)
        assert lip_gap(weights) == pytest.approx(placed[62, 1] - placed[66, 1], abs=1e-3)


def test_normals_point_outwards_and_cross_a_closed_slit() -> None:
    normal = normals(vertices(PERSONS[0], {43: 5}))
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-3)
    assert normal[40, 50, 2] > 0.8  # the bridge of the nose faces the camera
    assert normal[20, 5, 0] < -0.5 and normal[20, -6, 0] > 0.5  # the sides face sideways
    bridge = np.abs(REFERENCE_X[EYE_UPPER]) < 10
    np.testing.assert_allclose(normal[EYE_UPPER, bridge], normal[EYE_LOWER, bridge], atol=0.05)


def test_identity_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="27 modes"):
        HeadShape(np.zeros(5))
