"""Landmarks follow the pixels; colours follow their definition; evaluation is what prediction does."""

import dataclasses

import chex
import numpy as np
import pytest
import scipy.ndimage
from input_kit import augment, evaluation_input

from data_pipelines.transforms import draw
from jaxau.config import VARIANTS, Augment
from jaxau.faces.align import ALIGNMENTS, to_network_input
from jaxau.faces.landmarks import mirror_order

SIZE = 256


def dotted(t: int, points: int = 5, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures with a bright Gaussian dot at each landmark; each dot has its own colour."""
    rng = np.random.default_rng(1)
    grid = np.array([[70, 80], [180, 85], [128, 130], [90, 190], [170, 186]], float)
    landmarks = grid + rng.uniform(-6, 6, (t, points, 2)) + (size - SIZE) / 2
    y, x = np.mgrid[:size, :size]
    images = np.full((t, size, size, 3), 20.0)
    for i in range(t):
        for j, (px, py) in enumerate(landmarks[i]):
            dot = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 5.0**2))
            images[i] += dot[..., None] * COLORS[j]
    return images.round().astype(np.uint8), landmarks


COLORS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0], [0, 200, 200]])


def find(image: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Centroid of the pixels whose colour has the direction of ``color``."""
    above = np.clip(image.astype(float) - 20, 0, None)
    other = np.where(color > 0, 0, above).max(-1)
    weight = np.clip(above[..., color > 0].min(-1) - other - 10, 0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("resize_to", "image_size"), [(0, 256), (0, 96), (160, 144), (300, 224)])
def test_landmarks_follow_the_dots(flip, resize_to, image_size):
    images, landmarks = dotted(t=3)
    options = Augment(flip=flip, color_jitter=0.0, resize_to=resize_to)
    out, points = augment(images, landmarks, "jaa256", options, image_size, np.random.default_rng(4))
    chex.assert_shape(out, (3, image_size, image_size, 3))
    chex.assert_shape(points, (3, 5, 2))
    for i in range(3):
        for j in range(5):
            # After a mirror the dot of old landmark j carries the name of its counterpart.
            name = mirror_order(5)[j] if flip else j
            np.testing.assert_allclose(points[i, name], find(out[i], COLORS[j]), atol=0.12)


MOVED = Augment(flip=0.5, rotation=15, scale=0.25, shift=0.05)


@pytest.mark.parametrize(("alignment", "resize_to", "image_size"), [("jaa256", 0, 224), ("wide", 270, 256)])
def test_landmarks_follow_the_dots_however_they_are_turned_and_scaled(alignment, resize_to, image_size):
    images, landmarks = dotted(t=2, size=ALIGNMENTS[alignment].size)
    options = dataclasses.replace(MOVED, resize_to=resize_to)
    eyes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        out, points = augment(images, landmarks, alignment, options, image_size, rng)
        right_is_left = points[0, 0, 0] < points[0, 1, 0]
        assert right_is_left  # also in a mirror, where names change
        for i in range(2):
            for j in range(5):
                dots = [find(out[i], COLORS[k]) for k in (j, mirror_order(5)[j])]
                assert min(np.abs(points[i, j] - dot).max() for dot in dots) < 0.3
        eyes.append(points[0, 1] - points[0, 0])
    turned = np.degrees(np.arctan2(*np.array(eyes).T[::-1]))
    assert 15 < np.ptp(turned) < 34  # -15 to 15 degrees, of a face that is nearly upright
    assert 1.2 < np.linalg.norm(eyes, axis=1).max() / np.linalg.norm(eyes, axis=1).min() < 1.25 / 0.75


def test_the_amounts_of_what_moves():
    drawn = [draw(MOVED, 224, np.random.default_rng(seed)) for seed in range(400)]
    for values, half in (
        ([d.degrees for d in drawn], 15),
        ([d.scale - 1 for d in drawn], 0.25),
        ([d.shift for d in drawn], 0.05),
    ):
        assert 0.95 * half < np.abs(values).max() <= half and abs(np.mean(values)) < 0.12 * half
    image = np.zeros((200, 200, 3), np.uint8)
    centre = np.full((1, 5, 2), 99.5)
    options = Augment(flip=0, shift=0.05)
    _, points = augment([image], centre, "jaa200", options, 200, np.random.default_rng(1))
    wanted = np.multiply(draw(options, 200, np.random.default_rng(1)).shift, 200)
    np.testing.assert_allclose(points[0, 0] - 99.5, wanted, atol=1e-4)
    assert np.abs(wanted).max() > 1


def test_blur_compression_and_holes():
    rng = np.random.default_rng(3)
    noise = rng.integers(60, 256, (2, 96, 96, 3), dtype=np.uint8)
    noise[1] = noise[0]
    nowhere = np.full((2, 5, 2), np.nan)

    def of(seed, **options):
        options = Augment(flip=0, **options)
        out, _ = augment(noise, nowhere, "jaa256", options, 96, np.random.default_rng(seed))
        assert (out[0] == out[1]).all()  # one draw for all frames
        return out[0].astype(float), draw(options, 96, np.random.default_rng(seed))

    assert np.array_equal(of(0)[0], noise[0])
    for seed in range(6):
        blurred, drawn = of(seed, blur=1.0)
        sigma = 0.3 * ((drawn.blur - 1) * 0.5 - 1) + 0.8
        smooth = scipy.ndimage.gaussian_filter(
            noise[0].astype(float), (sigma, sigma, 0), mode="mirror", radius=(drawn.blur // 2,) * 2 + (0,)
        )
        assert drawn.blur in (3, 5, 7) and np.abs(blurred - smooth).max() < 5
        compressed, drawn = of(seed, compression=1.0)
        assert 30 <= drawn.quality <= 100 and 1 < np.abs(compressed - noise[0]).mean() < 40
        cut, drawn = of(seed, holes=1.0)
        black = (cut == 0).all(-1)
        assert 1 <= len(drawn.holes) <= 8 and 0 < black.sum() <= 8 * 12**2
        assert np.array_equal(cut[~black], noise[0][~black])
        for left, top, right, bottom in drawn.holes:
            assert black[round(top * 96) : round(bottom * 96), round(left * 96) : round(right * 96)].all()
    often = [of(seed, blur=0.5, holes=0.5, compression=0.5)[1] for seed in range(60)]
    for part in ("blur", "holes", "quality"):
        assert 15 < sum(bool(getattr(drawn, part)) for drawn in often) < 45


def test_one_draw_for_the_whole_clip():
    images, landmarks = dotted(t=1)
    clip = np.repeat(images, 6, 0)
    options = Augment(flip=0.5, color_jitter=0.4, resize_to=280)
    for seed in range(8):
        out, points = augment(
            clip, np.repeat(landmarks, 6, 0), "jaa256", options, 200, np.random.default_rng(seed)
        )
        assert (out == out[0]).all()
        assert (points == points[0]).all()


def test_draws_cover_flip_crop_and_color():
    images, landmarks = dotted(t=1)
    draws = [np.random.default_rng(seed) for seed in range(80)]
    options = Augment(flip=0.5, color_jitter=0.0, resize_to=264)
    outs = [augment(images, landmarks, "jaa256", options, 256, rng) for rng in draws]
    flips = [find(out[0], COLORS[0])[0] > 128 for out, _ in outs]  # the red dot is on the left
    assert 25 < sum(flips) < 55
    nose = np.array([points[0, 2] for _, points in outs])  # keeps its name in a mirror
    assert len(np.unique(nose[:, 1].round(3))) == 9  # offsets 0..8
    assert len(np.unique(nose[:, 0].round(3))) == 18  # the same, mirrored or not
    options = Augment(flip=0.0, color_jitter=0.4, resize_to=0)
    means = [augment(images, landmarks, "jaa256", options, 256, rng)[0].mean() for rng in draws]
    assert max(means) / min(means) > 1.5


def test_no_options_change_nothing():
    images, landmarks = dotted(t=2)
    out, points = augment(images, landmarks, "jaa256", Augment(0, 0, 0), SIZE, np.random.default_rng(0))
    np.testing.assert_array_equal(out, images)
    np.testing.assert_allclose(points, landmarks, atol=1e-4)


def one_after_another(images, brightness, contrast, saturation):
    """The three adjustments as written in torchvision, in float and without clipping between them."""
    luma = np.array([0.299, 0.587, 0.114])
    x = images.astype(float) * brightness
    x = contrast * x + (1 - contrast) * (x @ luma).mean()
    grey = (x @ luma)[..., None]
    x = saturation * x + (1 - saturation) * grey
    return np.clip(np.rint(x), 0, 255)


def test_color_jitter_is_brightness_contrast_saturation_about_grey():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    options = Augment(flip=0.0, color_jitter=0.4, resize_to=0)
    for seed in range(10):
        out, _ = augment(images, np.zeros((4, 5, 2)), "jaa256", options, 32, np.random.default_rng(seed))
        draw = np.random.default_rng(seed)
        draw.integers(0, 1, 2)
        draw.random()
        factors = draw.uniform(0.6, 1.4, 3)
        expected = one_after_another(images, *factors)
        assert np.abs(out - expected).max() <= 1
        assert out.std() > 10


def test_a_frame_without_landmarks_stays_without():
    images, landmarks = dotted(t=3)
    landmarks[1] = np.nan
    options = Augment(flip=1.0, color_jitter=0.0, resize_to=0)
    _, points = augment(images, landmarks, "jaa256", options, 64, np.random.default_rng(0))
    assert np.isnan(points[1]).all()
    assert np.isfinite(points[[0, 2]]).all()


@pytest.mark.parametrize(("resize_to", "image_size"), [(0, 96), (110, 96), (256, 224)])
def test_evaluation_sees_what_prediction_sees(resize_to, image_size):
    images, landmarks = dotted(t=2)
    options = Augment(flip=1.0, color_jitter=0.5, resize_to=resize_to)
    out, points = evaluation_input(images, landmarks, "jaa256", options, image_size)
    for i in range(2):
        np.testing.assert_array_equal(
            out[i], to_network_input(images[i], landmarks[i], "jaa256", image_size, resize_to)
        )
        for j in range(5):
            np.testing.assert_allclose(points[i, j], find(out[i], COLORS[j]), atol=0.12)


def test_variants_are_five_crops_and_their_mirror_images():
    images, landmarks = dotted(t=1)
    options = Augment(resize_to=264)
    made = [
        evaluation_input(images, landmarks, "jaa256", options, 256, variant) for variant in range(VARIANTS)
    ]
    for variant, (inputs, points) in enumerate(made):
        names = mirror_order(5) if variant % 2 else range(5)  # what was left is right
        for j, color in enumerate(names):
            np.testing.assert_allclose(points[0, j], find(inputs[0], COLORS[color]), atol=0.12)
    nose = np.array([points[0, 2] for _, points in made])
    # Relative to the centre crop: top left, top right, bottom left, bottom right.
    np.testing.assert_allclose(nose[2::2] - nose[0], [[4, 4], [-4, 4], [4, -4], [-4, -4]])
    np.testing.assert_allclose(nose[1::2], np.stack([255 - nose[::2, 0], nose[::2, 1]], -1), atol=1e-4)
    for as_it_is, mirrored in zip(made[::2], made[1::2], strict=True):
        np.testing.assert_array_equal(mirrored[0], as_it_is[0][:, :, ::-1])
