"""Views of a corpus that are neither stills nor clips: tuples, triplets, labels, emotions, landmarks.

Their batches (b examples) stand in the architecture: `data_pipelines.loader` reads the frames of an example,
and the functions here give it its form.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import sampling
from data_pipelines.plans import Plan, Video
from data_pipelines.protocols import EVERYONE, PROTOCOLS
from data_pipelines.records import Records
from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.emotions import emotions
from data_pipelines.synthetic.triplets import draw_triplets
from jaxau.config import Config
from jaxau.faces.flow import tuple_flow

Batch = dict[str, np.ndarray]


def of_other_corpus(config: Config, name: str) -> Config:
    """The configuration of a stage that sees another corpus, for itself; of AUs it has none."""
    stage = config.stages[name]
    protocol = next((p for p, of in PROTOCOLS.items() if of.corpus == stage.corpus), EVERYONE)
    data = dataclasses.replace(
        config.data,
        corpus=stage.corpus,
        protocol=protocol,
        fold=1,
        fold_seed=0,
        frames="all",
        fraction=1.0,
        aus=(),
    )
    # Nobody is held back: a whole set of pictures counts as one subject there.
    stages = {name: dataclasses.replace(stage, corpus="")}
    return dataclasses.replace(config, data=data, stages=stages, selection="conventional")


def still(batch: Batch) -> Batch:
    """A batch of single frames (b, 1, ...) without its axis of time."""
    return {key: value[:, 0] for key, value in batch.items()}


def tuples(manifest: Mapping[str, Any], videos: Sequence[Video], distance: int, part: str) -> list[Plan]:
    """Each frame with the frames ``distance`` before and after it; where there is none, or it cannot be laid
    over the middle one because either has no landmarks, the middle frame stands in, with ``mask`` False.

    How often that is so is said.
    """
    lacking = set(manifest["missing_landmarks"])
    found, absent, unknown = [], 0, 0
    for video in videos:
        for positions, neighbor in sampling.tuples(video.frames, distance):
            records = video.records[positions]
            usable = np.array([not lacking & {int(record), int(records[1])} for record in records])
            usable[1] = True
            absent += int((~neighbor).sum())
            unknown += int((neighbor & ~usable).sum())
            found.append(Plan(np.where(usable, records, records[1]), neighbor & usable))
    logging.log(
        logging.WARNING if unknown else logging.INFO,
        "tuples of the %s subjects of %s: of %d neighbours %d are not there and %d cannot be aligned for "
        "want of landmarks; the middle frame stands in",
        part, manifest["corpus"], 2 * len(found), absent, unknown,
    )  # fmt: skip
    return found


def tuple_of(batch: Batch, flow: bool) -> Batch:
    """Of the frames t-T, t, t+T: all images, and the labels of the middle.

    Args:
      batch: fields (b, 3, ...); ``mask`` (b, 3) is False where the middle frame stands in for a neighbour.
      flow: whether there is a field ``flow``.

    Returns:
      ``image`` (b, 3, h, w, 3), ``neighbor`` (b, 3), ``flow`` (b, h, w, 4) as `tuple_flow`, and all other
      fields of the middle frame.
    """
    middle = {key: value[:, 1] for key, value in batch.items()}
    found = {**middle, "image": batch["image"], "neighbor": batch["mask"]}
    return {**found, "flow": np.stack([tuple_flow(trio) for trio in batch["image"]])} if flow else found


def triplet_of(batch: Batch, plans: Sequence[Plan], mine: bool) -> Batch:
    """Of anchor, positive and negative (b, 3, ...): ``image``, ``record`` (b, 3), ``mask`` (b,), and of the
    plans ``triplet_class`` (b,) and, where the stage mines, ``derived`` (b,): nobody compared these three."""
    derived = {"derived": np.array([plan.derived for plan in plans])} if mine else {}
    return {
        "image": batch["image"],
        "triplet_class": np.array([plan.triplet_class for plan in plans], np.int32),
        **derived,
        "mask": batch["mask"][:, 0],
        "record": batch["record"],
    }


def triplet_plans(manifest: Mapping[str, Any], videos: Sequence[Video], mine: bool, part: str) -> list[Plan]:
    """The triplets of a part of the subjects; of synthetic faces they are drawn, as many as there are frames.

    A share of the frames (``config.data.fraction``) is one of the AU labels, which triplets and emotions do
    not need: all of the people's synthetic faces take part. A triplet one of whose pictures is not there is
    left out, but counts in the chains.

    Args:
      manifest: of the corpus.
      videos: of the subjects of ``part``.
      mine: whether those of `sampling.chained_triplets` are added, and their number said.
      part: "train", "inner" or "test".

    Raises:
      ValueError: the corpus has no triplets; fewer than three synthetic people.
    """
    groups = _triplets(manifest, videos) if videos else []
    found, contradictory = [], 0
    for rows, record_of in groups:
        derived, dropped = sampling.chained_triplets(rows) if mine else (rows[:0], 0)
        contradictory += dropped
        for row, is_derived in [(row, False) for row in rows] + [(row, True) for row in derived]:
            *trio, kind = row.tolist()
            if all(picture in record_of for picture in trio):
                records = np.array([record_of[picture] for picture in trio])
                found.append(Plan(records, np.ones(3, bool), triplet_class=kind, derived=is_derived))
    if mine:
        logging.log(
            logging.WARNING if contradictory else logging.INFO,
            "triplets of the %s subjects of %s: %d are annotated, %d follow from chains of them; %d that "
            "would follow contradict others and are left out",
            part, manifest["corpus"], sum(not plan.derived for plan in found),
            sum(plan.derived for plan in found), contradictory,
        )  # fmt: skip
    return found


def _triplets(
    manifest: Mapping[str, Any], videos: Sequence[Video]
) -> list[tuple[np.ndarray, dict[int, int]]]:
    """Groups of triplets that may share pictures: rows (n, 4) of three numbers of pictures, the odd one last,
    and the class; and number of a picture -> record, of those that are there."""
    if _is_drawn(manifest):
        return [_drawn_triplets(manifest, videos)]
    if "triplets" not in manifest:
        raise ValueError(
            f"the corpus {manifest['corpus']!r} has no triplets: the view needs one that has, such as 'fec'"
        )
    found = []
    for subject, rows in manifest["triplets"].items():
        own = [video for video in videos if video.subject == subject]
        record_of = {
            int(frame): int(record)
            for video in own
            for frame, record in zip(video.frames, video.records, strict=True)
        }
        if own:
            found.append((np.array(rows, np.int64).reshape(-1, 4), record_of))
    return found


def _drawn_triplets(
    manifest: Mapping[str, Any], videos: Sequence[Video]
) -> tuple[np.ndarray, dict[int, int]]:
    """As `_triplets`, where the number of a picture is that of its record."""
    record_of = {
        (*video.key, t): int(record)  # of synthetic faces every frame is there
        for video in videos
        for t, record in enumerate(np.sort(np.concatenate([video.records, video.dropped])))
    }
    fields = [field.name for field in dataclasses.fields(SynthConfig)]
    faces = SynthFaces(SynthConfig(**{name: manifest["generator"][name] for name in fields}))
    drawn = draw_triplets(faces, sorted({video.key[0] for video in videos}), len(record_of))
    trios = [[record_of[tuple(place)] for place in three] for three in drawn.frames.tolist()]
    return np.column_stack([trios, drawn.triplet_class]), {record: record for record in record_of.values()}


def emotion_plans(records: Records, videos: Sequence[Video]) -> list[Plan]:
    """The frames that show an emotion; of synthetic faces all, but for those that show none of the seven."""
    found = [int(record) for video in videos for record in video.records]
    if _is_drawn(records.manifest):
        found = sorted([*found, *(int(record) for video in videos for record in video.dropped)])
        shown = [emotions(records.raw(record)["au_intensity"][None])[0] for record in found]
        found = [record for record, emotion in zip(found, shown, strict=True) if emotion >= 0]
    return [Plan(np.array([record]), np.ones(1, bool)) for record in found]


def emotions_of(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(n,) int32 expression labels of rows of records, -1 = none; of synthetic faces, what their AUs show."""
    if _is_drawn(manifest):
        return emotions(np.stack([row["au_intensity"] for row in rows]))
    return np.array([row.get("emotion", -1) for row in rows], np.int32)


def _is_drawn(manifest: Mapping[str, Any]) -> bool:
    """Whether the corpus is one of `SynthFaces`, whose values are in the manifest."""
    return isinstance(manifest.get("generator"), Mapping)
