"""An independent check: a face detector that was trained on photographs finds these faces and their parts."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines.synthetic import Person, SynthConfig, SynthFaces
from data_pipelines.synthetic.renderer import photograph
from data_pipelines.synthetic.scene import draw_scene
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Floats

SIZE = 256
FACES = 180


def _five(points: Floats) -> Floats:
    """Eye centres, tip of the nose and corners of the mouth of 68 landmarks."""
    return np.array([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def _shown(number: int) -> tuple[np.ndarray, Floats]:
    """A random face with |yaw| <= 45, and its five points: eye centres, nose tip, corners of the mouth."""
    rng = np.random.default_rng([7, number])
    person = Person(1000 + number)
    intensities = np.zeros(len(SYNTHETIC_AUS))
    chosen = [i for i, au in enumerate(SYNTHETIC_AUS) if au not in (43, 45)]
    intensities[rng.choice(chosen, 3, False)] = rng.uniform(0, 4, 3)
    scene = dataclasses.replace(draw_scene(rng, 1), occluder=None)
    pose = (rng.uniform(-45, 45), rng.uniform(-12, 12), rng.uniform(-10, 10))
    shown = photograph(person, person.weights(intensities), pose, scene, SIZE, rng)
    return shown.image, _five(shown.landmarks(68))


@pytest.fixture(scope="module")
def detector(shared: Path) -> cv2.FaceDetectorYN:
    return cv2.FaceDetectorYN.create(str(shared / "weights/yunet_n_640_640.onnx"), "", (SIZE, SIZE), 0.5)


def _detect(detector: cv2.FaceDetectorYN, image: np.ndarray) -> tuple[float, Floats] | None:
    """Score and five points of the best face."""
    found = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    if found is None:
        return None
    best = found[found[:, 14].argmax()]
    return float(best[14]), best[4:14].reshape(5, 2)


@pytest.mark.slow
def test_yunet_finds_faces_turned_up_to_45_degrees(detector: cv2.FaceDetectorYN) -> None:
    found = [_detect(detector, _shown(number)[0]) for number in range(FACES)]
    scores = [face[0] for face in found if face]
    print(f"YuNet found {len(scores)} of {FACES} faces, median score {np.median(scores):.2f}")
    assert len(scores) >= 0.98 * FACES


@pytest.mark.slow
def test_yunet_puts_its_points_where_they_are(detector: cv2.FaceDetectorYN) -> None:
    """On frames as they come: within 7 % of the inter-ocular distance in the mean."""
    faces = SynthFaces(SynthConfig(tier="default", size=SIZE))
    rng = np.random.default_rng(0)
    errors = []
    for subject in range(60):
        for _ in range(3):
            frame = faces.frame(subject, int(rng.integers(6)), int(rng.integers(80)))
            five = _five(frame.lm68)
            found = _detect(detector, frame.image)
            if found and not frame.attrs["occluded"]:
                errors.append((found[1] - five) / np.linalg.norm(five[1] - five[0]))
    # Where a detector puts a point is its own definition: one constant offset per point is taken off.
    off = np.linalg.norm(np.array(errors) - np.mean(errors, 0), axis=-1)
    print(
        f"five points of {len(off)} faces: off by {100 * off.mean():.1f} %, {np.round(100 * off.mean(0), 1)}"
    )
    assert len(off) > 140 and off.mean() < 0.07


def test_yunet_finds_a_dozen(detector: cv2.FaceDetectorYN) -> None:
    assert sum(_detect(detector, _shown(number)[0]) is not None for number in range(12)) == 12


def test_yunet_does_not_find_a_face_without_eyes_and_mouth(detector: cv2.FaceDetectorYN) -> None:
    """The check can fail: grey out what makes a face."""
    found = 0
    for number in range(6):
        image, five = _shown(number)
        radius = int(0.75 * np.linalg.norm(five[0] - five[1]))
        for x, y in five.astype(int):
            cv2.circle(image, (int(x), int(y)), radius, (128, 128, 128), -1)
        found += _detect(detector, image) is not None
    assert found <= 1
