"""Everything about a clip that is not the person and not the expression: nuisance.

Light, pose, camera, gaze, blur, noise and occluders, for the clip and from frame to frame. A factor scales
all of it: 0 is a laboratory (one fixed camera and light, which lets raw pixel positions be read off), 1 the
default, 2 hard.
"""

from dataclasses import dataclass

import numpy as np

from jaxau.morphable.grid import Floats, smoothstep

_POSE_SPREAD = np.array([11.0, 7.0, 5.0])  # degrees: yaw, pitch, roll of a clip
_POSE_DRIFT = np.array([0.35, 0.28, 0.21])  # degrees per 1/25 s of a random walk
_POSE_LIMIT = 40.0  # degrees, each angle
_TURNS_PER_SECOND, _TURN = 0.35, np.array([3.0, 2.0, 1.25])  # degrees, standard deviation
_SACCADES_PER_SECOND, _SACCADE = 0.8, np.array([6.0, 2.5])  # degrees, standard deviation
_BLUR_PER_SPEED = 0.012  # px of a 128-pixel picture per degree a second
_OCCLUDED_SHARE = 0.12  # of clips, all along
_HAND_SHARE = 0.25  # of clips, for a moment
_UNFOCUSED_SHARE = 0.15  # of clips, for a moment
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
      blur: standard deviation in pixels of a 128-pixel picture; 0 is sharp.
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


@dataclass(frozen=True)
class Moments:
    """What changes from frame to frame and is not expression.

    Attributes:
      poses: (frames, 3) degrees: yaw, pitch, roll.
      shift: (frames, 2) mm by which the head sways in the picture plane.
      gaze: (frames, 2) degrees that the eyes turn in the head: right as seen in the picture, and down.
      blur: (frames,) pixels of a 128-pixel picture, from motion and from a lens out of focus.
      occluders: (frames,) what passes before the face, or None.
    """

    poses: Floats
    shift: Floats
    gaze: Floats
    blur: Floats
    occluders: tuple[Occluder | None, ...]


def draw_moments(rng: np.random.Generator, scene: Scene, frames: int, fps: float, nuisance: float) -> Moments:
    """Draw the motion of a clip: a head that drifts, nods and turns, sway, saccades, a hand, lost focus."""
    seconds = np.arange(frames) / fps
    poses = _poses(rng, seconds, fps, nuisance)
    sway = 0.5 * np.cumsum(rng.normal(0, 1, (frames, 2)), 0) * np.sqrt(25 / fps)
    gaze = np.array(scene.gaze) + _steps(rng, seconds, _SACCADES_PER_SECOND, 0.04, _SACCADE) * nuisance
    speed = np.abs(np.gradient(poses, 1 / fps, axis=0)).max(1) if frames > 1 else np.zeros(frames)
    blur = nuisance * _BLUR_PER_SPEED * speed
    if rng.random() < _UNFOCUSED_SHARE * nuisance:
        blur += rng.uniform(0.8, 2.2) * _pulse(rng, seconds, (0.2, 0.6))
    return Moments(
        poses=poses,
        shift=np.array(scene.shift) + nuisance * (sway - sway.mean(0)),
        gaze=np.clip(gaze, [-20, -10], [20, 10]) if nuisance else np.tile(scene.gaze, (frames, 1)),
        blur=scene.blur + blur,
        occluders=_passing_hand(rng, scene, seconds, nuisance),
    )


def _poses(rng: np.random.Generator, seconds: Floats, fps: float, nuisance: float) -> Floats:
    walk = np.cumsum(rng.normal(0, 1, (len(seconds), 3)), 0) * np.sqrt(25 / fps)
    walk = (walk - walk.mean(0)) * _POSE_DRIFT
    start = rng.normal(0, 1, 3) * _POSE_SPREAD
    turns = _steps(rng, seconds, _TURNS_PER_SECOND, 0.5, _TURN)
    return np.clip((start + walk + turns) * nuisance, -_POSE_LIMIT, _POSE_LIMIT)


def _steps(
    rng: np.random.Generator, seconds: Floats, per_second: float, duration: float, spread: Floats
) -> Floats:
    """(frames, len(spread)): stays near a place, then moves smoothly to another, at random times."""
    place = rng.normal(0, 1, len(spread)) * spread
    course = np.tile(place, (len(seconds), 1))
    time = rng.exponential(1 / per_second)
    while time < seconds[-1]:
        target = rng.normal(0, 1, len(spread)) * spread
        course += smoothstep(time, time + duration, seconds)[:, None] * (target - place)
        place, time = target, time + duration + rng.exponential(1 / per_second)
    return course - np.median(course, 0)


def _pulse(rng: np.random.Generator, seconds: Floats, duration: tuple[float, float]) -> Floats:
    """(frames,) 0..1: once in the clip, for a moment."""
    middle, half = rng.uniform(0, seconds[-1] + 1e-6), rng.uniform(*duration) / 2
    return smoothstep(half, 0.5 * half, np.abs(seconds - middle))


def _passing_hand(
    rng: np.random.Generator, scene: Scene, seconds: Floats, nuisance: float
) -> tuple[Occluder | None, ...]:
    """The clip's own occluder, or in some clips a hand that comes up before the face and goes."""
    passes = rng.random() < _HAND_SHARE * nuisance
    near = _pulse(rng, seconds, (0.4, 1.1))
    target, half_axes = rng.uniform((0.3, 0.45), (0.7, 0.75)), rng.uniform((0.09, 0.12), (0.16, 0.22))
    angle, brightness = rng.uniform(0, 180), rng.uniform(0.12, 0.6)
    if not passes or scene.occluder is not None:
        return (scene.occluder,) * len(seconds)
    color = (brightness, 0.62 * brightness, 0.48 * brightness)
    return tuple(
        Occluder((float(target[0]), float(1.3 + share * (target[1] - 1.3))), tuple(half_axes), angle, color)
        if share > 0
        else None
        for share in near
    )
