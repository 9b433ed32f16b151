"""Skin maps of one person: colour, lips, brows, lashes, beard, hair, gloss."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from data_pipelines.synthetic.texels import SKIN_SCALE, Texels, texels
from data_pipelines.synthetic.traits import Traits
from jaxau.morphable.grid import COLUMNS, LIP_LINE, ROWS, SLITS, Floats, gaussian, smoothstep, spot
from jaxau.morphable.head import EYE_INNER, EYE_OUTER, vermilion_lower, vermilion_upper

# RGB 0..255 of skin at melanin 0, .5 and 1.
_SKIN_TONES = np.array([(236, 200, 178), (198, 146, 108), (96, 62, 42)])
_MOST_MOLES = 2


@dataclass(frozen=True)
class Skin:
    """Maps of one person.

    Attributes:
      paint: (height, width, 4) float32: RGB albedo in linear light 0..1, and gloss 0..1.
      hair_volume: (ROWS, COLUMNS) float32 mm by which hair stands off the head.
    """

    paint: Floats
    hair_volume: Floats


@dataclass(frozen=True)
class _Places:
    """Parts of every face: (height, width) float32 weights 0..1 that no draw changes."""

    lips: Floats
    occlusion: Floats  # light that folds of the head keep away, as a factor
    redness: Floats
    under_eye: Floats
    lid_crease: Floats
    upper_lashes: Floats
    lower_lashes: Floats
    beard: Floats
    gloss: Floats


@lru_cache(maxsize=1)
def _places() -> _Places:
    p = texels(SKIN_SCALE)
    ax, y, azimuth = p.across, p.y, p.azimuth
    lips = smoothstep(-0.9, 0.9, vermilion_upper(ax) - y)
    lips = lips * smoothstep(-0.9, 0.9, y - vermilion_lower(ax)) * smoothstep(27.5, 25, ax)

    occlusion = 1 - 0.30 * spot(ax, y, (19, 4), (6, 8)) - 0.20 * spot(ax, y, (30, 12), (16, 3))
    occlusion -= 0.22 * spot(ax, y, (0, -80), (14, 3)) + 0.16 * spot(ax, y, (0, -50), (7, 2.5))
    occlusion -= 0.55 * smoothstep(-110, -124, y) * smoothstep(70, 40, azimuth)
    occlusion -= 0.35 * smoothstep(-112, -124, y) * smoothstep(40, 70, azimuth)
    occlusion -= 0.10 * spot(ax, y, (27.5, LIP_LINE), (3, 3))
    occlusion *= 1 - 0.55 * gaussian(y - LIP_LINE, 0.9) * smoothstep(27, 24, ax)
    nostril = np.clip(1.25 * spot(ax, y, (7.2, -46.3), (2.5, 1.25)), 0, 1)
    wing = gaussian(ax - 18.3, 1.2) * smoothstep(-34, -38, y) * smoothstep(-47, -43, y)
    occlusion *= (1 - 0.85 * nostril) * (1 - 0.28 * wing)
    occlusion *= 1 - 0.25 * spot(azimuth, y, (90, -12), (3.2, 9))

    fissure = smoothstep(EYE_INNER - 1, EYE_INNER + 4, ax) * smoothstep(EYE_OUTER + 3, EYE_OUTER, ax)
    jaw = smoothstep(-46, -56, y) * smoothstep(-32, -60, y)
    cheek = smoothstep(62, 74, azimuth) * smoothstep(-5, -20, y)
    beard = np.clip(jaw + cheek, 0, 1) * smoothstep(-125, -111, y) * (1 - lips)
    beard *= np.clip(1 - 0.9 * spot(ax, y, (34, -56), (13, 10)), 0, 1)
    crease = gaussian(y - 10.5 + 0.010 * np.square(ax - 30), 1.3)
    return _Places(
        lips=lips,
        occlusion=occlusion,
        redness=0.9 * spot(ax, y, (40, -28), (16, 14))
        + 0.7 * spot(ax, y, (0, -38), (12, 8))
        + 0.3 * spot(ax, y, (0, -98), (14, 8)),
        under_eye=spot(ax, y, (29, -11), (11, 4.5)),
        lid_crease=crease * smoothstep(15, 22, ax) * smoothstep(50, 42, ax),
        upper_lashes=p.upper_eyelid * gaussian(y, 1.25) * fissure,
        lower_lashes=(1 - p.upper_eyelid) * gaussian(y, 0.8) * fissure,
        beard=beard,
        gloss=0.35 * spot(ax, y, (0, -25), (9, 22))
        + 0.25 * spot(ax, y, (0, 55), (30, 18))
        + 0.2 * spot(ax, y, (42, -18), (14, 10))
        + 0.12,
    )


class _Noise:
    """Smooth standard normal noise on the texel grid."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]):
        self._rng, self._shape = rng, shape

    def __call__(self, width: float, along: float | None = None) -> Floats:
        """Noise with correlation ``width`` texels across (and ``along`` texels down)."""
        along = width if along is None else along
        step = max(1, int(min(width, along) / 3))  # coarse noise is drawn coarsely
        height, length = (side // step + 2 for side in self._shape)
        draw: Floats = self._rng.standard_normal((height, length), np.float32)
        draw = cv2.GaussianBlur(draw, (0, 0), sigmaX=width / step, sigmaY=along / step)
        draw = draw / draw.std()
        if step > 1:
            draw = cv2.resize(draw, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return draw[: self._shape[0], : self._shape[1]]


def make_skin(rng: np.random.Generator, traits: Traits) -> Skin:
    """Paint one person."""
    p, place = texels(SKIN_SCALE), _places()
    noise = _Noise(rng, p.shape)
    base = _tone(traits.melanin) * np.clip(rng.normal(1, 0.03, 3), 0.9, 1.1).astype(np.float32)
    paint = base * _complexion(rng, noise, p, place, traits)[..., None]
    red = (place.redness + 0.12 * noise(25)) * (1 - 0.5 * traits.melanin)
    paint *= 1 + red[..., None] * np.array([0.035, -0.075, -0.08], np.float32)

    lip_color = _lip_color(rng, base, traits) * (1 + 0.04 * noise(1.5))[..., None]
    paint = _over(paint, lip_color, place.lips)
    lashes = rng.uniform(0.65, 0.95) if not traits.masculine else rng.uniform(0.35, 0.6)
    paint *= (1 - lashes * place.upper_lashes - 0.42 * lashes * place.lower_lashes)[..., None]

    hair = (traits.hair * 255).astype(np.float32)
    paint = _over(paint, np.minimum(hair * 0.9, base * 0.75), _brows(rng, noise, p, traits))
    if traits.masculine and rng.random() < 0.55:
        growth = rng.uniform(0.12, 0.75)
        bristles = np.clip(growth + 0.35 * noise(0.9) * min(1, growth + 0.3), 0, 1)
        cover = place.beard * bristles * (0.95 if growth > 0.4 else 0.6)
        paint = _over(paint, np.minimum(hair, base * 0.6), cover)
    scalp = _scalp(rng, noise, p, traits)
    strands = np.clip(1 + 0.22 * noise(0.9, along=14), 0.4, 1.9)
    paint = _over(paint, hair * strands[..., None], scalp) * place.occlusion[..., None]

    gloss = np.clip(place.gloss, 0, 1) * (1 - scalp) + 0.5 * place.lips + 0.25 * scalp
    albedo = np.square(np.clip(paint / 255, 0.005, 1))  # gamma 2: linear light
    volume: Floats = cv2.resize(scalp, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    for upper, lower in SLITS:  # no crack along the doubled rows
        volume[upper] = volume[lower] = (volume[upper] + volume[lower]) / 2
    return Skin(
        paint=np.dstack([albedo, gloss]).astype(np.float32),
        hair_volume=(volume * rng.uniform(6, 13)).astype(np.float32),
    )


def _over(under: Floats, color: Floats, cover: Floats) -> Floats:
    cover = cover[..., None]
    return under + cover * (color - under)


def _tone(melanin: float) -> Floats:
    return np.stack(
        [np.interp(melanin, (0, 0.5, 1), _SKIN_TONES[:, channel]) for channel in range(3)]
    ).astype(np.float32)


def _complexion(rng: np.random.Generator, noise: _Noise, p: Texels, place: _Places, traits: Traits) -> Floats:
    """Brightness of the bare skin around 1: mottling, eye bags, freckles, moles."""
    light = 1 + 0.03 * noise(30) + 0.02 * noise(8) + 0.018 * noise(1.2)
    light *= 1 - 0.14 * place.under_eye * (0.6 + 0.9 * traits.age)
    light *= 1 - 0.20 * place.lid_crease
    if rng.random() < 0.35:
        freckles: Floats = (rng.random(p.shape, np.float32) < 0.004).astype(np.float32)
        freckles = cv2.GaussianBlur(freckles, (0, 0), 1.2)
        light *= 1 - 0.25 * freckles / freckles.max() * spot(p.across, p.y, (25, -20), (28, 16))
    for _ in range(rng.integers(0, _MOST_MOLES + 1)):
        center = (rng.uniform(-55, 55), rng.uniform(-95, 60))
        light *= 1 - 0.5 * np.clip(1.4 * spot(p.x, p.y, center, (1.1, 1.1)), 0, 1)
    return light


def _lip_color(rng: np.random.Generator, base: Floats, traits: Traits) -> Floats:
    natural = base * np.array([0.90, 0.64, 0.74], np.float32) * rng.uniform(0.85, 1.02)
    if not traits.masculine and rng.random() < 0.45:
        lipstick = np.array([rng.uniform(140, 200), rng.uniform(35, 85), rng.uniform(50, 100)])
        return (lipstick * (1 - 0.45 * traits.melanin)).astype(np.float32)
    return natural.astype(np.float32)


def _brows(rng: np.random.Generator, noise: _Noise, p: Texels, traits: Traits) -> Floats:
    ax, y = p.across, p.y
    thickness = rng.uniform(2.3, 4.2) + (0.9 if traits.masculine else -0.3)
    arch = rng.uniform(1.5, 5)
    along = np.clip((ax - 9) / 41, 0, 1)
    rise = np.sin(np.pi * np.clip(along * 1.05, 0, 1) ** 1.25)
    middle = 19.5 + arch * rise - 2.5 * smoothstep(0.7, 1, along)
    half = thickness * (1 - 0.72 * along**1.6) * smoothstep(0, 0.10, along + 0.02)
    cover = smoothstep(-1.1, 1.1, half - np.abs(y - middle))
    cover = cover * smoothstep(7.5, 11, ax) * smoothstep(53, 47, ax)
    return np.clip(cover * (rng.uniform(0.75, 0.98) + 0.12 * noise(1.0)), 0, 1)


def _scalp(rng: np.random.Generator, noise: _Noise, p: Texels, traits: Traits) -> Floats:
    """Where hair grows on the head."""
    ragged = 1.3 * noise(3)
    line = rng.uniform(58, 72) - 0.0085 * rng.uniform(0.7, 1.1) * np.square(p.across)
    if traits.masculine and rng.random() < 0.25:
        line = line + rng.uniform(15, 40) * smoothstep(60, 20, p.across)
    top = smoothstep(-1.5, 1.5, p.y - line + ragged)
    # Short hair ends in a sideburn and leaves the ear free; longer hair falls over it.
    hem = -18 + (32 * smoothstep(78, 86, p.azimuth) if traits.hair_length < 2 else -8)
    sides = 0.95 * smoothstep(70, 77, p.azimuth + 0.4 * ragged) * smoothstep(0, 8, p.y - hem + ragged)
    back = smoothstep(104, 108, p.azimuth) * smoothstep(-80, -60, p.y)
    return np.clip(np.maximum(np.maximum(top, sides), back), 0, 1)
