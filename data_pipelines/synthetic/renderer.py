"""From a person, AU weights, a pose and a scene to a picture with its landmarks."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipelines.synthetic import layers
from data_pipelines.synthetic.person import Person
from data_pipelines.synthetic.raster import Fragments, rasterize
from data_pipelines.synthetic.scene import STUDIO, Occluder, Scene
from data_pipelines.synthetic.texels import SKIN_SCALE, WRINKLE_SCALE
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.expression import JAW_DROP
from jaxau.morphable.grid import (
    EYE_LOWER,
    EYE_UPPER,
    LIP_LOWER,
    LIP_UPPER,
    MIDDLE,
    Bools,
    Floats,
    sample,
)
from jaxau.morphable.head import EYEBALL_RADIUS
from jaxau.morphable.landmarks import FROM_68_TO_49, JAW_POINTS, LANDMARKS_68, LANDMARKS_98, on_outline
from jaxau.morphable.shape import normals

_LANE = 128  # covered pixels are shaded as rows of this many: cv2.remap wants two dimensions
_RIGHT_EYE = slice(MIDDLE - 38, MIDDLE - 3)
_LEFT_EYE = slice(MIDDLE + 4, MIDDLE + 39)
_LIPS = slice(MIDDLE - 24, MIDDLE + 25)
_VISIBLE_WITHIN = 3.0  # mm behind the surface that a pixel shows
_FOLD_SHADE = np.array([0.80, 0.92, 1.0], np.float32)  # folds darken red least


@dataclass(frozen=True)
class Rendering:
    """A picture and where everything in it is.

    Attributes:
      image: (s, s, 3) uint8 RGB.
      camera: pose and intrinsics.
      vertices: (ROWS, COLUMNS, 3) mm, head frame, skin without hair.
      pupils: (2, 3) mm, head frame, the subject's right first.
      fragments: what the pixels show.
      occluder: what is before the face, or None.
    """

    image: np.ndarray
    camera: Camera
    vertices: Floats
    pupils: Floats
    fragments: Fragments
    occluder: Occluder | None

    def landmarks_3d(self, points: int = 68, contour: str = "3d") -> Floats:
        """(points, 3) float64 mm in the head frame; 49, 68 or 98 points.

        Args:
          points: of the scheme.
          contour: "3d", jaw points are places of the jaw; "2d", they lie on the outline of the face where the
            head hides them, as annotators of pictures mark them.

        Raises:
          ValueError: another number of points, or another contour.
        """
        if points not in JAW_POINTS:
            raise ValueError(f"{points} landmarks: faces are drawn with 49, 68 or 98 of them")
        if contour not in ("2d", "3d"):
            raise ValueError(f"contour {contour!r}: 3d (places of the jaw) or 2d (the outline)")
        places = np.array(LANDMARKS_98 if points == 98 else LANDMARKS_68)
        if contour == "2d":
            jaw = slice(JAW_POINTS[points])
            places[jaw] = on_outline(places[jaw], self.vertices, self.camera)
        on_skin = sample(self.vertices, places).astype(np.float64)
        if points == 98:
            return np.concatenate([on_skin, self.pupils])
        return on_skin[FROM_68_TO_49] if points == 49 else on_skin

    def landmarks(self, points: int = 68, contour: str = "3d") -> Floats:
        """(points, 2) float32 pixels (x, y); see ``landmarks_3d``."""
        return self.camera.project(self.landmarks_3d(points, contour))[0].astype(np.float32)

    def visible(self, points: int = 68) -> Bools:
        """(points,) False where hair, the face itself or an occluder is in front, or off the picture.

        A pupil is hidden by a shut lid, too. Glasses do not count.
        """
        pixels, depth = self.camera.project(self.landmarks_3d(points))
        nearest = np.round(pixels).astype(int)
        size = self.camera.size
        inside: Bools = np.all((nearest >= 0) & (nearest < size), axis=-1)
        column, row = np.clip(nearest, 0, size - 1).T
        surface = self.fragments.depth_map(np.inf)[row, column]
        seen: Bools = inside & (depth <= surface + _VISIBLE_WITHIN)
        if points == 98:  # the eyeballs lie in holes of the skin
            seen[96:] = inside[96:] & np.isinf(surface[96:])
        if self.occluder is not None:
            cover = np.zeros((size, size), np.float32)
            layers.paint_occluder(cover, dataclasses.replace(self.occluder, color=(1.0, 1.0, 1.0)))
            seen &= cover[row, column] == 0
        return seen


def photograph(
    person: Person,
    weights: Floats,
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scene: Scene = STUDIO,
    size: int = 256,
    noise: np.random.Generator | None = None,
) -> Rendering:
    """Draw one picture.

    Args:
      person: who.
      weights: (25,) applied AU weights (``Person.weights``).
      pose: (yaw, pitch, roll) degrees.
      scene: light, camera, gaze, blur.
      size: side of the picture in pixels.
      noise: source of the sensor noise; None leaves it out.
    """
    camera = Camera(size, rotation(*pose), scene.shift, scene.scale)
    vertices = person.shape.vertices(weights, scene.asymmetry)
    surface = vertices + person.hair
    points, depth = camera.project(surface)
    fragments = rasterize(points.reshape(-1, 2), depth.ravel(), size)

    picture = person.backdrop(size).copy()
    layers.paint_behind(picture, person.traits, person.cloth, camera)
    for columns, center in zip((_RIGHT_EYE, _LEFT_EYE), person.shape.eyeballs, strict=True):
        upper, lower = points[EYE_UPPER, columns], points[EYE_LOWER, columns]
        layers.paint_eye(picture, upper, lower, center, person.traits.iris, camera, scene)
    jaw = sum(weights[SYNTHETIC_AUS.index(au)] * degrees for au, degrees in JAW_DROP.items())
    upper, lower = points[LIP_UPPER, _LIPS], points[LIP_LOWER, _LIPS]
    layers.paint_mouth(picture, upper, lower, float(jaw), person.shape.mouth_shift, camera, scene)
    if len(fragments.pixels):
        _paint_skin(picture, person, weights, fragments, normals(surface), camera, scene)
    if person.traits.glasses is not None:
        eye_x = float(person.shape.eyeballs[1, 0]) + 1
        layers.paint_glasses(picture, person.traits.glasses, eye_x, camera)
    if scene.occluder is not None:
        layers.paint_occluder(picture, scene.occluder)
    pupils = person.shape.eyeballs + EYEBALL_RADIUS * layers.gaze_direction(scene)
    return Rendering(_develop(picture, scene, noise), camera, vertices, pupils, fragments, scene.occluder)


def _paint_skin(
    picture: Floats,
    person: Person,
    weights: Floats,
    fragments: Fragments,
    surface_normals: Floats,
    camera: Camera,
    scene: Scene,
) -> None:
    """Shade the covered pixels: paint, folds, light, gloss, and the shade of what stands out."""
    count = len(fragments.pixels)
    lanes = -(-count // _LANE)
    pixels = np.resize(fragments.pixels, lanes * _LANE)
    row = np.resize(fragments.row, (lanes, _LANE))
    column = np.resize(fragments.column, (lanes, _LANE))

    def look_up(texture: Floats, scale: int) -> Floats:
        x = (column + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
        y = (row + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
        return cv2.remap(texture, x, y, cv2.INTER_LINEAR)

    paint = look_up(person.skin.paint, SKIN_SCALE)
    albedo, gloss = paint[..., :3], paint[..., 3]
    normal = cv2.remap(surface_normals, column, row, cv2.INTER_LINEAR)
    turn = camera.rotation.astype(np.float32)
    folds = person.wrinkles.folded(weights)
    if folds is not None:
        folds = look_up(folds, WRINKLE_SCALE)
        normal[..., 0] -= folds[..., 0]
        normal[..., 1] -= folds[..., 1]
        shade = np.clip(np.float32(0.45) * folds[..., 2:], 0, np.float32(0.6))
        albedo = albedo * (1 - shade * _FOLD_SHADE)
    normal = normal @ turn.T
    normal *= (1 / (np.sqrt(np.einsum("ijk,ijk->ij", normal, normal)) + np.float32(1e-6)))[..., None]

    tint = np.array(scene.tint, np.float32)
    light = np.float32(scene.ambient) * (np.float32(0.72) + np.float32(0.28) * normal[..., 1])
    shine = np.zeros_like(light)
    for lamp in scene.lights:
        direction = np.array(lamp.direction, np.float32)
        # Light wraps a little around the terminator, as it does under skin.
        facing = np.clip((normal @ direction + np.float32(0.18)) / np.float32(1.18), 0, 1)
        light += np.float32(lamp.strength) * facing * (np.float32(0.8) + np.float32(0.2) * facing)
        halfway = direction + np.array([0, 0, 1], np.float32)
        mirror = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)
        shine += np.float32(lamp.strength) * np.square(np.square(np.square(np.square(mirror))))
    light *= _crevices(fragments).reshape(-1)[pixels].reshape(lanes, _LANE)
    color = albedo * light[..., None]
    color += (np.float32(0.16) * gloss * shine)[..., None]
    color *= tint
    picture.reshape(-1, 3)[fragments.pixels] = color.reshape(-1, 3)[:count]
    _soften_outline(picture, fragments)


def _crevices(fragments: Fragments) -> Floats:
    """(s, s) factor below 1 where the surface lies behind its surroundings."""
    depth = fragments.depth_map(float(fragments.depth.max()))
    side = fragments.size // 16 | 1
    behind = np.clip(depth - cv2.blur(depth, (side, side)), 0, 18)
    return np.clip(1 - np.float32(0.016) * behind, np.float32(0.6), 1)


def _soften_outline(picture: Floats, fragments: Fragments) -> None:
    """Smooth the border between mesh and background, which the z-buffer leaves jagged."""
    share = cv2.blur(fragments.covered().astype(np.uint8) * np.uint8(255), (3, 3))
    border = np.flatnonzero((share > 12) & (share < 243))
    smooth = cv2.GaussianBlur(picture, (3, 3), 0.7)
    picture.reshape(-1, 3)[border] = smooth.reshape(-1, 3)[border]


def _develop(picture: Floats, scene: Scene, noise: np.random.Generator | None) -> np.ndarray:
    """Linear light to 8 bits: gamma 2 (a square root is quicker than a power), lens and sensor."""
    picture = np.sqrt(np.clip(picture, 0, 1)) * np.float32(255 * scene.exposure)
    blur = scene.blur * picture.shape[0] / 128
    if blur > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if noise is not None and scene.noise > 0:
        picture += np.float32(scene.noise) * noise.standard_normal(picture.shape, np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def render(
    person: Person,
    aus: Mapping[int, float],
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    size: int = 256,
    scene: Scene = STUDIO,
) -> np.ndarray:
    """A picture of a person with given AUs: (size, size, 3) uint8 RGB.

    Example: ``render(Person(42), {12: 4, 6: 3, 25: 2}, yaw=15)``. For landmarks call
    ``photograph(person, person.weights(intensities(aus)), (yaw, pitch, roll))``.

    Args:
      person: who.
      aus: AU number to intensity 0..5.
      yaw, pitch, roll: degrees.
      size: side in pixels.
      scene: light, camera, gaze.

    Raises:
      ValueError: an AU that is not drawn, or an intensity outside 0..5.
    """
    weights = person.weights(intensities(aus))
    return photograph(person, weights, (yaw, pitch, roll), scene, size).image


def intensities(aus: Mapping[int, float]) -> Floats:
    """(25,) float32 intensities in the order of ``facs.SYNTHETIC_AUS``; unnamed AUs are 0.

    Raises:
      ValueError: an AU that is not drawn, or an intensity outside 0..5.
    """
    vector = np.zeros(len(SYNTHETIC_AUS), np.float32)
    for au, intensity in aus.items():
        if au not in SYNTHETIC_AUS:
            raise ValueError(f"AU {au}: synthetic faces show only {list(SYNTHETIC_AUS)}")
        if not 0 <= intensity <= 5:
            raise ValueError(f"AU {au} = {intensity}: an intensity is between 0 (absent) and 5 (E)")
        vector[SYNTHETIC_AUS.index(au)] = intensity
    return vector
