import numpy as np
import pytest

from jaxau.faces.landmarks import (
    SCHEMES,
    au_centers,
    five_points,
    mirror_order,
)
from jaxau.facs import CORPUS_AUS, SYNTHETIC_AUS

TABLE_I_AUS = (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)


def coded_points(points: int) -> np.ndarray:
    """Landmarks whose x is the index and whose y is the square of the index."""
    index = np.arange(points, dtype=np.float64)
    return np.stack([index, index**2], axis=-1)


def mirror_landmarks(landmarks: np.ndarray, width: int) -> np.ndarray:
    """Of the mirrored picture: x becomes width - 1 - x, left and right change names."""
    mirrored = landmarks[..., mirror_order(landmarks.shape[-2]), :].copy()
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "jaanet_alignment.npz")


def test_mirror_order_is_jaanets(golden):
    np.testing.assert_array_equal(mirror_order(49), golden["mirror_order"])


def test_mirrored_crop_is_jaanets(golden):
    crop = golden["aligned_200"] - (5, 20)
    np.testing.assert_allclose(
        mirror_landmarks(crop, 176), golden["crop_offset_5_20_mirrored"], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("corpus", ["bp4d", "disfa", "gft"])
def test_au_centers_are_jaanets(golden, corpus):
    centers, mask = au_centers(golden["au_centre_landmarks"], CORPUS_AUS[corpus])
    assert mask.all()
    assert centers.dtype == np.float32
    np.testing.assert_allclose(centers, golden[f"au_centres_{corpus}"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("points", SCHEMES)
def test_mirror_is_an_involution_that_moves_points(points):
    order = mirror_order(points)
    np.testing.assert_array_equal(order[order], np.arange(points))
    landmarks = np.random.default_rng(points).uniform(0, 255, (3, points, 2))
    once = mirror_landmarks(landmarks, 256)
    np.testing.assert_allclose(mirror_landmarks(once, 256), landmarks, atol=1e-12)
    assert np.abs(once - landmarks).max() > 1


@pytest.mark.parametrize("points", SCHEMES)
def test_five_points_change_sides_with_the_mirror(points):
    landmarks = np.random.default_rng(points).uniform(0, 255, (points, 2))
    np.testing.assert_allclose(
        five_points(mirror_landmarks(landmarks, 200)),
        mirror_landmarks(five_points(landmarks), 200),
        atol=1e-9,
    )


@pytest.mark.parametrize("points", [49, 66, 68, 98])
def test_centers_change_sides_with_the_mirror(points):
    """Both tables consist of mirror pairs, apart from AU9 of LAC and the lip AUs of JAA-Net."""
    landmarks = np.random.default_rng(points).uniform(0, 255, (points, 2))
    central = (9,) if points == 98 else (23, 24, 25)
    aus = tuple(au for au in TABLE_I_AUS if au not in central)
    mirrored, mask = au_centers(mirror_landmarks(landmarks, 200), aus)
    assert mask.all()
    centers = au_centers(landmarks, aus)[0][:, ::-1].copy()
    centers[..., 0] = 199 - centers[..., 0]
    np.testing.assert_allclose(mirrored, centers, atol=1e-9)


def test_au9_of_table_1_is_on_the_ridge_and_does_not_change_sides():
    landmarks = coded_points(98)
    np.testing.assert_array_equal(au_centers(landmarks, (9,))[0][0], landmarks[[51, 53]])
    assert set(mirror_order(98)[[51, 53]]) == {51, 53}


def test_wflw_mirror_pairs_by_place():
    """On an upright face each point's partner lies on the other side at the same height."""
    pairs = {33: 46, 37: 42, 38: 50, 40: 48, 41: 47, 51: 51, 55: 59, 60: 72, 63: 69, 64: 68}
    pairs |= {65: 75, 67: 73, 76: 82, 79: 79, 83: 87, 88: 92, 89: 91, 93: 95, 96: 97, 0: 32}
    order = mirror_order(98)
    assert {i: int(order[i]) for i in pairs} == pairs


def test_table_1_by_hand():
    """Centres computed by hand for x = index and y = index squared."""
    expected = {
        1: [(37, 37**2), (42, 42**2)],
        2: [(40, 40**2), (48, 48**2)],
        4: [(44, 37**2), (46.5, 42**2)],
        6: [(67, 52**2), (73, 52**2)],
        7: [(63.5, 4037.5), (71.5, 5117.5)],  # mean of eight squares: m * m + 63 / 12
        9: [(51, 51**2), (53, 53**2)],
        10: [(77.5, 6006.5), (80.5, 6480.5)],
        12: [(88, 88**2), (92, 92**2)],
        14: [(88, 88**2), (92, 92**2)],
        15: [(88, 88**2), (92, 92**2)],
        17: [(50.5, 3810.5), (50.5, 3672.5)],
        23: [(92, 8473), (92, 8465)],
        24: [(92, 8473), (92, 8465)],
        25: [(92, 8473), (92, 8465)],
        26: [(83, 83**2), (87, 87**2)],
    }
    assert tuple(expected) == TABLE_I_AUS
    centers, mask = au_centers(coded_points(98), TABLE_I_AUS)
    assert mask.all()
    np.testing.assert_allclose(centers, np.array(list(expected.values())), atol=1e-9)


def test_jaa_centers_by_hand():
    """49 points with x = index, y = index squared: the inner eye corners are 25 - 22 = 3 apart."""
    expected = {
        2: [(1, 1 - 1), (8, 64 - 1)],
        6: [(24, 576 + 3), (29, 841 + 3)],
        7: [(21, 441), (26, 676)],
        9: [(15, 225 - 1.5), (17, 289 - 1.5)],
        26: [(39, 1521 + 1.5), (41, 1681 + 1.5)],
    }
    centers, _ = au_centers(coded_points(49), tuple(expected))
    np.testing.assert_allclose(centers, np.array(list(expected.values())), atol=1e-9)


def test_66_and_68_points_hold_the_49():
    landmarks = np.random.default_rng(0).uniform(0, 255, (2, 68, 2))
    of_66 = np.delete(landmarks, [60, 64], axis=1)
    of_49 = of_66[:, 17:]
    for function in (five_points, lambda points: au_centers(points, TABLE_I_AUS)[0]):
        np.testing.assert_array_equal(function(landmarks), function(of_49))
        np.testing.assert_array_equal(function(of_66), function(of_49))
    np.testing.assert_allclose(five_points(landmarks)[:, 0], landmarks[:, 36:42].mean(1), atol=1e-12)
    np.testing.assert_array_equal(five_points(landmarks)[:, 2:], landmarks[:, [30, 48, 54]])


def test_five_points_of_98():
    points = five_points(coded_points(98))
    np.testing.assert_allclose(points[:, 0], [63.5, 71.5, 54, 76, 82])


def test_aus_without_a_centre_are_masked():
    centers, mask = au_centers(np.ones((4, 98, 2)), SYNTHETIC_AUS)
    assert [au for au, ok in zip(SYNTHETIC_AUS, mask, strict=True) if not ok] == [
        5, 11, 16, 18, 20, 22, 27, 28, 43, 45
    ]  # fmt: skip
    assert (centers[:, ~mask] == 0).all() and (centers[:, mask] == 1).all()
    centers, mask = au_centers(np.ones((4, 5, 2)), (1, 12))
    assert centers.shape == (4, 2, 2, 2) and not mask.any()


@pytest.mark.parametrize("function", [five_points, lambda points: au_centers(points, (1,))])
def test_unusable_landmarks_are_refused(function):
    with pytest.raises(ValueError, match=r"shape \(51, 2\).*\(5, 49, 66, 68, 98\).*convert"):
        function(np.ones((51, 2)))
    landmarks = np.ones((3, 68, 2))
    landmarks[1, 5, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 204 points missing.*leave such a frame out"):
        function(landmarks)
    with pytest.raises(ValueError, match="51 landmarks"):
        mirror_order(51)
