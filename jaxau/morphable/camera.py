"""Head pose and pinhole camera.

Pose angles are in degrees: yaw > 0 turns the head to the subject's left (the nose moves to the
image right), pitch > 0 puts the nose down, roll > 0 turns the head counter-clockwise in the image.
Pixels: (0, 0) is the centre of the top-left pixel, x right, y down.
"""

from dataclasses import dataclass

import numpy as np

from jaxau.morphable.grid import Floats

PIVOT = np.array([0.0, -30.0, 10.0])  # mm, head frame: the point that a turning head leaves alone
DISTANCE = 650.0  # mm, camera to the origin of the head frame
FIELD_WIDTH = 238.0  # mm seen across the picture at that distance, at scale 1


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Rz(roll) Rx(pitch) Ry(yaw), a (3, 3) float64 rotation of the head frame; degrees."""
    y, p, r = np.deg2rad([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


@dataclass(frozen=True)
class Camera:
    """A pinhole camera before a posed head.

    Attributes:
      size: side of the square picture, pixels.
      rotation: (3, 3) of the head about PIVOT.
      shift: (x, y) mm by which the head is moved right and up in the picture plane.
      scale: 1 shows FIELD_WIDTH mm; 1.1 a head that is a tenth larger.
    """

    size: int
    rotation: Floats
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.size * self.scale * DISTANCE / FIELD_WIDTH

    @property
    def center(self) -> float:
        """Principal point in pixels (the same in x and y)."""
        return (self.size - 1) / 2

    @property
    def translation(self) -> Floats:
        """(3,) mm: a posed point is ``rotation @ point + translation``."""
        return PIVOT - self.rotation @ PIVOT + np.array([*self.shift, 0.0])

    @property
    def intrinsics(self) -> Floats:
        """(3, 3) matrix K, pixels."""
        f, c = self.focal, self.center
        return np.array([[f, 0, c], [0, f, c], [0, 0, 1.0]])

    def place(self, points: Floats) -> Floats:
        """Head frame (..., 3) to posed mm (..., 3), in the dtype of ``points``."""
        return points @ self.rotation.T.astype(points.dtype) + self.translation.astype(points.dtype)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Head frame (..., 3) to pixels (..., 2) and depth from the camera (...) in mm."""
        posed = self.place(points)
        depth = DISTANCE - posed[..., 2]
        per_mm = self.focal / depth
        x = self.center + posed[..., 0] * per_mm
        y = self.center - posed[..., 1] * per_mm
        return np.stack([x, y], -1), depth
