"""One person's face: linear modes plus what happens where skin touches.

``V = mean + identity modes @ alpha + AU fields @ w`` everywhere, except around eyes and mouth: lids may
not pass each other, close together whatever the person's opening, and lie on the eyeball; and skin that
is pushed together next to a lid or a lip is gathered there instead of passing through itself. Lips need
no more care, because no AU brings the two lip rows closer than touching.
"""

from functools import lru_cache

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import LID_REACH, NEUTRAL, ONE_SIDED, expression_basis, lid_fade
from jaxau.morphable.grid import (
    EYE_LOWER,
    EYE_UPPER,
    MIDDLE,
    ROW_HEIGHT,
    SLITS,
    Floats,
    smoothstep,
)
from jaxau.morphable.head import EYEBALL_CENTER, EYEBALL_RADIUS, MEAN_HEAD
from jaxau.morphable.identity import MODES, identity_basis

LID_THICKNESS = 1.0  # mm between the eyeball and the skin
SHUT_MUSCLE_SHARE = 0.25  # share of a person's eye opening that AU6 and AU7 can never take away
_EYEBALL_RIM = 60.0  # mm^2 below which (radius^2 - distance^2) skin may sink in
_CLOSING = [SYNTHETIC_AUS.index(au) for au in (43, 45)]
_UPPER_LID_SHARE = 0.7  # of a correction of the aperture; the lower lid takes the rest

_ABOVE_EYE = slice(EYE_UPPER - 13, EYE_UPPER + 1)
_BELOW_EYE = slice(EYE_LOWER, EYE_LOWER + 9)
_AROUND_EYE = slice(EYE_UPPER - 9, EYE_LOWER + 9)
_FADE_ABOVE_EYE = lid_fade(ROW_HEIGHT[_ABOVE_EYE], LID_REACH[0]).astype(np.float32)[:, None]
_FADE_BELOW_EYE = lid_fade(-ROW_HEIGHT[_BELOW_EYE], LID_REACH[1]).astype(np.float32)[:, None]
_ONE_SIDED = ONE_SIDED.astype(np.float32)
_EYE_COLUMNS = (slice(MIDDLE - 40, MIDDLE - 2), slice(MIDDLE + 3, MIDDLE + 41))


# Rows of skin that are gathered next to a slit, from the slit on, and the columns where that happens.
_GATHERED_ROWS = {
    slit: (slice(slit[0], slit[0] - above, -1), slice(slit[1], slit[1] + below))
    for slit, above, below in ((SLITS[0], 17, 14), (SLITS[1], 15, 22))
}
_GATHERED_COLUMNS = {SLITS[0]: _EYE_COLUMNS, SLITS[1]: (slice(MIDDLE - 34, MIDDLE + 35),)}
_LEAST_SPACING = 0.35  # mm between two rows of gathered skin


def _gap(vertices: Floats, slit: tuple[int, int]) -> Floats:
    """(..., COLUMNS) mm: upper row above lower row of fields (..., ROWS, COLUMNS, 3)."""
    return vertices[..., slit[0], :, 1] - vertices[..., slit[1], :, 1]


@lru_cache(maxsize=1)
def _slit_gaps() -> tuple[Floats, Floats]:
    """Gap fields of the AUs at weight 1: eye (25, COLUMNS), and lips in the middle (25,); mm."""
    basis = expression_basis()
    return _gap(basis, SLITS[0]), _gap(basis, SLITS[1])[:, MIDDLE]


def lip_gap(weights: Floats) -> Floats:
    """Distance (...) in mm between the lips in the middle of the mouth, from weights (..., 25)."""
    return weights @ _slit_gaps()[1]


class HeadShape:
    """The geometry of one person.

    Attributes:
      identity: (27,) float32 coefficients of ``identity.MODES``.
      neutral: (ROWS, COLUMNS, 3) float32 mm, eyes open, lips closed.
      eyeballs: (2, 3) float32 mm, centres: the subject's right, then left.
      mouth_shift: mm by which identity moves the lip line up, and the teeth with it.
    """

    def __init__(self, identity: Floats):
        if np.shape(identity) != (len(MODES),):
            raise ValueError(
                f"identity of shape {np.shape(identity)}: one coefficient for each of the "
                f"{len(MODES)} modes {MODES} is needed"
            )
        basis = identity_basis()
        self.identity = np.asarray(identity, np.float32)
        difference = np.tensordot(self.identity, basis.vertices, 1)
        self.neutral: Floats = (MEAN_HEAD + NEUTRAL + difference).astype(np.float32)
        x, y, z = EYEBALL_CENTER
        x += float(self.identity @ basis.eyeball)
        self.eyeballs = np.array([[-x, y, z], [x, y, z]], np.float32)
        self.mouth_shift = float(self.identity @ basis.mouth)
        self._aperture = np.maximum(_gap(self.neutral, SLITS[0]), 0)

    def vertices(self, weights: Floats, asymmetry: float = 0.0) -> Floats:
        """Posed by muscles, not yet by the neck.

        Args:
          weights: (25,) applied AU weights (see ``expression.limit_weights``), 1 at intensity E.
          asymmetry: expressions are 1 + asymmetry times stronger on the subject's left, and
            weaker on his right.

        Returns:
          (ROWS, COLUMNS, 3) float32, mm in the head frame.
        """
        basis = expression_basis()
        field = np.zeros_like(self.neutral)
        # A plain sum over the active AUs: quicker than a product with all of them, and the same
        # to the last bit whatever the number of BLAS threads.
        for index in np.flatnonzero(weights):
            field += np.float32(weights[index]) * basis[index]
        if asymmetry:
            field *= (1 + np.float32(asymmetry) * _ONE_SIDED)[..., None]
        vertices = self.neutral + field
        self._meet_lids(vertices, weights, asymmetry)
        _gather_skin(vertices)
        self._rest_on_eyeballs(vertices)
        return vertices

    def _meet_lids(self, vertices: Floats, weights: Floats, asymmetry: float) -> None:
        """Lids keep a share of the person's aperture under AU6/7, and AU43 closes what is left."""
        pull = np.array(weights, np.float32)
        closing = np.clip(pull[_CLOSING].sum(), 0, 1)
        pull[_CLOSING] = 0
        change = (pull[:, None] * _slit_gaps()[0]).sum(0)
        change *= 1 + np.float32(asymmetry) * _ONE_SIDED[EYE_UPPER]
        excess = _gap(vertices, SLITS[0]) - narrowed(self._aperture, change) * (1 - closing)
        vertices[_ABOVE_EYE, :, 1] -= _UPPER_LID_SHARE * excess * _FADE_ABOVE_EYE
        vertices[_BELOW_EYE, :, 1] += (1 - _UPPER_LID_SHARE) * excess * _FADE_BELOW_EYE

    def _rest_on_eyeballs(self, vertices: Floats) -> None:
        """Skin in front of an eyeball lies on it; it moves forwards only, so apertures stay."""
        reach = np.float32(EYEBALL_RADIUS + LID_THICKNESS) ** 2
        for columns, center in zip(_EYE_COLUMNS, self.eyeballs, strict=True):
            lid = vertices[_AROUND_EYE, columns]
            square = reach - np.square(lid[..., :2] - center[:2]).sum(-1)
            surface = center[2] + np.sqrt(np.maximum(square, 0))
            # The push fades towards the rim of the eyeball, where its surface is a cliff.
            share = smoothstep(0, _EYEBALL_RIM, square)
            lid[..., 2] += share * np.maximum(surface - lid[..., 2], 0)


def narrowed(aperture: Floats, change: Floats) -> Floats:
    """Eye aperture (mm) that is left when muscles other than AU43 change it by ``change`` mm.

    Below half of the person's own aperture the muscles lose their grip, smoothly, and never take more than
    all but ``SHUT_MUSCLE_SHARE`` of it: a limit in fixed mm would shut narrow eyes.
    """
    ratio = 1 + change / np.maximum(aperture, 1e-3)
    squeezed = SHUT_MUSCLE_SHARE * (1 + np.exp(np.minimum(ratio / SHUT_MUSCLE_SHARE - 2, 0)))
    return aperture * np.where(ratio < 2 * SHUT_MUSCLE_SHARE, squeezed, ratio)


def _gather_skin(vertices: Floats) -> None:
    """Rows beside a slit keep their order: skin piles up in front of what pushes it."""
    for slit, (above, below) in _GATHERED_ROWS.items():
        for columns in _GATHERED_COLUMNS[slit]:
            for rows, sign in ((above, 1), (below, -1)):
                height = sign * vertices[rows, columns, 1]
                least = (np.arange(len(height), dtype=np.float32) * np.float32(_LEAST_SPACING))[:, None]
                vertices[rows, columns, 1] = sign * (np.maximum.accumulate(height - least, 0) + least)


def normals(vertices: Floats) -> Floats:
    """Unit outward normals (ROWS, COLUMNS, 3) of a grid, by central differences.

    On a doubled row the difference is one-sided where the slit is open, and spans the slit where
    the two rows coincide: otherwise a seam would show across the closed skin.
    """
    across = np.empty_like(vertices)
    across[:, 1:-1] = vertices[:, 2:] - vertices[:, :-2]
    across[:, 0] = vertices[:, 1] - vertices[:, 0]
    across[:, -1] = vertices[:, -1] - vertices[:, -2]
    up = np.empty_like(vertices)
    up[1:-1] = vertices[:-2] - vertices[2:]
    up[0] = vertices[0] - vertices[1]
    up[-1] = vertices[-2] - vertices[-1]
    for upper, lower in SLITS:
        joined = (np.abs(vertices[upper] - vertices[lower]).sum(-1) < 0.05)[:, None]
        span = vertices[upper - 1] - vertices[lower + 1]
        up[upper] = np.where(joined, span, vertices[upper - 1] - vertices[upper])
        up[lower] = np.where(joined, span, vertices[lower] - vertices[lower + 1])
    normal = np.empty_like(vertices)
    normal[..., 0] = across[..., 1] * up[..., 2] - across[..., 2] * up[..., 1]
    normal[..., 1] = across[..., 2] * up[..., 0] - across[..., 0] * up[..., 2]
    normal[..., 2] = across[..., 0] * up[..., 1] - across[..., 1] * up[..., 0]
    length = np.sqrt(np.einsum("rck,rck->rc", normal, normal))
    normal /= (length + np.float32(1e-6))[..., None]
    return normal
