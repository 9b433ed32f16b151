"""A data set of synthetic faces, drawn on demand.

Every picture is a pure function of (config, subject, clip, t): frames can be drawn alone, in any
order and in any process, and come out identical to the last bit on the same build.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_pipelines.synthetic.annotator import annotate
from data_pipelines.synthetic.config import SynthConfig
from data_pipelines.synthetic.dynamics import Phase, draw_course, settle
from data_pipelines.synthetic.person import GENERATOR_VERSION, SCALES, Person
from data_pipelines.synthetic.renderer import photograph
from data_pipelines.synthetic.scene import Moments, Scene, draw_moments, draw_scene
from data_pipelines.synthetic.traits import groups
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import shape_weights
from jaxau.morphable.grid import Bools, Floats, Ints
from jaxau.morphable.landmarks import FROM_68_TO_49
from jaxau.morphable.shape import lip_gap

_SUBJECT, _CLIP, _FRAME, _ANNOTATOR, _STREAM = 1, 2, 3, 4, 5  # first word of the seeds of each kind
_PEOPLE_KEPT, _CLIPS_KEPT = 4, 8
_LIPS_PART = SYNTHETIC_AUS.index(25)
_PARTING = {  # columns of the AUs that part the lips, and how far
    index: float(lip_gap(np.eye(len(SYNTHETIC_AUS))[index]))
    for index in range(len(SYNTHETIC_AUS))
    if lip_gap(np.eye(len(SYNTHETIC_AUS))[index]) > 0
}
_LEAST_SEEN = 0.05  # intensity below which an AU is in no phase but neutral
_LEAST_OF_JAW = 0.8
_STREAMED_IN_A_ROW = 16
OCCURRENCE = 1.5  # intensity from which an AU counts as present: DISFA's rule, rounded >= 2


@dataclass(frozen=True)
class Frame:
    """One picture with all its labels.

    Attributes:
      image: (s, s, 3) uint8 RGB.
      au: (25,) float32 true intensities 0..5, in the order of ``facs.SYNTHETIC_AUS``.
      au_int: (25,) int64 intensities rounded half up; an AU occurs where it is >= 2.
      coded: (25,) float32, what an annotator says: ``au``, unless the configuration has one who errs.
      phase: (25,) int8, a ``dynamics.Phase`` for each AU.
      lm68, lm49, lm98: (p, 2) float32 pixels; see ``jaxau.morphable.landmarks``.
      lm3d: (68, 3) float64 mm, head frame.
      visible, visible98: (68,) and (98,) False where face, hair or an occluder hides a landmark.
      pose: (yaw, pitch, roll) degrees.
      gaze: (right, down) degrees that the eyes turn in the head; right as seen in the picture (AU61 is
        > 0, AU62 < 0 there; AU63 < 0, AU64 > 0 below).
      R: (3, 3) rotation of the head frame; translation: (3,) mm of the same motion.
      K: (3, 3) intrinsics, pixels.
      id_coeff: (27,) identity coefficients; exp_coeff: (51,) coefficients of the expression shapes.
      subject, clip, t: indices of the frame.
      attrs: sex, skin tone, age and glasses (groups, see ``traits.groups``), melanin and age_share 0..1,
        occluded, and the generator's version.
    """

    image: np.ndarray
    au: Floats
    au_int: Ints
    coded: Floats
    phase: Ints
    lm68: Floats
    lm49: Floats
    lm98: Floats
    lm3d: Floats
    visible: Bools
    visible98: Bools
    pose: tuple[float, float, float]
    gaze: tuple[float, float]
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
    drive: Floats  # (frames, 25) intensities that the muscles are told
    labels: Floats  # (frames, 25) intensities that can be seen
    coded: Floats  # (frames, 25) what an annotator says
    phase: Ints  # (frames, 25)
    scene: Scene
    moments: Moments


def visible_intensities(person: Person, drive: Floats, scale: str = "linear") -> Floats:
    """Labels (..., 25) of muscle commands (..., 25).

    AU25 is what can be seen: AU10 and AU16 part the lips too, and an open mouth without a label
    would be noise. The gap is measured on the mesh, in units of this person's own AU25.
    """
    alone = np.zeros(len(SYNTHETIC_AUS), np.float32)
    alone[_LIPS_PART] = person.traits.gains[_LIPS_PART]
    labels = np.array(drive)
    share = lip_gap(person.weights(drive, scale)) / lip_gap(alone)
    measured = np.interp(share, SCALES[scale], np.arange(6.0))
    labels[..., _LIPS_PART] = np.clip(np.maximum(drive[..., _LIPS_PART], measured), 0, 5)
    return labels.astype(np.float32)


def _open_with_the_jaw(person: Person, intensity: Floats, scale: str) -> None:
    """Part the lips of people whose jaw alone parts them little: AU25 is at least .8 of AU26 and AU27."""
    jaw = intensity[:, [SYNTHETIC_AUS.index(au) for au in (26, 27)]].max(1)
    others = np.array(intensity)
    others[:, _LIPS_PART] = 0
    missing = _LEAST_OF_JAW * jaw - visible_intensities(person, others, scale)[:, _LIPS_PART]
    intensity[:, _LIPS_PART] = np.maximum(intensity[:, _LIPS_PART], missing)


def _phases(phase: Ints, drive: Floats, labels: Floats) -> Ints:
    """Phases of the labels: none where an AU cannot be seen; parted lips follow what parts them most."""
    phase = np.array(phase)
    parting = np.stack([drive[:, column] * gap for column, gap in _PARTING.items()])
    strongest = np.array(list(_PARTING))[parting.argmax(0)]
    phase[:, _LIPS_PART] = phase[np.arange(len(phase)), strongest]
    phase[labels < _LEAST_SEEN] = Phase.NEUTRAL
    return phase


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
            frames, fps = config.shape.frames, config.shape.fps
            course = draw_course(rng, frames, fps, config.profile, config.style, neutral_start=clip == 0)
            _open_with_the_jaw(person, course.intensity, config.scale)
            # Lips that other AUs part cannot be pressed either: settle what is seen, then drop
            # the same share of the commands.
            drive = settle(visible_intensities(person, course.intensity, config.scale))
            drive[..., _LIPS_PART] = course.intensity[..., _LIPS_PART]
            drive = drive.astype(np.float32)
            labels = visible_intensities(person, drive, config.scale)
            scene = draw_scene(rng, config.nuisance)
            errors = np.random.default_rng(np.random.SeedSequence(self._key(_ANNOTATOR, subject, clip)))
            self._clips[subject, clip] = _Clip(
                drive=drive,
                labels=labels,
                coded=annotate(errors, labels) if config.annotator else labels,
                phase=_phases(course.phase, drive, labels),
                scene=scene,
                moments=draw_moments(rng, scene, frames, fps, config.nuisance),
            )
            while len(self._clips) > _CLIPS_KEPT:
                self._clips.popitem(last=False)
        return self._clips[subject, clip]

    def labels(self, subject: int, clip: int) -> Floats:
        """(frames, 25) float32 intensities 0..5 of a clip, without drawing it.

        Raises:
          ValueError: no such subject or clip.
        """
        return self._clip(subject, clip).labels.copy()

    def phases(self, subject: int, clip: int) -> Ints:
        """(frames, 25) int8 ``dynamics.Phase`` of a clip; as ``labels``."""
        return self._clip(subject, clip).phase.copy()

    def poses(self, subject: int, clip: int) -> Floats:
        """(frames, 3) degrees (yaw, pitch, roll) of a clip; as ``labels``."""
        return self._clip(subject, clip).moments.poses.copy()

    def frame(
        self,
        subject: int,
        clip: int,
        t: int,
        contour: str = "3d",
        expression_of: tuple[int, int, int] | None = None,
    ) -> Frame:
        """Draw one frame.

        Args:
          subject, clip, t: which.
          contour: of ``lm68`` and ``lm98``, as in ``Rendering.landmarks_3d``.
          expression_of: (subject, clip, t) of the frame whose expression is shown, with the very same
            coefficients, and whose labels this one then has: pairs of people with one expression.

        Raises:
          ValueError: no such subject, clip, frame or contour.
        """
        state, person = self._clip(subject, clip), self.person(subject)
        who, its_clip, moment = expression_of or (subject, clip, t)
        shown, shows = self._clip(who, its_clip), self.person(who)
        for time in (t, moment):
            _check_index("frame t", time, self.config.shape.frames)
        weights = shows.weights(shown.drive[moment], self.config.scale)
        moments = state.moments
        yaw, pitch, roll = (float(angle) for angle in moments.poses[t])
        scene = replace(
            state.scene,
            asymmetry=shown.scene.asymmetry,
            gaze=(float(moments.gaze[t, 0]), float(moments.gaze[t, 1])),
            shift=(float(moments.shift[t, 0]), float(moments.shift[t, 1])),
            blur=float(moments.blur[t]),
            occluder=moments.occluders[t],
        )
        noise = np.random.default_rng(np.random.SeedSequence(self._key(_FRAME, subject, clip, t)))
        rendering = photograph(person, weights, (yaw, pitch, roll), scene, self.config.shape.size, noise)
        au = shown.labels[moment].copy()
        lm68 = rendering.landmarks(68, contour)
        return Frame(
            image=rendering.image,
            au=au,
            au_int=np.floor(au + 0.5).astype(np.int64),
            coded=shown.coded[moment].copy(),
            phase=shown.phase[moment].copy(),
            lm68=lm68,
            lm49=lm68[FROM_68_TO_49],
            lm98=rendering.landmarks(98, contour),
            lm3d=rendering.landmarks_3d(68),
            visible=rendering.visible(68),
            visible98=rendering.visible(98),
            pose=(yaw, pitch, roll),
            gaze=scene.gaze,
            R=rendering.camera.rotation,
            translation=rendering.camera.translation,
            K=rendering.camera.intrinsics,
            id_coeff=person.shape.identity.copy(),
            exp_coeff=shape_weights(weights, scene.asymmetry),
            subject=subject,
            clip=clip,
            t=t,
            attrs=_attributes(person, scene),
        )

    def clip(self, subject: int, clip: int) -> list[Frame]:
        """Draw all frames of a clip, in order."""
        return [self.frame(subject, clip, t) for t in range(self.config.shape.frames)]

    def stream(self, process: int = 0, processes: int = 1) -> Iterator[Frame]:
        """Random frames without end, drawn as they are asked for and never stored.

        Each comes from a person, a clip and a time drawn at random; ``process`` of ``processes`` gets its own
        share of the people, so that several of them together see each person once.
        """
        shape = self.config.shape
        people = np.arange(process, shape.subjects, processes)
        if not len(people):
            raise ValueError(
                f"process {process} of {processes}: there are only {shape.subjects} people to share"
            )
        rng = np.random.default_rng(np.random.SeedSequence(self._key(_STREAM, process, processes)))
        while True:
            subject = int(rng.choice(people))
            for _ in range(_STREAMED_IN_A_ROW):  # a person's skin costs as much as several frames
                yield self.frame(subject, int(rng.integers(shape.clips)), int(rng.integers(shape.frames)))

    def attributes(self, subject: int) -> dict[str, str]:
        """The groups that a person belongs to, without drawing him: see ``traits.groups``."""
        _check_index("subject", subject, self.config.shape.subjects)
        return groups(Person(self._key(_SUBJECT, subject)).traits)

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
        **groups(traits),
        "melanin": traits.melanin,
        "age_share": traits.age,
        "occluded": scene.occluder is not None,
        "generator": GENERATOR_VERSION,
    }


def _check_index(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise ValueError(f"{name} {value}: this data set has 0 to {count - 1}")
