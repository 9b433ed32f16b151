"""What is drawn around the skin: eyes, mouth, hair behind the head, shoulders, glasses, occluder.

Eyes and mouth are painted before the skin, which then covers everything but its openings, so the
nose hides the far eye of a turned head without any extra work. All colours are linear light.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.synthetic.scene import Occluder, Scene
from data_pipelines.synthetic.traits import Glasses, Traits
from jaxau.morphable.camera import DISTANCE, Camera, rotation
from jaxau.morphable.expression import turn_jaw
from jaxau.morphable.grid import Bools, Floats, smoothstep
from jaxau.morphable.head import EYEBALL_RADIUS

_SUBPIXEL_BITS = 4
_IRIS_ANGLE, _PUPIL_ANGLE = 27.5, 11.0  # degrees from the axis of the eye
_SCLERA = np.array([0.60, 0.55, 0.50], np.float32)
_MOUTH_CAVITY = np.array([0.035, 0.010, 0.012], np.float32)
_TONGUE = (0.28, 0.09, 0.10)
_ENAMEL = np.array([0.66, 0.60, 0.50], np.float32)


def _fixed_point(points: Floats) -> np.ndarray:
    return np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _fill(picture: Floats, points: Floats, color: Sequence[float] | Floats) -> None:
    paint = tuple(float(value) for value in color)
    cv2.fillPoly(picture, [_fixed_point(points)], paint, cv2.LINE_8, _SUBPIXEL_BITS)


def _opening(outline: Floats, size: int) -> Bools:
    """The pixels of an outline (p, 2), and one around: the skin covers what is too much."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [_fixed_point(outline)], 1, cv2.LINE_8, _SUBPIXEL_BITS)
    return cv2.dilate(mask, np.ones((3, 3), np.uint8)).astype(bool)


def paint_eye(
    picture: Floats,
    upper_lid: Floats,
    lower_lid: Floats,
    center: Floats,
    iris: Floats,
    camera: Camera,
    scene: Scene,
) -> None:
    """Shade the visible part of an eyeball by ray casting.

    Args:
      picture: (s, s, 3) float32, changed in place.
      upper_lid, lower_lid: (p, 2) pixels from image left to image right.
      center: (3,) mm, head frame.
      iris: (3,) RGB 0..1.
    """
    rows, columns = np.nonzero(_opening(np.concatenate([upper_lid, lower_lid[::-1]]), camera.size))
    if not len(rows):
        return
    ray = np.stack(
        [
            (columns - camera.center) / camera.focal,
            (camera.center - rows) / camera.focal,
            np.full(len(rows), -1.0),
        ],
        -1,
    )
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    to_center = camera.place(center.astype(float)) - np.array([0, 0, DISTANCE])
    along = ray @ to_center
    beside = np.maximum(along**2 - to_center @ to_center + EYEBALL_RADIUS**2, 0)
    normal = ((along - np.sqrt(beside))[:, None] * ray - to_center) / EYEBALL_RADIUS

    axis = camera.rotation @ gaze_direction(scene)
    angle = np.rad2deg(np.arccos(np.clip(normal @ axis, -1, 1)))
    color = _SCLERA * (1 - 0.25 * smoothstep(30, 65, angle))[:, None]
    in_iris = smoothstep(_IRIS_ANGLE + 1.5, _IRIS_ANGLE - 1, angle)
    limbus = 1 - 0.6 * smoothstep(_IRIS_ANGLE - 7, _IRIS_ANGLE, angle)
    spokes = 1 + 0.15 * np.sin(18 * np.arctan2(normal[:, 0] - axis[0], normal[:, 1] - axis[1]))
    iris_color = 0.8 * iris**1.6 * (limbus * spokes)[:, None]
    color = color + in_iris[:, None] * (iris_color - color)
    in_pupil = smoothstep(_PUPIL_ANGLE + 1.5, _PUPIL_ANGLE - 1, angle)
    color = color + in_pupil[:, None] * (0.008 - color)

    tint = np.array(scene.tint)
    light = scene.ambient * (0.6 + 0.4 * normal[:, 1])
    for lamp in scene.lights:
        light = light + lamp.strength * np.clip(normal @ np.array(lamp.direction), 0, 1)
    color = color * light[:, None] * tint
    below_lid = rows - np.interp(columns, upper_lid[:, 0], upper_lid[:, 1])
    color = color * (1 - 0.5 * smoothstep(4.2 * camera.size / 256, 0, below_lid))[:, None]
    halfway = np.array(scene.lights[0].direction) + [0, 0, 1]
    glint = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 350
    picture[rows, columns] = color + 1.6 * glint[:, None]


def gaze_direction(scene: Scene) -> Floats:
    """(3,) unit vector in the head frame along which the eyes look."""
    return rotation(scene.gaze[0], scene.gaze[1], 0) @ np.array([0.0, 0.0, 1.0])


def paint_mouth(
    picture: Floats,
    upper_lip: Floats,
    lower_lip: Floats,
    jaw_angle: float,
    shift: float,
    camera: Camera,
    scene: Scene,
) -> None:
    """Draw cavity, tongue and teeth inside the lips.

    Args:
      upper_lip, lower_lip: (p, 2) pixels from image left to image right.
      jaw_angle: degrees; lower teeth and tongue turn with the jaw.
      shift: mm by which this person's teeth sit higher than the mean.
    """
    if np.abs(lower_lip[:, 1] - upper_lip[:, 1]).max() < 0.6 * camera.size / 256:
        return
    inside = _opening(np.concatenate([upper_lip, lower_lip[::-1]]), camera.size)
    layer = np.empty_like(picture)
    layer[:] = _MOUTH_CAVITY
    light = 0.7 * scene.ambient + 0.35 * scene.lights[0].strength

    tongue = turn_jaw(np.array([[0, -84 + shift, 66]]), jaw_angle)
    middle, depth = camera.project(tongue)
    per_mm = camera.focal / depth[0]
    axes = _fixed_point(np.array([16.0, 9.0]) * per_mm)
    center = _fixed_point(middle[0])
    cv2.ellipse(
        layer,
        (int(center[0]), int(center[1])),
        (int(axes[0]), int(axes[1])),
        0, 0, 360, tuple(light / 0.6 * value for value in _TONGUE), -1, cv2.LINE_8, _SUBPIXEL_BITS,
    )  # fmt: skip
    x = np.linspace(-24, 24, 25)
    arch = 84 - 9 * (np.abs(x) / 24) ** 2.2
    for top, bottom, lower, shade in ((-56, -64.2, False, 1.0), (-68.5, -76, True, 0.75)):
        z = arch - 2.5 if lower else arch
        edges = [np.stack([x, np.full_like(x, y + shift), z], -1) for y in (top, bottom)]
        strip = np.concatenate([edges[0], edges[1][::-1]])
        strip = turn_jaw(strip, jaw_angle) if lower else strip
        _fill(layer, camera.project(strip)[0], _ENAMEL * light * shade)
    picture[inside] = layer[inside]


def paint_behind(picture: Floats, traits: Traits, cloth: Floats, camera: Camera) -> None:
    """Long hair behind the neck, and shoulders in a colour (3,)."""
    if traits.hair_length >= 2:
        angle = np.linspace(0, 2 * np.pi, 48)
        length = 120 if traits.hair_length == 2 else 150
        width = 84 + 4 * traits.hair_length
        height = np.where(np.sin(angle) > 0, 116, length) * np.sin(angle) + 10
        outline = np.stack([width * np.cos(angle), height, np.full_like(angle, -30)], -1)
        _fill(picture, camera.project(outline)[0], 0.6 * np.square(traits.hair))
    right = np.array([[-60, -140, -30], [-150, -172, -40], [-190, -260, -40]], float)
    shoulders = np.concatenate([right, right[::-1] * [-1, 1, 1]])
    _fill(picture, camera.project(shoulders)[0], cloth)


def paint_glasses(picture: Floats, glasses: Glasses, eye_x: float, camera: Camera) -> None:
    """Two rims, a bridge and the nearer temple; lines of the wire's width."""
    angle = np.linspace(0, 2 * np.pi, 40)
    cosine, sine = np.cos(angle), np.sin(angle)
    power = 2 / glasses.power
    rim_x = glasses.half_width * np.sign(cosine) * np.abs(cosine) ** power
    rim_y = glasses.half_height * np.sign(sine) * np.abs(sine) ** power - 4
    inner, outer = eye_x - glasses.half_width, eye_x + glasses.half_width

    def depth(x: Floats) -> Floats:
        return 97 - 0.10 * np.abs(np.abs(x) - eye_x) - 0.0048 * np.square(x)

    lines: list[tuple[Floats, bool]] = []
    for side in (-1, 1):
        x = side * eye_x + rim_x
        lines.append((np.stack([x, rim_y, depth(x)], -1), True))
        if side * camera.rotation[0, 2] < 0.25:  # the temple on the far side is behind the head
            temple = [[side * outer, 0, depth(np.array(outer))], [side * 80, 2, 10]]
            lines.append((np.array(temple, float), False))
    lines.append((np.array([[-inner, 1, 96], [0, 4, 100], [inner, 1, 96]], float), False))
    width = max(1, round(glasses.wire * camera.focal / DISTANCE))
    color = tuple(value * value for value in glasses.color)
    for points, closed in lines:
        outline = [_fixed_point(camera.project(points)[0])]
        cv2.polylines(picture, outline, closed, color, width, cv2.LINE_8, _SUBPIXEL_BITS)


def paint_occluder(picture: Floats, occluder: Occluder) -> None:
    """Cover part of the picture with a flat ellipse."""
    size = picture.shape[0]
    center = tuple(size * share for share in occluder.center)
    axes = tuple(2 * size * share for share in occluder.half_axes)
    cv2.ellipse(picture, (center, axes, occluder.angle), occluder.color, -1, cv2.LINE_8)
