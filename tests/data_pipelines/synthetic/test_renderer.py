"""Do the pixels show what the labels say?"""

from functools import lru_cache

import numpy as np
import pytest

from data_pipelines.synthetic import Person, render
from data_pipelines.synthetic.renderer import Rendering, intensities, photograph
from data_pipelines.synthetic.traits import Traits
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import SLITS

SIZE = 128
# Skin takes 50 ms per person; these tests only look at people.
_person = lru_cache(maxsize=16)(Person)


def _shown(person: Person, aus: dict[int, float], size: int = SIZE, **pose: float) -> Rendering:
    angles = (pose.get("yaw", 0.0), pose.get("pitch", 0.0), pose.get("roll", 0.0))
    return photograph(person, person.weights(intensities(aus)), angles, size=size)


def test_the_nose_is_in_front_at_yaw_0() -> None:
    for seed in range(5):
        shown = _shown(_person(seed), {})
        visible = shown.visible()
        assert visible[[27, 28, 29, 30, 33, 51, 57, 37, 44]].all()
        covered = shown.fragments.covered()
        assert 0.25 < covered.mean() < 0.85


def test_the_far_side_is_hidden_when_the_head_turns() -> None:
    shown = _shown(_person(1), {}, yaw=60)
    visible = shown.visible()
    assert not visible[[14, 15, 16]].any()  # turned to his left: his left ear is away
    assert visible[[36, 41, 48, 30]].all()


def test_frowns_draw_the_brows_together_and_crease_the_skin_between_them() -> None:
    contrasts = []
    for seed in range(8):
        person = _person(seed)
        still, frown = _shown(person, {}, 256), _shown(person, {4: 5}, 256)
        a, b = still.landmarks(), frown.landmarks()
        assert b[22, 0] - b[21, 0] < a[22, 0] - a[21, 0] - 4  # px of 256: about 1 mm each
        assert (b[[21, 22], 1] > a[[21, 22], 1] + 3).all()
        x, y = frown.landmarks()[[21, 22]].mean(0).round().astype(int)
        bare = still.image[y - 6 : y + 7, x - 3 : x + 4].mean(-1)
        creased = frown.image[y - 6 : y + 7, x - 3 : x + 4].mean(-1)
        contrasts.append(np.ptp(creased.mean(0)) - np.ptp(bare.mean(0)))
    assert np.median(contrasts) > 5  # grey levels between furrow and ridge


def test_hair_leaves_no_crack_along_the_doubled_rows() -> None:
    for seed in range(8):
        volume = _person(seed).skin.hair_volume
        assert volume.max() > 4  # mm
        for upper, lower in SLITS:
            np.testing.assert_array_equal(volume[upper], volume[lower])


def test_teeth_show_between_parted_lips_and_the_dark_behind_a_dropped_jaw() -> None:
    def inside(person: Person, aus: dict[int, float], teeth: bool) -> float:
        shown = _shown(person, aus, 256)
        top, bottom = shown.landmarks()[[62, 66]]
        (x, above), below = top.round().astype(int), int(bottom[1])
        rows = shown.image[above + 1 : below, x - 8 : x + 9].mean((1, 2))
        return float(np.sort(rows)[-max(len(rows) // 3, 1) :].mean()) if teeth else float(np.median(rows))

    for seed in range(1, 7):  # walls of all brightnesses, none of which may shine through
        person = _person(seed)
        dark, bright = inside(person, {27: 4}, teeth=False), inside(person, {25: 5, 10: 5}, teeth=True)
        assert dark < 70 and bright > dark + 20


def test_render_is_rgb_uint8_and_deterministic() -> None:
    picture = render(Person(42), {12: 4, 6: 3, 25: 2}, yaw=15, size=96)
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, render(Person(42), {12: 4, 6: 3, 25: 2}, yaw=15, size=96))
    fair = next(p for p in map(Person, range(50)) if p.traits.melanin < 0.2)
    shown = _shown(fair, {})
    x, y = shown.landmarks()[30].round().astype(int)
    r, _, b = shown.image[y - 8, x].astype(int)
    assert r > b + 10  # skin is red, not blue


def test_unknown_units_and_wrong_intensities_are_refused() -> None:
    person = Person(0)
    with pytest.raises(ValueError, match="AU 3: synthetic faces show only"):
        render(person, {3: 1})
    with pytest.raises(ValueError, match="AU 12 = 6"):
        render(person, {12: 6})
    with pytest.raises(ValueError, match="seed -1"):
        Person(-1)
    with pytest.raises(ValueError, match="5 landmarks"):
        _shown(person, {}).landmarks(5)


def test_people_differ_in_every_trait() -> None:
    traits: list[Traits] = [Person(seed).traits for seed in range(60)]
    assert 15 < sum(trait.masculine for trait in traits) < 45
    assert 4 < sum(trait.glasses is not None for trait in traits) < 24
    assert np.std([trait.melanin for trait in traits]) > 0.2
    identities = np.stack([trait.identity for trait in traits])
    assert identities.std(0).min() > 0.6
    gains = np.stack([trait.gains for trait in traits])
    assert 0.65 <= gains.min() and gains.max() <= 1.4
    assert (gains[:, [SYNTHETIC_AUS.index(43), SYNTHETIC_AUS.index(45)]] == 1).all()


@pytest.mark.parametrize(("points", "jaw"), [(68, 17), (98, 33)])
def test_a_turned_jaw_can_be_marked_on_the_outline(points: int, jaw: int) -> None:
    """Found from the pixels that the head covers; the near side and all other points stay where they are."""
    for seed, yaw in ((0, 35), (1, -35)):
        shown = photograph(_person(seed), np.zeros(len(SYNTHETIC_AUS)), (yaw, 0, 5), size=256)
        places, outline = shown.landmarks(points), shown.landmarks(points, "2d")
        np.testing.assert_array_equal(places[jaw:], outline[jaw:])
        far = slice(jaw - jaw // 4, jaw) if yaw > 0 else slice(jaw // 4)
        near = slice(jaw // 2 + 1) if yaw > 0 else slice(jaw // 2, jaw)
        np.testing.assert_array_equal(places[near], outline[near])
        covered = shown.fragments.covered()
        for (x, y), (place, _) in zip(outline[far], places[far], strict=True):
            row = np.flatnonzero(covered[round(float(y))])
            edge = row.max() if yaw > 0 else row.min()
            assert abs(x - edge) < 5 < abs(place - edge)  # px of 256; cheeks may reach beyond a lower row
    np.testing.assert_array_equal(shown.landmarks(49), shown.landmarks(49, "2d"))
    with pytest.raises(ValueError, match="contour 'flat'"):
        shown.landmarks(points, "flat")
