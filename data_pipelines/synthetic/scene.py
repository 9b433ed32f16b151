"""Everything about a clip that is not the person and not the expression: nuisance.

Light, pose, camera, gaze, blur, noise and occluders. A factor scales all of it: 0 is a laboratory
(one fixed camera and light, which lets raw pixel positions be read off), 1 the default, 2 hard.
"""

from dataclasses import dataclass

import numpy as np

from jaxau.morphable.grid import Floats

_POSE_SPREAD = np.array([11.0, 7.0, 5.0])  # degrees: yaw, pitch, roll of a clip
_POSE_DRIFT = np.array([0.35, 0.28, 0.21])  # degrees per 1/25 s of a random walk
_POSE_LIMIT = 40.0  # degrees, each angle
_OCCLUDED_SHARE = 0.12  # of clips
_BASE_SHIFT = (0.0, 24.0)  # mm: keeps the chin in the picture, also of long faces that turn
_BASE_SCALE = 0.95


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction towards it (head frame axes, not turning with the head)."""

    direction: tuple[float, float, float]
    strength: float


@dataclass(frozen=True)
class Occluder:
    """A flat ellipse before the face, as shares of the picture's side; angle in degrees."""

    center: tuple[float, float]
    half_axes: tuple[float, float]
    angle: float
    color: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """The nuisance of one clip; the defaults are a plain studio.

    Attributes:
      lights: key light first.
      ambient: strength of the light from everywhere.
      tint: RGB factors of all light.
      gaze: (right, down) degrees that the eyes turn in the head; right as seen in the picture.
      asymmetry: expressions are that much stronger on the subject's left.
      shift: (x, y) mm in the picture plane.
      scale: magnification.
      exposure: factor on the final picture.
      blur: standard deviation in pixels; 0 is sharp.
      noise: standard deviation in grey levels.
      occluder: or None.
    """

    lights: tuple[Light, ...] = (
        Light((0.390, 0.488, 0.781), 0.75),
        Light((-0.873, 0.218, 0.436), 0.20),
    )
    ambient: float = 0.38
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gaze: tuple[float, float] = (0.0, 0.0)
    asymmetry: float = 0.0
    shift: tuple[float, float] = _BASE_SHIFT
    scale: float = _BASE_SCALE
    exposure: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    occluder: Occluder | None = None


STUDIO = Scene()


def _towards(direction: Floats) -> tuple[float, float, float]:
    x, y, z = direction / np.linalg.norm(direction)
    return float(x), float(y), float(z)


def draw_scene(rng: np.random.Generator, nuisance: float) -> Scene:
    """Draw the scene of a clip; ``nuisance`` 0 gives the studio."""
    if nuisance == 0:
        return STUDIO
    key = rng.normal(0, 1, 3) * [0.6, 0.35, 0] + [0, 0.35, 0.8]
    fill = rng.normal(0, 1, 3) * [0.8, 0.4, 0.2] + [0, 0.1, 0.4]
    lights = (
        Light(_towards(key), rng.uniform(0.45, 0.95)),
        Light(_towards(fill), rng.uniform(0.05, 0.3)),
    )
    tint = np.maximum(1 + 0.10 * nuisance * rng.normal(0, 1, 3), 0.3)
    tint /= tint.mean()
    gaze = rng.normal(0, 1, 2) * [7, 3] * nuisance
    blur = rng.uniform(0, 0.9) * nuisance
    shift = rng.normal(0, 4, 2) * nuisance + _BASE_SHIFT
    occluder = Occluder(
        center=(rng.uniform(0.15, 0.85), rng.uniform(0.55, 1.0)),
        half_axes=(rng.uniform(0.06, 0.15), rng.uniform(0.10, 0.24)),
        angle=rng.uniform(0, 180),
        color=tuple(rng.uniform(0.02, 0.5, 3)),
    )
    return Scene(
        lights=lights,
        ambient=rng.uniform(0.18, 0.45),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        gaze=(float(np.clip(gaze[0], -20, 20)), float(np.clip(gaze[1], -10, 10))),
        asymmetry=float(np.clip(rng.normal(0, 0.12) * nuisance, -0.4, 0.4)),
        shift=(float(shift[0]), float(shift[1])),
        scale=_BASE_SCALE * float(np.clip(1 + 0.05 * nuisance * rng.normal(), 0.7, 1.3)),
        exposure=float(np.clip(1 + 0.12 * nuisance * rng.normal(), 0.5, 1.5)),
        blur=blur,
        noise=rng.uniform(0, 5) * nuisance,
        occluder=occluder if rng.random() < _OCCLUDED_SHARE * nuisance else None,
    )


def draw_poses(rng: np.random.Generator, frames: int, fps: float, nuisance: float) -> Floats:
    """(frames, 3) degrees: yaw, pitch, roll of a slowly drifting head."""
    walk = np.cumsum(rng.normal(0, 1, (frames, 3)), 0) * np.sqrt(25 / fps)
    walk = (walk - walk.mean(0)) * _POSE_DRIFT
    start = rng.normal(0, 1, 3) * _POSE_SPREAD
    return np.clip((start + walk) * nuisance, -_POSE_LIMIT, _POSE_LIMIT)
