"""Labels, folds and determinism of the data sets."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.annotator import annotate
from data_pipelines.synthetic.dynamics import Phase, draw_course, settle
from data_pipelines.synthetic.faces import visible_intensities
from data_pipelines.synthetic.person import SCALES, Person
from data_pipelines.synthetic.scene import STUDIO, draw_moments, draw_scene
from data_pipelines.synthetic.traits import groups
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import sample
from jaxau.morphable.landmarks import LANDMARKS_68

ROOT = Path(__file__).resolve().parents[3]
COLUMN = {au: index for index, au in enumerate(SYNTHETIC_AUS)}
SMALL = SynthConfig(tier="tiny", subjects=6, clips=2, frames=40, size=64, seed=5)


@pytest.fixture(scope="module")
def faces() -> SynthFaces:
    return SynthFaces(SMALL)


def _many_labels(seed: int = 0, **changes: object) -> np.ndarray:
    config = SynthConfig(tier="small", seed=seed, **changes)  # type: ignore[arg-type]
    faces = SynthFaces(config)
    return np.concatenate([faces.labels(s, c) for s in range(config.shape.subjects) for c in range(3)])


def test_tiers_fill_in_what_is_not_given() -> None:
    assert SynthConfig(tier="tiny").shape == (12, 1, 64, 96, 8)
    assert SynthConfig().shape == (27, 3, 80, 128, 8)
    assert SynthConfig(tier="default").shape == (60, 6, 80, 128, 8)
    config = SynthConfig(subjects=5, size=100)
    assert (config.subjects, config.clips, config.frames, config.size) == (5, 3, 80, 100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tier": "huge"}, "tier 'huge'.*small.*tiny"),
        ({"profile": "bp5d"}, "profile 'bp5d'.*balanced.*bp4d.*disfa.*factorial"),
        ({"scale": "log"}, "scale 'log'.*facs.*linear"),
        ({"style": "acted"}, "style 'acted'.*posed.*spontaneous"),
        ({"subjects": 0}, "subjects = 0"),
        ({"size": 8}, "size = 8"),
        ({"fps": 0.0}, "fps = 0"),
        ({"nuisance": -1.0}, "nuisance = -1"),
        ({"seed": -3}, "seed = -3"),
    ],
)
def test_wrong_configurations_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SynthConfig(**wrong)  # type: ignore[arg-type]


def test_a_frame_holds_what_it_promises(faces: SynthFaces) -> None:
    frame = faces.frame(2, 1, 17)
    assert frame.image.shape == (64, 64, 3) and frame.image.dtype == np.uint8
    assert frame.au.shape == (25,) and frame.au.dtype == np.float32
    assert 0 <= frame.au.min() and frame.au.max() <= 5
    np.testing.assert_array_equal(frame.au_int >= 2, frame.au >= 1.5)
    assert frame.lm68.shape == (68, 2) and frame.lm49.shape == (49, 2)
    assert frame.lm98.shape == (98, 2) and frame.lm3d.shape == (68, 3)
    np.testing.assert_array_equal(frame.lm49, frame.lm68[[*range(17, 60), 61, 62, 63, 65, 66, 67]])
    assert frame.visible.shape == (68,) and frame.visible[[30, 33, 51, 57]].all()
    assert frame.R.shape == frame.K.shape == (3, 3) and len(frame.pose) == 3
    assert frame.visible98.shape == (98,) and len(frame.gaze) == 2
    assert frame.id_coeff.shape == (27,) and frame.exp_coeff.shape == (51,)
    assert frame.phase.shape == (25,) and frame.phase.dtype == np.int8
    np.testing.assert_array_equal(frame.coded, frame.au)
    assert (frame.subject, frame.clip, frame.t) == (2, 1, 17)
    posed = frame.lm3d @ frame.R.T + frame.translation
    f, c = frame.K[0, 0], frame.K[0, 2]
    x = c + f * posed[:, 0] / (650 - posed[:, 2])
    y = c - f * posed[:, 1] / (650 - posed[:, 2])
    np.testing.assert_allclose(frame.lm68, np.stack([x, y], -1), atol=1e-3)
    assert frame.attrs["generator"] == "synth-1.0"


def test_frames_come_out_the_same_in_any_order(faces: SynthFaces) -> None:
    forwards = [frame.image for frame in faces.clip(1, 1)]
    fresh = SynthFaces(SMALL)
    for t in (31, 4, 0, 39):
        for other in (0, 2, 3, 4, 5):  # pushes subject 1 out of the cache
            fresh.labels(other, 0)
        np.testing.assert_array_equal(fresh.frame(1, 1, t).image, forwards[t])


def test_frames_come_out_the_same_in_another_process(faces: SynthFaces) -> None:
    program = (
        "import hashlib; from data_pipelines.synthetic import SynthConfig, SynthFaces;"
        "c = SynthConfig(tier='tiny', subjects=6, clips=2, frames=40, size=64, seed=5);"
        "f = SynthFaces(c).frame(3, 1, 25);"
        "print(hashlib.sha256(f.image.tobytes() + f.au.tobytes() + f.lm98.tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # the number of threads must not matter
        capture_output=True,
        text=True,
        check=True,
    )
    frame = faces.frame(3, 1, 25)
    here = hashlib.sha256(frame.image.tobytes() + frame.au.tobytes() + frame.lm98.tobytes())
    assert run.stdout.strip() == here.hexdigest()


def test_every_frame_has_its_own_sensor_noise(faces: SynthFaces) -> None:
    """The wall behind the head stands still, so only noise can change it."""
    changes = []
    for subject in range(6):  # some cameras are nearly free of noise
        first, second = (faces.frame(subject, 1, t).image[:6, :6].astype(int) for t in (0, 1))
        changes.append(np.abs(first - second).mean())
    assert np.median(changes) > 0.5  # grey levels


def test_seed_subject_clip_and_frame_all_matter(faces: SynthFaces) -> None:
    base = faces.frame(0, 1, 10).image.astype(int)
    others = [faces.frame(1, 1, 10), faces.frame(0, 0, 10), faces.frame(0, 1, 11)]
    others.append(
        SynthFaces(SynthConfig(tier="tiny", subjects=6, clips=2, frames=40, size=64)).frame(0, 1, 10)
    )
    for other in others:
        assert (other.image != base).any()
    same_person = faces.frame(0, 0, 10)
    np.testing.assert_array_equal(same_person.id_coeff, faces.frame(0, 1, 3).id_coeff)


def test_labels_without_drawing_are_the_labels_of_the_frames(faces: SynthFaces) -> None:
    labels = faces.labels(4, 1)
    assert labels.shape == (40, 25)
    for t in (0, 20, 39):
        np.testing.assert_array_equal(labels[t], faces.frame(4, 1, t).au)


def test_every_subject_has_a_neutral_frame(faces: SynthFaces) -> None:
    for subject in range(6):
        frame = faces.neutral(subject)
        assert frame.au.max() == 0 and (frame.exp_coeff == 0).all()


def test_one_expression_can_be_shown_by_another_person(faces: SynthFaces) -> None:
    one, other = faces.frame(2, 1, 17), faces.frame(4, 0, 30)
    swapped = faces.frame(2, 1, 17, expression_of=(4, 0, 30))
    np.testing.assert_array_equal(swapped.exp_coeff, other.exp_coeff)
    np.testing.assert_array_equal(swapped.id_coeff, one.id_coeff)
    for label in ("au", "coded", "phase"):
        np.testing.assert_array_equal(getattr(swapped, label), getattr(other, label))
    assert (swapped.pose, swapped.gaze, swapped.subject, swapped.t) == (one.pose, one.gaze, 2, 17)
    assert np.abs(swapped.lm3d - one.lm3d).max() > 0.5  # mm
    np.testing.assert_array_equal(faces.frame(2, 1, 17, expression_of=(2, 1, 17)).image, one.image)
    with pytest.raises(ValueError, match="t 40"):
        faces.frame(2, 1, 17, expression_of=(4, 0, 40))


def test_indices_outside_the_data_set_are_refused(faces: SynthFaces) -> None:
    for bad, message in (((6, 0, 0), "subject 6"), ((0, 2, 0), "clip 2"), ((0, 0, 40), "t 40")):
        with pytest.raises(ValueError, match=message):
            faces.frame(*bad)


def test_label_rules_hold_in_many_clips() -> None:
    labels = _many_labels()
    occurs = labels >= 1.5
    assert occurs[occurs[:, COLUMN[26]] | occurs[:, COLUMN[27]]][:, COLUMN[25]].all()
    assert (labels[:, COLUMN[25]] >= 0.79 * labels[:, COLUMN[26]]).all()
    parted = labels[:, COLUMN[25]] > 0.5
    assert labels[parted][:, [COLUMN[23], COLUMN[24], COLUMN[28]]].max() == 0
    assert labels[labels[:, COLUMN[12]] > 1.2][:, COLUMN[15]].max() == 0
    assert labels[labels[:, COLUMN[27]] >= 0.6][:, COLUMN[26]].max() == 0
    for shut in (43, 45):
        assert labels[labels[:, COLUMN[shut]] >= 4][:, [COLUMN[5], COLUMN[7]]].max() == 0
    sucked = labels[:, COLUMN[28]] >= 1.5
    assert sucked.any() and labels[sucked][:, [COLUMN[18], COLUMN[22], COLUMN[23], COLUMN[24]]].max() == 0


def test_au25_is_what_can_be_seen() -> None:
    """AU10 and AU16 part the lips without a command; the label follows the gap of the mesh."""
    for seed in range(10):
        person = Person(seed)
        for au in (10, 16, 26):
            drive = np.zeros(25, np.float32)
            drive[COLUMN[au]] = 5
            label = visible_intensities(person, drive)[COLUMN[25]]
            vertices = person.shape.vertices(person.weights(drive))
            points = sample(vertices, LANDMARKS_68)
            gap = points[62, 1] - points[66, 1]
            own = 6 * person.traits.gains[COLUMN[25]]  # mm at E
            assert label == pytest.approx(min(5 * gap / own, 5), abs=0.01)
            assert label > 1.5
        command = np.zeros(25, np.float32)
        command[COLUMN[25]] = 3
        assert visible_intensities(person, command)[COLUMN[25]] == pytest.approx(3, abs=1e-4)


def test_settling_fades_and_does_not_jump() -> None:
    drive = np.zeros((501, 25))
    drive[:, COLUMN[24]] = 3
    drive[:, COLUMN[25]] = np.linspace(0, 1, 501)
    pressed = settle(drive)[:, COLUMN[24]]
    assert pressed[0] == 3 and pressed[-1] == 0
    assert np.abs(np.diff(pressed)).max() < 0.02


def test_every_action_unit_occurs_and_none_dominates() -> None:
    occurs = np.concatenate([_many_labels(seed) for seed in range(2)]) >= 1.5
    rates = dict(zip(SYNTHETIC_AUS, occurs.mean(0), strict=True))
    assert {au: rate for au, rate in rates.items() if rate < 0.005 or rate > 0.55} == {}
    for au in (1, 2, 4, 6, 12, 25):
        assert rates[au] > 0.08
    smiling = occurs[:, COLUMN[12]]
    assert occurs[smiling, COLUMN[6]].mean() > 2 * occurs[~smiling, COLUMN[6]].mean()


def test_many_frames_are_below_the_threshold() -> None:
    labels = _many_labels()
    positives = (labels >= 1.5).sum()
    weak = ((labels > 0.1) & (labels < 1.5)).sum()
    assert 0.3 < weak / positives < 1.2


def test_intensities_change_smoothly_except_in_blinks() -> None:
    faces = SynthFaces(SynthConfig(tier="small", fps=25))
    steps = [np.abs(np.diff(faces.labels(s, c), axis=0)) for s in range(10) for c in range(3)]
    steps_per_au = np.concatenate(steps).max(0)
    # AU5 and AU7 vanish with a blink, AU15 under a smile, AU23, AU24 and AU28 when the lips part.
    cut_off = [COLUMN[au] for au in (5, 7, 15, 23, 24, 28, 45)]
    assert np.delete(steps_per_au, cut_off).max() < 2.5  # at most half the range in 1/25 s
    assert steps_per_au[COLUMN[45]] > 2.5


def test_a_quarter_of_the_frame_rate_takes_a_quarter_of_the_frames() -> None:
    def mean_step(fps: float, frames: int) -> float:
        faces = SynthFaces(SynthConfig(tier="small", clips=3, frames=frames, fps=fps))
        labels = [faces.labels(s, c) for s in range(27) for c in range(3)]
        return float(np.mean([np.abs(np.diff(clip, axis=0)).mean() for clip in labels]))

    assert mean_step(12.5, 40) == pytest.approx(4 * mean_step(50, 160), rel=0.25)


def test_nuisance_scales_pose_and_scene() -> None:
    rng = np.random.default_rng(0)
    still = draw_moments(rng, STUDIO, 10, 25, 0)
    assert (still.poses == 0).all() and (still.blur == 0).all() and (still.gaze == 0).all()
    assert (still.shift == STUDIO.shift).all() and still.occluders == (None,) * 10
    assert draw_scene(rng, 0) == STUDIO
    spread = [np.std([draw_moments(rng, STUDIO, 1, 25, k).poses[0, 0] for _ in range(200)]) for k in (0.5, 1)]
    assert 4 < spread[0] < 7 and 9 < spread[1] < 13  # degrees of yaw
    wild = np.concatenate([draw_moments(rng, STUDIO, 80, 25, 3).poses for _ in range(30)])
    assert np.abs(wild).max() == 40


def test_chins_and_brows_are_in_the_picture() -> None:
    faces = SynthFaces(SynthConfig(tier="tiny", frames=2, clips=3))
    points = np.concatenate([faces.frame(s, c, 1).lm98[None] for s in range(12) for c in range(3)])
    inside = ((points >= 0) & (points <= 95)).all(-1)
    assert inside.mean() > 0.99


def test_folds_are_subject_exclusive_complete_and_balanced() -> None:
    faces = SynthFaces(SynthConfig(tier="small"))
    folds = faces.folds(3)
    assert sorted(s for _, test in folds for s in test) == list(range(27))
    for train, test in folds:
        assert not set(train) & set(test) and len(train) + len(test) == 27
        assert len(test) == 9
    masculine = [sum(faces.person(s).traits.masculine for s in test) for _, test in folds]
    assert max(masculine) - min(masculine) <= 1
    assert faces.folds(3) == SynthFaces(SynthConfig(tier="small")).folds(3)
    with pytest.raises(ValueError, match="28 folds"):
        faces.folds(28)
    with pytest.raises(ValueError, match="1 folds"):
        faces.folds(1)


def test_heads_turn_eyes_jump_and_hands_pass_for_a_moment() -> None:
    rng = np.random.default_rng(3)
    clips = [draw_moments(rng, draw_scene(rng, 1), 80, 8, 1) for _ in range(120)]
    assert 2 < np.median([np.ptp(clip.poses[:, 0]) for clip in clips]) < 25  # degrees of yaw
    assert np.mean([np.ptp(clip.gaze[:, 0]) > 5 for clip in clips]) > 0.6
    occluded = np.array([[occluder is not None for occluder in clip.occluders] for clip in clips])
    momentary = occluded.any(1) & ~occluded.all(1)
    assert 0.1 < momentary.mean() < 0.35 and occluded[momentary].mean() < 0.2
    blur = np.array([clip.blur for clip in clips])
    assert (blur.max(1) > blur.min(1) + 0.1).mean() > 0.5


def test_blinks_are_short_and_come_ten_to_twenty_times_a_minute() -> None:
    fps, seconds, blinks, lengths = 100.0, 60, [], []
    for seed in range(12):
        course = draw_course(np.random.default_rng(seed), int(fps * seconds), fps, "disfa").intensity
        shut = np.concatenate([[0], course[:, COLUMN[45]] > 0, [0]])
        edges = np.flatnonzero(np.diff(shut.astype(int)))
        blinks.append(len(edges) // 2)
        lengths += list((edges[1::2] - edges[::2]) / fps)
    assert 8 < np.mean(blinks) < 20
    assert 0.1 <= np.min(lengths) and np.max(lengths) <= 0.41


def test_phases_follow_the_intensity() -> None:
    faces = SynthFaces(SynthConfig(tier="small", fps=25))
    steps: dict[int, list[float]] = {phase: [] for phase in Phase}
    for subject in range(9):
        labels, phases = faces.labels(subject, 1), faces.phases(subject, 1)
        assert ((phases == Phase.NEUTRAL) == (labels < 0.05)).all()
        for au in (1, 2, 4, 6, 12, 14, 17):
            step, phase = np.gradient(labels[:, COLUMN[au]]) * 25, phases[:, COLUMN[au]]
            for kind in Phase:
                steps[kind] += list(step[phase == kind])
    assert np.mean(steps[Phase.ONSET]) > 2 and np.mean(steps[Phase.OFFSET]) < -1  # letters per second
    assert np.abs(steps[Phase.APEX]).mean() < 0.5
    assert np.mean(np.array(steps[Phase.ONSET]) > -0.3) > 0.95


def test_posed_expressions_are_quicker_and_larger() -> None:
    def courses(style: str) -> np.ndarray:
        clips = [
            draw_course(np.random.default_rng(s), 400, 50, "balanced", style).intensity for s in range(20)
        ]
        return np.stack(clips)[..., [COLUMN[au] for au in (1, 4, 12, 17)]]

    spontaneous, posed = courses("spontaneous"), courses("posed")
    assert posed[posed > 1.5].mean() > 1.1 * spontaneous[spontaneous > 1.5].mean()
    rise = [np.percentile(np.diff(clips, axis=1), 99.5) for clips in (spontaneous, posed)]
    assert rise[1] > 1.3 * rise[0]


def test_the_facs_scale_makes_weak_letters_weaker() -> None:
    person = Person(3)
    column, gain = COLUMN[4], person.traits.gains[COLUMN[4]]
    for letter, share in enumerate(SCALES["facs"]):
        drive = np.zeros(25)
        drive[column] = letter
        if share * gain <= 1:  # not saturated
            assert person.weights(drive, "facs")[column] == pytest.approx(share * gain)
    command = np.zeros(25, np.float32)
    command[COLUMN[25]] = 3  # what is commanded is what is seen, on both scales
    for scale in SCALES:
        assert visible_intensities(person, command, scale)[COLUMN[25]] == pytest.approx(3, abs=1e-3)


def test_an_annotator_errs_a_little_and_only_if_asked() -> None:
    truth = np.concatenate([SynthFaces(SynthConfig()).labels(s, 1) for s in range(20)])
    coded = annotate(np.random.default_rng(0), truth)
    wrong = (coded >= 1.5) != (truth >= 1.5)
    assert 0.012 < wrong.mean() < 0.05
    strong = (truth > 2.5) & (coded > 1.5)
    assert 0.25 < np.std((coded - truth)[strong]) < 0.8
    erring = SynthConfig(tier="tiny", subjects=6, clips=2, frames=40, size=64, seed=5, annotator=True)
    frame, same = SynthFaces(erring).frame(2, 1, 17), SynthFaces(SMALL).frame(2, 1, 17)
    np.testing.assert_array_equal(frame.au, same.au)
    np.testing.assert_array_equal(frame.image, same.image)
    clip = [(f.au, f.coded) for f in SynthFaces(erring).clip(2, 1)]
    assert any((au != coded).any() for au, coded in clip)


# Per cent of frames; BP4D and DISFA as their three training folds have them in the mean.
BP4D = {
    1: 21.2,
    2: 17.1,
    4: 20.3,
    6: 46.1,
    7: 54.9,
    10: 59.5,
    12: 56.2,
    14: 46.6,
    15: 16.9,
    17: 34.3,
    23: 16.5,
    24: 15.1,
}
DISFA = {1: 5.0, 2: 4.3, 4: 15.2, 6: 7.9, 9: 4.2, 12: 12.9, 25: 27.7, 26: 8.8}


@pytest.mark.parametrize(("profile", "rates"), [("bp4d", BP4D), ("disfa", DISFA)])
def test_profiles_have_the_base_rates_of_their_corpora(profile: str, rates: dict[int, float]) -> None:
    occurs = _many_labels(seed=1, profile=profile, subjects=60) >= 1.5
    found = {au: 100 * occurs[:, COLUMN[au]].mean() for au in rates}
    assert {au: rate for au, rate in found.items() if abs(rate - rates[au]) > 5} == {}


def test_in_factorial_each_au_comes_on_its_own() -> None:
    occurs = _many_labels(seed=2, profile="factorial", subjects=30) >= 1.5
    free = [COLUMN[au] for au in (1, 2, 4, 5, 6, 7, 9, 11, 12, 14, 15, 17, 20)]
    assert np.abs(occurs[:, free].mean(0) - 0.3).max() < 0.05
    together = np.corrcoef(occurs[:, free].T) - np.eye(len(free))
    assert np.abs(together).max() < 0.15
    balanced = _many_labels(seed=2, subjects=30) >= 1.5
    assert np.corrcoef(balanced[:, COLUMN[1]], balanced[:, COLUMN[2]])[0, 1] > 0.5


def test_people_know_their_groups() -> None:
    people = [groups(Person(seed).traits) for seed in range(300)]
    for name, values in {
        "sex": {"male", "female"},
        "skin tone": {"light", "medium", "dark"},
        "age": {"young", "middle", "old"},
    }.items():
        shares = [np.mean([person[name] == value for person in people]) for value in values]
        assert sum(shares) == pytest.approx(1) and min(shares) > 0.7 / len(values)
    assert 0.12 < np.mean([person["glasses"] == "yes" for person in people]) < 0.3
    assert SynthFaces(SMALL).attributes(3)["sex"] in ("male", "female")


def test_a_stream_shares_people_and_repeats_itself() -> None:
    large = SynthConfig(tier="large", size=32)
    first = [next(stream) for stream in [SynthFaces(large).stream(1, 4)] for _ in range(20)]
    again = [next(stream) for stream in [SynthFaces(large).stream(1, 4)] for _ in range(20)]
    assert {frame.subject % 4 for frame in first} == {1} and len({frame.subject for frame in first}) == 2
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    with pytest.raises(ValueError, match="process 9 of 12: there are only 6"):
        next(SynthFaces(SMALL).stream(9, 12))


def test_shut_lids_and_hands_hide_landmarks() -> None:
    faces = SynthFaces(SynthConfig(tier="small", size=96))
    pupils = {True: [], False: []}
    hidden_by_hand = 0
    for subject in range(10):
        labels = faces.labels(subject, 1)
        blinking = np.flatnonzero(labels[:, COLUMN[45]] > 4.5)[:1]
        open_eyes = np.flatnonzero(labels[:, [COLUMN[43], COLUMN[45]]].max(1) == 0)[:2]
        for shut, times in ((True, blinking), (False, open_eyes)):
            for t in times:
                frame = faces.frame(subject, 1, int(t))
                if not frame.attrs["occluded"]:
                    pupils[shut].append(frame.visible98[96:].mean())
        hands = [t for t, hand in enumerate(faces._clip(subject, 2).moments.occluders) if hand is not None]
        for t in hands[len(hands) // 2 :][:1]:
            frame = faces.frame(subject, 2, t)
            assert frame.attrs["occluded"]
            hidden_by_hand += not frame.visible[[30, 48, 54, 8, 57]].all()
    assert np.mean(pupils[True]) < 0.2 < 0.8 < np.mean(pupils[False])
    assert hidden_by_hand > 0
