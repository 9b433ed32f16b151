"""Gates of the geometry: each passes on the generator, and each is seen to fail on a broken one.

A gate returns what is wrong. ``test_a_broken_generator_does_not_pass`` names the breakages.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from faces_by_muscle import KIN, MEAN_PERSON, METRICS, PERSONS, aperture, points, random_people, vertices

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable import expression, identity, shape
from jaxau.morphable.expression import expression_basis, expression_shapes
from jaxau.morphable.grid import AZIMUTH, EYE_LOWER, EYE_UPPER, LIP_LOWER, LIP_UPPER, SLITS, TRIANGLES, Floats
from jaxau.morphable.head import ACROSS, EYE_INNER, EYE_OUTER, MOUTH_CORNER, REFERENCE_Y
from jaxau.morphable.identity import identity_basis

Wrong = list[Any]


def each_metric_grows() -> Wrong:
    wrong: Wrong = []
    for au, (metric, (least, most)) in METRICS.items():
        values = np.array([[metric(points(person, {au: step})) for step in range(6)] for person in PERSONS])
        grown = (values[:, -1] - values[:, 0]).mean()
        if np.diff(values, axis=1).min() <= 0.05 or not least < grown < most:  # mm per letter, every person
            wrong.append((au, "least step", np.diff(values, axis=1).min(), "in all", grown))
    return wrong


def lips_at_rest_touch() -> Wrong:
    """Or people would show teeth that no AU accounts for."""
    rests = [vertices(person, {}) for person in random_people()]
    gaps = [float(np.abs(rest[LIP_UPPER] - rest[LIP_LOWER]).max()) for rest in rests]
    return [(number, gap) for number, gap in enumerate(gaps) if gap > 0]


def others_leave_the_metric_alone() -> Wrong:
    """Gate 1: an AU's metric moves less than a quarter of its range under any AU that is not its kin."""
    wrong: Wrong = []
    moved = {au: points(MEAN_PERSON, {au: 5}) for au in SYNTHETIC_AUS}
    still = points(MEAN_PERSON, {})
    for au, (metric, _) in METRICS.items():
        own = metric(moved[au]) - metric(still)
        for other in set(SYNTHETIC_AUS) - {au} - KIN[au]:
            share = (metric(moved[other]) - metric(still)) / own
            if abs(share) >= 0.25:
                wrong.append((au, "moved by", other, share))
    return wrong


def tight_lids_leave_a_quarter_of_the_aperture() -> Wrong:
    """Gate 2."""
    wrong: Wrong = []
    for aus in ({7: 5}, {6: 5, 7: 5}, {6: 5, 7: 5, 9: 5, 4: 5, 12: 5}):
        for number, person in enumerate(PERSONS):
            left = aperture(points(person, aus)) / aperture(points(person, {}))
            if not 0.25 <= left < 0.85:
                wrong.append((number, aus, left))
    return wrong


_FACE = (np.abs(AZIMUTH)[None] < 75) & (REFERENCE_Y > -108) & (REFERENCE_Y < 100)
_FACE_TRIANGLES = TRIANGLES[_FACE.ravel()[TRIANGLES].all(1)]
_AZIMUTH = np.deg2rad(np.broadcast_to(AZIMUTH, _FACE.shape).ravel()[_FACE_TRIANGLES].mean(1))
_OUTWARDS = np.stack([np.sin(_AZIMUTH), np.zeros_like(_AZIMUTH), np.cos(_AZIMUTH)], -1)


def _turned_triangles(skin: Floats) -> int:
    """Triangles whose signed area, seen from where that part of the head faces, is not positive."""
    corners = skin.reshape(-1, 3)[_FACE_TRIANGLES].astype(float)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return int(((area * _OUTWARDS).sum(-1) <= 1e-6).sum())


def skin_never_folds_over_itself() -> Wrong:
    """Gate 3: no triangle turns over under any single AU at E and under 200 random combinations."""
    assert len(_FACE_TRIANGLES) > 12_000
    wrong: Wrong = [
        (number, au, turned)
        for number, person in enumerate(PERSONS)
        for au in SYNTHETIC_AUS
        if (turned := _turned_triangles(vertices(person, {au: 5})))
    ]
    rng = np.random.default_rng(0)
    for draw in range(200):
        aus = {int(au): float(rng.uniform(0, 5)) for au in rng.choice(SYNTHETIC_AUS, 6, False)}
        if turned := _turned_triangles(vertices(PERSONS[draw % len(PERSONS)], aus)):
            wrong.append((draw, aus, turned))
    return wrong


def lips_and_lids_never_pass_each_other() -> Wrong:
    """Gate 3, second half."""
    rng = np.random.default_rng(1)
    wrong: Wrong = []
    for draw in range(200):
        aus = {int(au): float(rng.uniform(0, 5)) for au in rng.choice(SYNTHETIC_AUS, 6, False)}
        skin = vertices(PERSONS[draw % len(PERSONS)], aus)
        for upper, lower in SLITS:
            gap = (skin[upper, :, 1] - skin[lower, :, 1]).min()
            if gap <= -1e-4:
                wrong.append((draw, aus, gap))
    return wrong


def doubled_rows_coincide_outside_the_openings() -> Wrong:
    beyond_eye = (ACROSS[EYE_UPPER] <= EYE_INNER) | (ACROSS[EYE_UPPER] >= EYE_OUTER)
    beyond_mouth = ACROSS[LIP_UPPER] >= MOUTH_CORNER
    wrong: Wrong = []
    for fields in (expression_basis(), identity_basis().vertices, expression_shapes()):
        eye = np.abs(fields[:, EYE_UPPER] - fields[:, EYE_LOWER])[:, beyond_eye].max((1, 2))
        lip = np.abs(fields[:, LIP_UPPER] - fields[:, LIP_LOWER])[:, beyond_mouth].max((1, 2))
        wrong += [(len(fields), index) for index in np.flatnonzero(np.maximum(eye, lip) > 0)]
    return wrong


GATES: tuple[Callable[[], Wrong], ...] = (
    each_metric_grows,
    lips_at_rest_touch,
    others_leave_the_metric_alone,
    tight_lids_leave_a_quarter_of_the_aperture,
    skin_never_folds_over_itself,
    lips_and_lids_never_pass_each_other,
    doubled_rows_coincide_outside_the_openings,
)


@pytest.mark.parametrize("gate", GATES)
def test_the_generator_passes(gate: Callable[[], Wrong]) -> None:
    assert gate() == []


def _au16_lifts_the_lip(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(expression.LOWER_LIP, 16, ((8, -73), (14, 8), (0, 7, 2)))


def _thicker_lips_leak_into_the_lip_line(patch: pytest.MonkeyPatch) -> None:
    thicker = identity.thicker_lip

    def leaking(upper: bool) -> Floats:
        field = np.array(thicker(upper))
        field[LIP_LOWER, :, 1] -= 0.2  # mm
        return field

    patch.setattr(identity, "thicker_lip", leaking)


def _au6_smiles(patch: pytest.MonkeyPatch) -> None:
    """A mistake of published blend-shape tables: the cheek raiser also pulls the corners of the mouth."""
    patch.setitem(expression.BUMPS, 6, (*expression.BUMPS[6], ((28, -66), (12, 11), (6.5, 6.5, -3))))


def _lid_limit_in_fixed_mm(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shape, "narrowed", lambda opening, change: np.maximum(opening + np.maximum(change, -6), 0))


def _skin_is_not_gathered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shape, "_gather_skin", lambda skin: None)


def _au24_presses_the_lips_through_each_other(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(expression.UPPER_LIP, 24, ((0, -64), (14, 8), (0, -2, 0)))


def _a_lip_field_reaches_past_the_corner(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expression, "_lip_bump", lambda item, rows: expression.bump(*item) * rows[..., None])


@pytest.fixture
def fresh_bases(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A place to break things: whatever was computed from the broken tables is forgotten afterwards."""
    caches = (expression_basis, expression_shapes, identity.identity_basis, shape._slit_gaps)

    def forget() -> None:
        for cache in caches:
            cache.cache_clear()

    forget()
    yield monkeypatch
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("breakage", "gate"),
    [
        (_au16_lifts_the_lip, each_metric_grows),
        (_thicker_lips_leak_into_the_lip_line, lips_at_rest_touch),
        (_au6_smiles, others_leave_the_metric_alone),
        (_lid_limit_in_fixed_mm, tight_lids_leave_a_quarter_of_the_aperture),
        (_skin_is_not_gathered, skin_never_folds_over_itself),
        (_au24_presses_the_lips_through_each_other, lips_and_lids_never_pass_each_other),
        (_a_lip_field_reaches_past_the_corner, doubled_rows_coincide_outside_the_openings),
    ],
)
def test_a_broken_generator_does_not_pass(
    breakage: Callable[[pytest.MonkeyPatch], None],
    gate: Callable[[], Wrong],
    fresh_bases: pytest.MonkeyPatch,
) -> None:
    breakage(fresh_bases)
    assert gate() != []


def test_thirty_people_are_the_same_everywhere() -> None:
    again = random_people()
    np.testing.assert_array_equal(again[7][0].neutral, PERSONS[7][0].neutral)
