import cv2
import numpy as np
import pytest

from jaxau.faces.align import (
    ALIGNMENTS,
    align,
    alignment_matrix,
    input_matrix,
    to_network_input,
    transform_points,
    warp,
)

CONTOURS = {  # right eye, left eye, nose tip, right and left mouth corner
    5: ([0], [1], 2, 3, 4),
    49: (list(range(19, 25)), list(range(25, 31)), 13, 31, 37),
    66: (list(range(36, 42)), list(range(42, 48)), 30, 48, 54),
    68: (list(range(36, 42)), list(range(42, 48)), 30, 48, 54),
    98: (list(range(60, 68)), list(range(68, 76)), 54, 76, 82),
}


SIDES = {"jaa200": 2.9, "jaa256": 2.9, "wide": 2.2 * 2.9}  # of the crop, in larger extents of the five points


def reference_matrix(landmarks: np.ndarray, size: int, side: float = 2.9) -> np.ndarray:
    """The same transform in complex numbers: z becomes a z + b."""
    z = landmarks[:, 0] + 1j * landmarks[:, 1]
    right, left, *single = CONTOURS[len(landmarks)]
    five = np.array([z[right].mean(), z[left].mean(), *z[single]])
    turn = np.exp(-1j * np.angle(five[1] - five[0]))
    five = five * turn
    spread_x, spread_y = np.ptp(five.real), np.ptp(five.imag)
    middle = complex(five.real.min() + spread_x / 2, five.imag.min() + spread_y / 2)
    a = turn * (size - 1) / (side * max(spread_x, spread_y))
    b = (size - 1) / 2 * (1 + 1j) - middle * a / turn
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def reference_warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Bilinear sampling at the exact positions in float64; 128 outside."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    y, x = np.mgrid[:size, :size]
    u, v, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)), constant_values=128)
    u = np.clip(u, -1, image.shape[1] - 1e-9) + 1
    v = np.clip(v, -1, image.shape[0] - 1e-9) + 1
    u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = (u - u0)[..., None], (v - v0)[..., None]
    top = padded[v0, u0] * (1 - fu) + padded[v0, u0 + 1] * fu
    bottom = padded[v0 + 1, u0] * (1 - fu) + padded[v0 + 1, u0 + 1] * fu
    return top * (1 - fv) + bottom * fv


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).uniform(0, 255, (480, 640, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_matrices_are_jaanets(shared):
    golden = np.load(shared / "golden" / "jaanet_alignment.npz")
    for landmarks, matrix, aligned in zip(
        golden["landmarks"], golden["matrix_200"], golden["aligned_200"], strict=True
    ):
        ours = alignment_matrix(landmarks, "jaa200")
        np.testing.assert_allclose(ours, matrix, rtol=0, atol=1e-9)
        np.testing.assert_allclose(transform_points(landmarks, ours), aligned, rtol=0, atol=1e-6)


@pytest.mark.parametrize("points", sorted(CONTOURS))
@pytest.mark.parametrize("alignment", sorted(ALIGNMENTS))
def test_matrix_and_crop_agree_with_a_reference(points, alignment, picture):
    generator = np.random.default_rng(points)
    size = ALIGNMENTS[alignment].size
    for _ in range(4):
        landmarks = generator.normal((320, 240), 60, (points, 2))
        crop, matrix = align(picture, landmarks, alignment)
        expected = reference_matrix(landmarks, size, SIDES[alignment])
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-9)
        difference = np.abs(crop - reference_warp(picture, expected, size))
        # OpenCV may place samples on a grid of 1/32 pixel.
        assert difference.mean() < 0.5 and np.percentile(difference, 99.5) < 4


def test_crop_is_level_centred_and_of_known_scale():
    landmarks = np.array([[100, 100], [140, 130], [110, 140], [90, 150], [120, 180]], float)
    five = transform_points(landmarks, alignment_matrix(landmarks, "jaa256"))
    assert five[0, 1] == pytest.approx(five[1, 1])
    assert five[1, 0] > five[0, 0]
    low, high = five.min(0), five.max(0)
    np.testing.assert_allclose((low + high) / 2, 127.5)
    assert (high - low).max() == pytest.approx(255 / 2.9)


def test_a_marked_pixel_lands_where_its_landmark_lands():
    image = np.zeros((300, 300, 3), np.uint8)
    landmarks = np.array([[130, 120], [170, 120], [150, 140], [135, 160], [165, 160]], float)
    image[140, 150] = 255
    crop, matrix = align(image, landmarks, "jaa256")
    bright = crop[..., 0].astype(float)
    y, x = np.mgrid[:256, :256]
    centroid = [(bright * x).sum() / bright.sum(), (bright * y).sum() / bright.sum()]
    np.testing.assert_allclose(centroid, transform_points(landmarks[2], matrix), atol=0.15)
    assert (crop[0, 0] == 0).all()


def test_outside_the_picture_is_grey():
    image = np.zeros((40, 40, 3), np.uint8)
    landmarks = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], float)
    crop, _ = align(image, landmarks, "jaa200")
    assert (crop[0] == 128).all() and (crop[100, 100] == 0).all()


def test_the_wide_crop_has_room_around_the_face():
    assert ALIGNMENTS["wide"].size == 448
    landmarks = np.array([[100, 100], [140, 130], [110, 140], [90, 150], [120, 180]], float)
    box = transform_points(landmarks, alignment_matrix(landmarks, "jaa200"))
    wide = transform_points(landmarks, alignment_matrix(landmarks, "wide"))
    # The same level face around the same centre, smaller within the crop by 2.2.
    np.testing.assert_allclose((wide - 223.5) / 447, (box - 99.5) / 199 / 2.2, atol=1e-12)


def test_unusable_faces_are_refused():
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="eye centres 0 pixels apart.*at least 1 pixel.*leave"):
        align(image, np.full((68, 2), 7.0), "jaa256")
    face = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], float)
    with pytest.raises(ValueError, match="'narrow': not one of .*'jaa200', 'jaa256'.*checkpoint"):
        align(image, face, "narrow")
    with pytest.raises(ValueError, match="missing"):
        align(image, face * np.nan, "jaa256")
    with pytest.raises(ValueError, match=r"shape \(2, 5, 2\).*one face"):
        alignment_matrix(np.stack([face, face]), "jaa256")
    with pytest.raises(ValueError, match=r"\(40, 40\).*uint8 RGB"):
        align(image[..., 0], face, "jaa256")


def test_network_input_is_resized_then_cut_from_the_centre():
    def whole(crop: np.ndarray, image_size: int, resize_to: int) -> np.ndarray:
        return to_network_input(crop, np.full((5, 2), np.nan), "jaa256", image_size, resize_to)

    y, x = np.mgrid[:256, :256]
    crop = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(whole(crop, 256, 0), crop)
    np.testing.assert_array_equal(whole(crop, 224, 256), crop[16:240, 16:240])
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    averages = noise.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(whole(noise, 128, 0) - averages).max() <= 0.5
    assert whole(crop, 96, 104).shape == (96, 96, 3)
    np.testing.assert_array_equal(whole(crop, 96, 104), whole(crop, 104, 0)[4:100, 4:100])
    with pytest.raises(ValueError, match="resize_to=90 with image_size=96.*resize_to=0"):
        whole(crop, 96, 90)


# Of AUNet's input, as shares of its side: right and left eye, nose, right and left mouth corner.
TEMPLATE = np.array([[0.37, 0.415], [0.63, 0.415], [0.5, 0.567], [0.38, 0.666], [0.62, 0.666]])


def test_a_fitted_crop_lays_the_five_points_over_the_template():
    rng = np.random.default_rng(4)
    for side in (64, 256):
        points = 224 + 60 * (TEMPLATE - 0.5) + rng.normal(0, 4, (5, 2))
        target = (
            TEMPLATE * side - 0.5
        )  # the edge of the picture is half a pixel beyond its first pixel's centre
        rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in points]
        a, b, dx, dy = np.linalg.lstsq(np.reshape(rows, (-1, 4)), target.ravel(), rcond=None)[0]
        matrix = input_matrix("wide", points, side)
        np.testing.assert_allclose(matrix, [[a, -b, dx], [b, a, dy]], atol=1e-9)


def test_a_fitted_crop_without_landmarks_is_that_of_the_template():
    face = 300 * TEMPLATE + 50
    crop_points = transform_points(face, alignment_matrix(face, "wide"))
    matrix = input_matrix("wide", np.full((5, 2), np.nan), 256)
    np.testing.assert_allclose(transform_points(crop_points, matrix), TEMPLATE * 256 - 0.5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.22, 0.4, 0.9, 1.3])
def test_a_warp_puts_each_pixel_where_the_matrix_says(scale):
    """Of a ramp, which no averaging changes."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    ramp[..., 1] = ramp[..., 0].T
    turn = np.radians(20)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0]])
    matrix[:, 2] = 15.5 - matrix[:, :2] @ [127.5, 127.5]  # the middle of 32 pixels
    found = warp(ramp, matrix, 32)[..., :2].astype(float)
    v, u = np.mgrid[:32, :32]
    expected = (np.stack([u, v], -1) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    inside = ((expected > 8) & (expected < 247)).all(-1)
    assert inside.sum() > 500 and np.abs(found - expected)[inside].max() < 1.1  # rounded twice
