"""What an example consists of, once its records are read: labels, augmented pictures, AU centres."""

import zlib
from typing import Any

import numpy as np

from data_pipelines import mixture, pictures, transforms, views
from data_pipelines.plans import Plan
from data_pipelines.records import ABSENT, OCCURS, Records
from jaxau import facs
from jaxau.config import Augment, Config
from jaxau.faces.landmarks import au_centers

Batch = dict[str, np.ndarray]

# Separates these draws from all others that use the same seed.
_AUGMENT_STREAM = 0xA063


class Labels:
    """Plan, and labels and numbers of its records -> the fields that all views have."""

    def __init__(self, records: Records, config: Config):
        data, manifest = config.data, records.manifest
        self._columns = mixture.columns(data.aus, manifest["aus"])
        self._min_intensity = float(manifest["label_rule"]["min_intensity"])
        self._corpus = facs.corpus_number(data.corpus)

    def __call__(self, plan: Plan, intensity: list[np.ndarray], numbers: list[tuple[int, int, int]]) -> Batch:
        """Of t records: their labels (k,), and their numbers of subject, video and frame."""
        coded_as = mixture.take(np.stack(intensity), self._columns, np.nan)
        coded = np.isfinite(coded_as)
        graded = coded & (coded_as != OCCURS) & (coded_as != ABSENT)
        subject, video, frame = np.array(numbers, np.int32).T
        return {
            "au": (np.where(coded, coded_as, ABSENT) >= self._min_intensity).astype(np.int32),
            "au_mask": coded,
            "intensity": np.where(graded, coded_as, 0).astype(np.float32),
            "intensity_mask": graded,
            "subject": subject,
            "video": video,
            "frame": frame,
            "corpus": np.full(len(numbers), self._corpus, np.int32),
            "mask": plan.mask,
            "record": plan.records.astype(np.int32),
        }


class LoadCached:
    """Plan -> example of the view ``features``, to which ``jaxau.feature_cache`` adds the features."""

    def __init__(self, records: Records, config: Config, stage: str):
        self._records, self._labels = records, Labels(records, config)
        self._variants = config.stages[config.stages[stage].start_from].cache
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]

    def __call__(self, plan: Plan) -> Batch:
        """Labels, numbers, and which variant of the cached features."""
        variant = plan.variant
        if plan.index >= 0:  # one draw for the whole sequence
            variant = int(np.random.default_rng([*self._seed, plan.index]).integers(0, self._variants))
        rows = [self._records.raw(int(record)) for record in plan.records]
        labels = self._labels(plan, *_labels_of(rows))
        return {**labels, "variant": np.array(variant, np.int32)}


class Load:
    """Plan -> example: read, decode, augment, and attach labels."""

    def __init__(self, records: Records, config: Config, stage: str, points: int):
        self._records, self._labels, self._points = records, Labels(records, config), points
        self._image_size = config.data.image_size
        self._options: Augment = config.stages[stage].augment
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]
        self._view, self._flow = config.stages[stage].view, config.stages[stage].flow
        self._loader = config.data.loader
        self._decoded = pictures.decode_to_file(records) if self._loader == "raw" else None

    def __call__(self, plan: Plan) -> Batch:
        """The example in the form of the stage's view; of the loader "device" without pictures."""
        if self._view == "labels":
            rows = [self._records.raw(int(record)) for record in plan.records]
            return views.still(self._labels(plan, *_labels_of(rows)))
        if self._loader == "device":
            return self._without_pictures(plan)
        given = None if self._decoded is None else pictures.opened(self._decoded)
        # Some stand in for others, or fill a window up: those are read and warped once.
        records, places = np.unique(plan.records, return_inverse=True)
        read = [self._records.frame(int(record), given) for record in records]
        landmarks = mixture.to_scheme(np.stack([frame.landmarks for frame in read]), self._points)
        images, points = self._input(plan, [frame.image for frame in read], landmarks, places)
        frames = [read[place] for place in places]
        numbers = [(frame.subject, frame.video, frame.frame) for frame in frames]
        labels = self._labels(plan, [frame.intensity for frame in frames], numbers)
        example = {"image": images[places], "landmarks": points[places], **labels}
        if self._view == "clips":
            return example
        if self._view == "tuples":
            return views.tuple_of(example, self._flow)
        if self._view == "triplets":
            return views.triplet_of(example, plan.triplet_class)
        if self._view == "emotions":
            example["emotion"] = views.emotions_of(self._records.manifest, frames)
        return views.still(example)

    def _input(
        self, plan: Plan, images: list[np.ndarray], landmarks: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Crops and their landmarks as the network's input."""
        alignment, options, side = self._records.manifest["alignment"], self._options, self._image_size
        if plan.index < 0:
            return transforms.evaluation_input(images, landmarks, alignment, options, side, plan.variant)
        rng = np.random.default_rng([*self._seed, plan.index])
        onto = int(places[1]) if self._view == "tuples" and len(images) > 1 else None
        return transforms.augment(images, landmarks, alignment, options, side, rng, onto)

    def _without_pictures(self, plan: Plan) -> Batch:
        """An example to which `pictures.DevicePictures` adds what is drawn here."""
        rows = [self._records.raw(int(record)) for record in plan.records]
        if plan.index < 0:
            drawn = transforms.fixed(self._options, self._image_size, plan.variant)
        else:
            rng = np.random.default_rng([*self._seed, plan.index])
            drawn = transforms.draw(self._options, self._image_size, rng)
        landmarks = mixture.to_scheme(np.stack([row["landmarks"] for row in rows]), self._points)
        alignment = self._records.manifest["alignment"]
        moved = transforms.matrices(landmarks, alignment, self._options, self._image_size, drawn)
        points = transforms.move_points(landmarks, moved, drawn.mirrored)
        example = {"landmarks": points, **self._labels(plan, *_labels_of(rows))}
        example = example if self._view == "clips" else views.still(example)
        return {**example, "draw": np.array(drawn[: pictures.DRAWN], np.float32)}


def _labels_of(rows: list[dict[str, Any]]) -> tuple[list[np.ndarray], list[tuple[int, int, int]]]:
    """Labels, and numbers of subject, video and frame, of records whose pictures are not decoded."""
    numbers = [(int(row["subject"]), int(row["video"]), int(row["frame"])) for row in rows]
    return [row["au_intensity"] for row in rows], numbers


class AddCenters:
    """Batch -> batch with AU centres; for all examples at once, since that is much quicker."""

    def __init__(self, aus: tuple[int, ...]):
        self._aus = aus

    def __call__(self, batch: Batch) -> Batch:
        """With ``au_centers`` and ``au_centers_mask``."""
        landmarks, lead = batch["landmarks"], batch["mask"].shape
        centers = np.zeros((*lead, len(self._aus), 2, 2), np.float32)
        mask = np.zeros((*lead, len(self._aus)), bool)
        present = np.isfinite(landmarks).all((-2, -1))
        centers[present], mask[present] = au_centers(landmarks[present], self._aus)
        return {**batch, "au_centers": centers, "au_centers_mask": mask}
