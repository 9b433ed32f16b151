"""Batches from plans: records are read, pictures decoded and augmented, and labels attached.

Whole batches at once, because what is done once for a batch costs little for an example, and because each
picture can be warped straight into its place.
"""

import functools
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_pipelines import mixture, pictures, transforms, views
from data_pipelines.expressions import Expressions
from data_pipelines.plans import DrawnPlans, ListedPlans, Plan
from data_pipelines.records import ABSENT, OCCURS, Records
from jaxau import facs
from jaxau.config import Augment, Config
from jaxau.faces.align import ALIGNMENTS
from jaxau.faces.landmarks import au_centers
from jaxau.models import paper

Batch = dict[str, np.ndarray]
Row = dict[str, Any]
MakeBatch = Callable[[Sequence[Plan]], Batch]

# Separates these draws from all others that use the same seed.
_AUGMENT_STREAM = 0xA063


class PlanFor:
    """Global example index -> plan, shuffled anew in each epoch, and what makes a batch of such plans."""

    def __init__(self, plans: DrawnPlans | ListedPlans, load: MakeBatch, seed: Sequence[int]):
        self._plans, self._load, self._seed = plans, load, seed
        self._order = functools.lru_cache(maxsize=4)(self._shuffle)  # a batch may span two epochs

    def _shuffle(self, epoch: int) -> list[int]:
        return np.random.default_rng([*self._seed, epoch]).permutation(len(self._plans)).tolist()

    def __call__(self, index: int) -> tuple[MakeBatch, Plan]:
        """As the class says."""
        epoch, position = divmod(index, len(self._plans))
        return self._load, self._plans(index, self._order(epoch)[position])


def load_batch(chosen: Sequence[tuple[MakeBatch, Plan]]) -> Batch:
    """A batch of plans, perhaps of several corpora."""
    loads = list({id(load): load for load, _ in chosen}.values())
    if len(loads) == 1:
        return loads[0]([plan for _, plan in chosen])
    batch: Batch = {}
    for load in loads:
        rows = [i for i, (own, _) in enumerate(chosen) if own is load]
        for name, values in load([chosen[i][1] for i in rows]).items():
            if name not in batch:
                batch[name] = np.empty((len(chosen), *values.shape[1:]), values.dtype)
            batch[name][rows] = values
    return batch


class Labels:
    """Plans and their rows of records -> the fields that all views have, (b, t, ...)."""

    def __init__(self, records: Records, config: Config):
        data, manifest = config.data, records.manifest
        self._columns = mixture.columns(data.aus, manifest["aus"])
        self._min_intensity = float(manifest["label_rule"]["min_intensity"])
        self._corpus = facs.corpus_number(data.corpus)

    def __call__(self, plans: Sequence[Plan], rows: Sequence[Sequence[Row]]) -> Batch:
        """Labels (b, t, k), numbers of subject, video and frame (b, t)."""
        coded_as = np.stack([[row["au_intensity"] for row in example] for example in rows])
        coded_as = mixture.take(coded_as, self._columns, np.nan)
        coded = np.isfinite(coded_as)
        graded = coded & (coded_as != OCCURS) & (coded_as != ABSENT)
        numbers = {
            name: np.array([[row[name] for row in example] for example in rows], np.int32)
            for name in ("subject", "video", "frame")
        }
        return {
            "au": (np.where(coded, coded_as, ABSENT) >= self._min_intensity).astype(np.int32),
            "au_mask": coded,
            "intensity": np.where(graded, coded_as, 0).astype(np.float32),
            "intensity_mask": graded,
            **numbers,
            "corpus": np.full(coded.shape[:2], self._corpus, np.int32),
            "mask": np.stack([plan.mask for plan in plans]),
            "record": np.stack([plan.records for plan in plans]).astype(np.int32),
        }


def _read(records: Records, plan: Plan) -> list[Row]:
    return [records.raw(record) for record in plan.records.tolist()]


class LoadCached:
    """Plans -> batch of the view ``features``, to which ``jaxau.feature_cache`` adds the features."""

    def __init__(self, records: Records, config: Config, stage: str):
        self._records, self._labels = records, Labels(records, config)
        self._variants = config.stages[config.stages[stage].start_from].cache
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]

    def __call__(self, plans: Sequence[Plan]) -> Batch:
        """Labels, numbers, and which variant of the cached features."""
        rows = [_read(self._records, plan) for plan in plans]
        variants = [self._variant(plan) for plan in plans]
        return {**self._labels(plans, rows), "variant": np.array(variants, np.int32)}

    def _variant(self, plan: Plan) -> int:
        if plan.index < 0:
            return plan.variant
        # One draw for the whole sequence.
        return int(np.random.default_rng([*self._seed, plan.index]).integers(0, self._variants))


class Load:
    """Plans -> batch in the form of the stage's view; of the loader "device" without pictures."""

    def __init__(self, records: Records, config: Config, stage: str, points: int):
        self._records, self._labels, self._points = records, Labels(records, config), points
        self._image_size, self._alignment = config.data.image_size, records.manifest["alignment"]
        self._options: Augment = config.stages[stage].augment
        self._resize_to = self._options.resize_to or self._image_size
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]
        of = config.stages[stage]
        self._view, self._flow, self._mine = of.view, of.flow, of.mine_triplets
        self._loader = config.data.loader
        self._decoded = pictures.decode_to_file(records) if self._loader == "raw" else None
        known = paper(config.name).stages
        asks = stage in known and "expression" in known[stage].inputs
        self._expressions = Expressions(records) if asks else None
        self._own = threading.local()  # of each thread: where it decodes a picture

    def __call__(self, plans: Sequence[Plan]) -> Batch:
        """A batch of b = len(plans)."""
        if self._view == "labels":
            return views.still(self._labels(plans, [_read(self._records, plan) for plan in plans]))
        # In phases, since a processor is quicker at one thing many times.
        rows = [_read(self._records, plan) for plan in plans]
        drawn = [self._draw(plan) for plan in plans]
        landmarks = mixture.to_scheme(
            np.stack([[row["landmarks"] for row in example] for example in rows]), self._points
        )
        moved = np.stack([self._matrices(*of) for of in zip(plans, landmarks, drawn, strict=True)])
        mirrored = np.array([of.mirrored for of in drawn])
        batch = self._labels(plans, rows)
        batch["landmarks"] = transforms.move_points(landmarks, moved, mirrored)
        if self._expressions is not None:
            batch |= self._expressions(batch["record"], mirrored)
        if self._loader == "device":
            batch["draw"] = np.array([of[: pictures.DRAWN] for of in drawn], np.float32)
        else:
            side = self._image_size
            batch["image"] = np.empty((*batch["record"].shape, side, side, 3), np.uint8)
            for plan, example, *of in zip(plans, rows, moved, drawn, batch["image"], strict=True):
                self._fill(plan, example, *of)
        return self._in_form(plans, rows, batch)

    def _in_form(self, plans: Sequence[Plan], rows: Sequence[Sequence[Row]], batch: Batch) -> Batch:
        """The batch (b, t, ...) in the form of the view."""
        if self._view == "clips":
            return batch
        if self._view == "tuples":
            return views.tuple_of(batch, self._flow)
        if self._view == "triplets":
            return views.triplet_of(batch, plans, self._mine)
        if self._view == "emotions":
            batch["emotion"] = views.emotions_of(self._records.manifest, [row for (row,) in rows])[:, None]
        if self._view == "landmarks":  # a face without any has nothing to teach, and is not counted
            batch["mask"] = batch["mask"] & np.isfinite(batch["landmarks"]).all((-2, -1))
        draws = {"draw": batch.pop("draw")} if "draw" in batch else {}
        return {**views.still(batch), **draws}

    def _draw(self, plan: Plan) -> transforms.Draw:
        if plan.index < 0:
            return transforms.fixed(self._options, self._image_size, plan.variant)
        rng = np.random.default_rng([*self._seed, plan.index])
        return transforms.draw(self._options, self._image_size, rng)

    def _onto(self, plan: Plan) -> int | None:
        # Where the middle frame stands in for both neighbours, it may have no landmarks.
        return 1 if self._view == "tuples" and plan.index >= 0 and len({*plan.records.tolist()}) > 1 else None

    def _matrices(self, plan: Plan, landmarks: np.ndarray, drawn: transforms.Draw) -> np.ndarray:
        sides = self._resize_to, self._image_size
        return transforms.matrices(landmarks, self._alignment, *sides, drawn, self._onto(plan))

    def _fill(
        self, plan: Plan, rows: Sequence[Row], moved: np.ndarray, drawn: transforms.Draw, out: np.ndarray
    ) -> None:
        """Put the pictures of an example into its place (t, h, w, 3)."""
        records = plan.records.tolist()
        first = [records.index(record) for record in records]
        read = sorted({*first})  # what stands in for another, or fills a window up, is decoded once
        images = (self._picture(records[i], rows[i]) for i in read)
        is_plain = not (drawn.moves or ALIGNMENTS[self._alignment].fitted or self._onto(plan) is not None)
        place = out if len(read) == len(out) else np.empty((len(read), *out.shape[1:]), np.uint8)
        transforms.fill(images, None if is_plain else moved[read], self._resize_to, drawn, place)
        if place is not out:
            out[:] = place[np.searchsorted(read, first)]

    def _picture(self, record: int, row: Row) -> np.ndarray:
        if self._decoded is not None:
            given: np.ndarray = pictures.opened(self._decoded)[record]
            return given
        if not hasattr(self._own, "buffer"):
            self._own.buffer = np.empty(self._records.shape, np.uint8)
        return self._records.picture(record, row, self._own.buffer)


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
