"""Signs, pixels and consistency of pose and camera."""

import cv2
import numpy as np
import pytest

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.camera import DISTANCE, FIELD_WIDTH, Camera, rotation
from jaxau.morphable.grid import Floats, sample
from jaxau.morphable.identity import MODES
from jaxau.morphable.landmarks import LANDMARKS_68
from jaxau.morphable.shape import HeadShape

SIZE = 256
NOSE_TIP, RIGHT_EAR, CHIN, BETWEEN_BROWS = 30, 0, 8, 27


def _points() -> Floats:
    shape = HeadShape(np.zeros(len(MODES)))
    return sample(shape.vertices(np.zeros(len(SYNTHETIC_AUS))), LANDMARKS_68).astype(float)


def _project(yaw: float = 0, pitch: float = 0, roll: float = 0) -> Floats:
    return Camera(SIZE, rotation(yaw, pitch, roll)).project(_points())[0]


def test_signs_of_the_angles() -> None:
    still = _project()
    assert still[RIGHT_EAR, 0] < still[CHIN, 0]  # the subject's right is on the left of the picture
    assert still[CHIN, 1] > still[BETWEEN_BROWS, 1]  # y points down
    yaw = _project(yaw=20)[NOSE_TIP] - still[NOSE_TIP]
    assert yaw[0] > 15 and abs(yaw[1]) < 5  # to his left: the nose goes to the picture's right
    pitch = _project(pitch=15)[NOSE_TIP] - still[NOSE_TIP]
    assert pitch[1] > 15 and abs(pitch[0]) < 1e-6  # nose down
    rolled = _project(roll=15)
    axis = rolled[BETWEEN_BROWS] - rolled[CHIN]
    assert axis[0] < -20  # counter-clockwise: the top of the head goes to the picture's left


def test_scale_and_principal_point() -> None:
    camera = Camera(SIZE, np.eye(3))
    edges = np.array([[-FIELD_WIDTH / 2, 0, 0], [FIELD_WIDTH / 2, 0, 0]])
    pixels, depth = camera.project(edges)
    np.testing.assert_allclose(pixels[:, 0], [(SIZE - 1) / 2 - SIZE / 2, (SIZE - 1) / 2 + SIZE / 2])
    np.testing.assert_allclose(depth, DISTANCE)
    middle = camera.project(np.zeros((1, 3)))[0]
    np.testing.assert_allclose(middle, (SIZE - 1) / 2)


@pytest.mark.parametrize("pose", [(0, 0, 0), (25, -10, 8), (-38, 12, -15), (5, 30, 20)])
def test_pnp_finds_the_pose_again(pose: tuple[float, float, float]) -> None:
    camera = Camera(SIZE, rotation(*pose), shift=(3.0, 12.0), scale=1.1)
    points = _points()
    pixels = camera.project(points)[0]
    found, turn, shift = cv2.solvePnP(points, pixels, camera.intrinsics, np.zeros(4))
    to_opencv = np.diag([1.0, -1.0, -1.0])  # whose y points down and z forward
    expected_rotation = to_opencv @ camera.rotation
    expected_translation = to_opencv @ camera.translation + np.array([0, 0, DISTANCE])
    difference = cv2.Rodrigues(turn)[0].T @ expected_rotation
    angle = np.rad2deg(np.arccos(np.clip((np.trace(difference) - 1) / 2, -1, 1)))
    assert found and angle < 0.5
    np.testing.assert_allclose(shift[:, 0], expected_translation, atol=1)


def test_rotation_is_about_the_pivot_and_proper() -> None:
    turn = rotation(30, -20, 10)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    pivot = np.array([0.0, -30.0, 10.0])
    np.testing.assert_allclose(Camera(SIZE, turn).place(pivot), pivot, atol=1e-9)
