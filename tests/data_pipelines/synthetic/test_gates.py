"""Gates of the pixels: each passes on the generator, and each is seen to fail on a broken one.

A gate returns what is wrong. ``test_a_broken_generator_does_not_pass`` names the breakages.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_pipelines.synthetic import Person, SynthConfig, SynthFaces, faces, layers, renderer
from data_pipelines.synthetic.renderer import Rendering, intensities, photograph
from data_pipelines.synthetic.scene import STUDIO, Light, Scene
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.grid import Floats
from jaxau.morphable.landmarks import LANDMARKS_68

SIZE = 128
Wrong = list[Any]

# The 68-point landmarks around which an AU must change the picture.
REGIONS: dict[int, tuple[int, ...]] = {
    1: (20, 21, 22, 23), 2: (17, 18, 25, 26), 4: (20, 21, 22, 23), 5: (37, 38, 43, 44),
    6: (40, 41, 46, 47), 7: (37, 41, 44, 46), 9: (27, 28, 31, 35), 10: (50, 51, 52, 33), 11: (49, 53, 31, 35),
    12: (48, 54), 14: (48, 54), 15: (48, 54), 16: (56, 57, 58), 17: (57, 8), 18: (48, 54, 51, 57),
    20: (48, 54), 22: (51, 57), 23: (51, 57), 24: (51, 57), 25: (62, 66), 26: (57, 8), 27: (57, 8),
    28: (51, 57), 43: (37, 41, 44, 46), 45: (37, 41, 44, 46),
}  # fmt: skip

_person = lru_cache(maxsize=16)(Person)  # a skin takes as long as several pictures


def _shown(
    person: Person, aus: dict[int, float], size: int = SIZE, yaw: float = 0, scene: Scene = STUDIO
) -> Rendering:
    return photograph(person, person.weights(intensities(aus)), (yaw, 0, 0), scene, size)


def _near(points: Floats, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    return distance.min(-1) < radius


def _symmetric(person: Person) -> None:
    paint = person.skin.paint
    person.__dict__["skin"] = dataclasses.replace(
        person.skin,
        paint=np.ascontiguousarray((paint + paint[:, ::-1]) / 2),
        hair_volume=(person.skin.hair_volume + person.skin.hair_volume[:, ::-1]) / 2,
    )


def a_mirrored_turn_gives_the_mirrored_picture(
    make_symmetric: Callable[[Person], None] = _symmetric,
) -> Wrong:
    """Gate 4, under a light from the middle; moles and hairs differ left and right, so they are averaged."""
    wrong: Wrong = []
    scene = dataclasses.replace(STUDIO, lights=(Light((0.0, 0.5, 0.866), 0.8),))
    for seed, aus in ((4, {}), (1, {12: 4.0, 25: 3.0})):
        person = Person(seed)
        make_symmetric(person)
        person.__dict__["wrinkles"] = dataclasses.replace(person.wrinkles, strength=0)
        weights = person.weights(intensities(aus))
        left = photograph(person, weights, (20, 5, 4), scene, SIZE)
        right = photograph(person, weights, (-20, 5, -4), scene, SIZE)
        covered, mirrored = left.fragments.covered(), right.fragments.covered()[:, ::-1]
        skin = covered & mirrored
        difference = np.abs(left.image.astype(int) - right.image[:, ::-1].astype(int)).mean(-1)[skin]
        outline = float((covered != mirrored).mean())
        if outline >= 0.001 or difference.mean() >= 1 or np.percentile(difference, 95) > 2:  # grey levels
            wrong.append((seed, outline, difference.mean(), np.percentile(difference, 95)))
    return wrong


def an_au_changes_its_own_place() -> Wrong:
    """Gate 5: under a fixed camera and light, an AU changes its own place, more with each letter."""
    wrong: Wrong = []
    for au, places in REGIONS.items():
        inside, weakest, outside = np.zeros(6), [], []
        for seed in range(6):
            person = _person(seed)
            still = _shown(person, {})
            place = _near(still.landmarks()[list(places)], 9)
            far = ~_near(still.landmarks()[list(places)], 45)
            grey = still.image.mean(-1)
            change = [np.abs(_shown(person, {au: step}).image.mean(-1) - grey) for step in (0, 1, 2, 3, 4, 5)]
            inside += [picture[place].mean() for picture in change]
            weakest.append(np.abs(_shown(person, {au: 1.5}).image.mean(-1) - grey)[place].mean())
            outside.append(change[-1][far].mean())
        if np.diff(inside).min() <= 0 or min(weakest) <= 0.5 or inside[-1] < 3 * np.sum(outside):
            wrong.append((au, inside.round(2), min(weakest), inside[-1], np.sum(outside)))
    return wrong


def irises_are_where_the_landmarks_say() -> Wrong:
    """Gate 6: the darkest part inside the lids, found from pixels alone, is at the projected pupil."""
    errors = []
    for seed in range(14):
        person = _person(seed)
        if person.traits.glasses is not None:
            continue
        rng = np.random.default_rng(seed)
        scene = dataclasses.replace(STUDIO, gaze=(rng.choice([-8.0, 0.0, 8.0]), rng.uniform(-3, 3)))
        shown = _shown(person, {5: 2}, 256, -8 + seed, scene)
        grey = shown.image.mean(-1)
        for eye, pupil in ((slice(60, 68), 96), (slice(68, 76), 97)):
            lids, center = shown.landmarks(98)[eye], shown.landmarks(98)[pupil]
            y, x = np.mgrid[:256, :256]
            near = np.hypot(x - lids[:, 0].mean(), y - lids[:, 1].mean()) < 7
            dark = near & (grey < np.percentile(grey[near], 12))
            errors.append(np.hypot(x[dark].mean() - center[0], y[dark].mean() - center[1]))
    share = float(np.mean(np.array(errors) < 1.5))  # px of 256
    return [] if share >= 0.95 else [(share, np.round(errors, 1))]


def the_lip_line_is_where_the_landmarks_say() -> Wrong:
    """Gate 6: the darkest line between closed lips, found from pixels alone, is at the projected lip line."""
    errors = []
    for seed in range(14):
        for aus in ({}, {17: 3.0}, {15: 3.0}, {12: 2.0}):
            shown = _shown(_person(seed), aus, 256, -8 + seed)
            (x, y), below = shown.landmarks()[62], shown.landmarks()[66]
            column = round(float(x))
            top = round(float(y)) - 9
            strip = shown.image[top : top + 19, column - 2 : column + 3].mean((1, 2))
            errors.append(abs(top + int(np.argmin(strip)) - (y + below[1]) / 2))
    share = float(np.mean(np.array(errors) < 1.5))
    return [] if share >= 0.95 else [(share, np.round(errors, 1))]


def pnp_finds_the_stored_pose() -> Wrong:
    """Gate 7: from the stored landmarks alone, within half a degree."""
    wrong: Wrong = []
    drawn = SynthFaces(SynthConfig(tier="tiny", subjects=4, clips=2, size=96))
    for subject in range(4):
        for t in (3, 40):
            frame = drawn.frame(subject, 1, t)
            _, turn, _ = cv2.solvePnP(frame.lm3d, frame.lm68.astype(float), frame.K, np.zeros(4))
            found = np.diag([1.0, -1.0, -1.0]) @ cv2.Rodrigues(turn)[0]
            for stored in (frame.R, rotation(*frame.pose)):
                cosine = (np.trace(found.T @ stored) - 1) / 2
                angle = float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
                if angle >= 0.5:
                    wrong.append((subject, t, angle))
    return wrong


def no_fetched_asset(folder: Path = Path(renderer.__file__).parent) -> Wrong:
    """Gate 11: nothing but source code makes the faces."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return [path.name for path in files if path.suffix != ".py" or path.stat().st_size > 65_536]


GATES: tuple[Callable[[], Wrong], ...] = (
    a_mirrored_turn_gives_the_mirrored_picture,
    an_au_changes_its_own_place,
    irises_are_where_the_landmarks_say,
    the_lip_line_is_where_the_landmarks_say,
    pnp_finds_the_stored_pose,
    no_fetched_asset,
)


@pytest.mark.parametrize("gate", GATES)
def test_the_generator_passes(gate: Callable[[], Wrong]) -> None:
    assert gate() == []


def _the_principal_point_is_half_the_size(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Camera, "center", property(lambda camera: camera.size / 2))


def _au14_moves_nothing(patch: pytest.MonkeyPatch) -> None:
    weights = Person.weights

    def without(person: Person, drive: Floats, scale: str = "linear") -> Floats:
        applied = weights(person, drive, scale)
        applied[..., SYNTHETIC_AUS.index(14)] = 0
        return applied

    patch.setattr(Person, "weights", without)


def _pupils_ignore_the_gaze(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renderer, "EYEBALL_RADIUS", 0.0)


def _eyes_are_drawn_without_gaze(patch: pytest.MonkeyPatch) -> None:
    paint = layers.paint_eye

    def ahead(picture: Floats, *arguments: Any) -> None:
        *others, scene = arguments
        paint(picture, *others, dataclasses.replace(scene, gaze=(0.0, 0.0)))

    patch.setattr(layers, "paint_eye", ahead)


def _landmarks_lie_rows_too_high(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renderer, "LANDMARKS_68", LANDMARKS_68 - [2.5, 0])


def _pictures_are_turned_the_other_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renderer, "rotation", lambda yaw, pitch, roll: rotation(-yaw, pitch, roll))


def _angles_are_applied_in_another_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        renderer,
        "rotation",
        lambda yaw, pitch, roll: rotation(yaw, 0, 0) @ rotation(0, pitch, 0) @ rotation(0, 0, roll),
    )


@pytest.mark.parametrize(
    ("breakage", "gate"),
    [
        (_the_principal_point_is_half_the_size, a_mirrored_turn_gives_the_mirrored_picture),
        (_au14_moves_nothing, an_au_changes_its_own_place),
        (_pupils_ignore_the_gaze, irises_are_where_the_landmarks_say),
        (_eyes_are_drawn_without_gaze, irises_are_where_the_landmarks_say),
        (_landmarks_lie_rows_too_high, the_lip_line_is_where_the_landmarks_say),
        (_pictures_are_turned_the_other_way, pnp_finds_the_stored_pose),
        (_angles_are_applied_in_another_order, pnp_finds_the_stored_pose),
    ],
)
def test_a_broken_generator_does_not_pass(
    breakage: Callable[[pytest.MonkeyPatch], None],
    gate: Callable[[], Wrong],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    assert gate() != []


def test_a_flip_without_mirrored_texture_does_not_pass() -> None:
    assert a_mirrored_turn_gives_the_mirrored_picture(lambda person: None) != []


def test_a_texture_file_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "skin.npz").write_bytes(bytes(70_000))
    (tmp_path / "code.py").write_text("x = 1")
    assert no_fetched_asset(tmp_path) == ["skin.npz"]


def test_the_noise_of_a_frame_is_keyed_by_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by what is drawn before: a running generator would make frames differ by order."""

    def is_keyed() -> bool:
        config = SynthConfig(tier="tiny", size=32, seed=1)
        forwards, alone = SynthFaces(config), SynthFaces(config)
        for t in range(3):
            forwards.frame(0, 0, t)
        return bool((forwards.frame(0, 0, 3).image == alone.frame(0, 0, 3).image).all())

    assert is_keyed()
    running = np.random.default_rng(0)
    monkeypatch.setattr(
        faces,
        "photograph",
        lambda person, weights, pose, scene, size, noise: photograph(
            person, weights, pose, scene, size, running
        ),
    )
    assert not is_keyed()
