"""A data set of synthetic faces, drawn on demand.

Every picture is a pure function of (config, subject, clip, t): frames can be drawn alone, in any
order and in any process, and come out identical to the last bit on the same build.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipelines.synthetic.config import SynthConfig
from data_pipelines.synthetic.dynamics import draw_intensities, settle
from data_pipelines.synthetic.person import GENERATOR_VERSION, Person
from data_pipelines.synthetic.renderer import photograph
from data_pipelines.synthetic.scene import Scene, draw_poses, draw_scene
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Bools, Floats, Ints
from jaxau.morphable.landmarks import FROM_68_TO_49
from jaxau.morphable.shape import lip_gap

_SUBJECT, _CLIP, _FRAME = 1, 2, 3  # first word of the seeds of each kind
_PEOPLE_KEPT, _CLIPS_KEPT = 4, 8
_LIPS_PART = SYNTHETIC_AUS.index(25)
OCCURRENCE = 1.5  # intensity from which an AU counts as present: DISFA's rule, rounded >= 2


@dataclass(frozen=True)
class Frame:
    """One picture with all its labels.

    Attributes:
      image: (s, s, 3) uint8 RGB.
      au: (21,) float32 intensities 0..5, in the order of ``facs.SYNTHETIC_AUS``.
      au_int: (21,) int64 intensities rounded half up; an AU occurs where it is >= 2.
      lm68, lm49, lm98: (p, 2) float32 pixels; see ``jaxau.morphable.landmarks``.
      lm3d: (68, 3) float64 mm, head frame.
      visible: (68,) False where the face or hair hides a landmark.
      pose: (yaw, pitch, roll) degrees.
      R: (3, 3) rotation of the head frame; translation: (3,) mm of the same motion.
      K: (3, 3) intrinsics, pixels.
      id_coeff: (21,) identity coefficients; exp_coeff: (21,) applied AU weights.
      subject, clip, t: indices of the frame.
      attrs: melanin, age, masculine, glasses, occluded, generator version.
    """

    image: np.ndarray
    au: Floats
    au_int: Ints
    lm68: Floats
    lm49: Floats
    lm98: Floats
    lm3d: Floats
    visible: Bools
    pose: tuple[float, float, float]
    R: Floats
    translation: Floats
    K: Floats
    id_coeff: Floats
    exp_coeff: Floats
    subject: int
    clip: int
    t: int
    attrs: dict[str, Any]


@dataclass(frozen=True)
class _Clip:
    drive: Floats  # (frames, 21) intensities that the muscles are told
    labels: Floats  # (frames, 21) intensities that can be seen
    poses: Floats  # (frames, 3) degrees
    scene: Scene


def visible_intensities(person: Person, drive: Floats) -> Floats:
    """Labels (..., 21) of muscle commands (..., 21).

    AU25 is what can be seen: AU10 and AU16 part the lips too, and an open mouth without a label
    would be noise. The gap is measured on the mesh, in units of this person's own AU25.
    """
    alone = np.zeros(len(SYNTHETIC_AUS), np.float32)
    alone[_LIPS_PART] = person.traits.gains[_LIPS_PART]
    labels = np.array(drive)
    measured = 5 * lip_gap(person.weights(drive)) / lip_gap(alone)
    labels[..., _LIPS_PART] = np.clip(np.maximum(drive[..., _LIPS_PART], measured), 0, 5)
    return labels.astype(np.float32)


class SynthFaces:
    """The faces of one configuration.

    The last few people are kept, so frames of one subject drawn in sequence are quick; the first
    frame of a subject costs his skin as well.
    """

    def __init__(self, config: SynthConfig):
        self.config = config
        self._people: OrderedDict[int, Person] = OrderedDict()
        self._clips: OrderedDict[tuple[int, int], _Clip] = OrderedDict()

    def person(self, subject: int) -> Person:
        """The person with that number.

        Raises:
          ValueError: no such subject.
        """
        _check_index("subject", subject, self.config.shape.subjects)
        if subject not in self._people:
            self._people[subject] = Person(self._key(_SUBJECT, subject))
            while len(self._people) > _PEOPLE_KEPT:
                self._people.popitem(last=False)
        self._people.move_to_end(subject)
        return self._people[subject]

    def _key(self, *parts: int) -> tuple[int, ...]:
        return (self.config.seed, *parts)

    def _clip(self, subject: int, clip: int) -> _Clip:
        person = self.person(subject)
        _check_index("clip", clip, self.config.shape.clips)
        if (subject, clip) not in self._clips:
            config = self.config
            rng = np.random.default_rng(np.random.SeedSequence(self._key(_CLIP, subject, clip)))
            drive = draw_intensities(
                rng, config.shape.frames, config.fps, config.profile, neutral_start=clip == 0
            )
            # Lips that other AUs part cannot be pressed either: settle what is seen, then drop
            # the same share of the commands.
            settled = settle(visible_intensities(person, drive))
            settled[..., _LIPS_PART] = drive[..., _LIPS_PART]
            self._clips[subject, clip] = _Clip(
                drive=settled,
                labels=visible_intensities(person, settled),
                poses=draw_poses(rng, config.shape.frames, config.fps, config.nuisance),
                scene=draw_scene(rng, config.nuisance),
            )
            while len(self._clips) > _CLIPS_KEPT:
                self._clips.popitem(last=False)
        return self._clips[subject, clip]

    def labels(self, subject: int, clip: int) -> Floats:
        """(frames, 21) float32 intensities 0..5 of a clip, without drawing it.

        Raises:
          ValueError: no such subject or clip.
        """
        return self._clip(subject, clip).labels.copy()

    def frame(self, subject: int, clip: int, t: int) -> Frame:
        """Draw one frame.

        Raises:
          ValueError: no such subject, clip or frame.
        """
        state, person = self._clip(subject, clip), self.person(subject)
        _check_index("frame t", t, self.config.shape.frames)
        weights = person.weights(state.drive[t])
        yaw, pitch, roll = (float(angle) for angle in state.poses[t])
        noise = np.random.default_rng(np.random.SeedSequence(self._key(_FRAME, subject, clip, t)))
        rendering = photograph(
            person, weights, (yaw, pitch, roll), state.scene, self.config.shape.size, noise
        )
        au = state.labels[t].copy()
        lm68 = rendering.landmarks(68)
        return Frame(
            image=rendering.image,
            au=au,
            au_int=np.floor(au + 0.5).astype(np.int64),
            lm68=lm68,
            lm49=lm68[FROM_68_TO_49],
            lm98=rendering.landmarks(98),
            lm3d=rendering.landmarks_3d(68),
            visible=rendering.visible(68),
            pose=(yaw, pitch, roll),
            R=rendering.camera.rotation,
            translation=rendering.camera.translation,
            K=rendering.camera.intrinsics,
            id_coeff=person.shape.identity.copy(),
            exp_coeff=weights,
            subject=subject,
            clip=clip,
            t=t,
            attrs=_attributes(person, state.scene),
        )

    def clip(self, subject: int, clip: int) -> list[Frame]:
        """Draw all frames of a clip, in order."""
        return [self.frame(subject, clip, t) for t in range(self.config.shape.frames)]

    def neutral(self, subject: int) -> Frame:
        """A frame of that person with a neutral face: the first of his first clip."""
        return self.frame(subject, 0, 0)

    def folds(self, n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Subject-exclusive folds as (training subjects, test subjects).

        Every person is tested once. Sex, skin tone and glasses are spread evenly over the folds.

        Raises:
          ValueError: fewer than 2 folds, or more than people.
        """
        subjects = self.config.shape.subjects
        if not 2 <= n <= subjects:
            raise ValueError(f"{n} folds of {subjects} people: choose 2 to {subjects}")
        traits = [Person(self._key(_SUBJECT, subject)).traits for subject in range(subjects)]
        darkness = np.argsort(np.argsort([trait.melanin for trait in traits])) * 3 // subjects
        strata = sorted(
            range(subjects),
            key=lambda i: (traits[i].masculine, darkness[i], traits[i].glasses is not None, i),
        )
        return [
            (
                tuple(sorted(set(range(subjects)) - set(strata[fold::n]))),
                tuple(sorted(strata[fold::n])),
            )
            for fold in range(n)
        ]


def _attributes(person: Person, scene: Scene) -> dict[str, Any]:
    traits = person.traits
    return {
        "melanin": traits.melanin,
        "age": traits.age,
        "masculine": traits.masculine,
        "glasses": traits.glasses is not None,
        "occluded": scene.occluder is not None,
        "generator": GENERATOR_VERSION,
    }


def _check_index(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise ValueError(f"{name} {value}: this data set has 0 to {count - 1}")
