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


def triplet_of(batch: Batch, triplet_class: np.ndarray) -> Batch:
    """Of anchor, positive and negative (b, 3, ...): ``image``, ``triplet_class`` and ``mask`` (b,), and "
    "``record`` (b, 3)."""
    return {
        "image": batch["image"],
        "triplet_class": triplet_class,
        "mask": batch["mask"][:, 0],
        "record": batch["record"],
    }


def triplets(
    manifest: Mapping[str, Any], videos: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> list[tuple[int, int, int, int]]:
    """The triplets all of whose pictures there are.

    Args:
      manifest: with ``triplets``: subject -> rows of frame numbers (anchor, positive, negative) and class.
      videos: subject, (n,) frame numbers and (n,) records of each.

    Returns:
      Records of anchor, positive and negative, and the class.

    Raises:
      ValueError: the corpus has no triplets.
    """
    if "triplets" not in manifest:
        raise ValueError(
            f"the corpus {manifest['corpus']!r} has no triplets: the view needs one that has, such as 'fec'"
        )
    record_of = {
        (subject, int(frame)): int(record)
        for subject, frames, records in videos
        for frame, record in zip(frames, records, strict=True)
    }
    found = []
    for subject, rows in manifest["triplets"].items():
        for *trio, kind in rows:
            records = [record_of.get((subject, frame)) for frame in trio]
            anchor, positive, negative = records
            if anchor is not None and positive is not None and negative is not None:
                found.append((anchor, positive, negative, int(kind)))
    return found


def triplet_plans(manifest: Mapping[str, Any], videos: Sequence[Video]) -> list[Plan]:
    """The triplets of a part of the subjects; of synthetic faces they are drawn, as many as there are frames.

    A share of the frames (``config.data.fraction``) is one of the AU labels, which triplets do not need: all
    of the people's synthetic faces take part.

    Raises:
      ValueError: the corpus has no triplets; fewer than three synthetic people.
    """
    if _is_drawn(manifest):
        found = _drawn_triplets(manifest, videos) if videos else []
    else:
        found = triplets(manifest, [(video.subject, video.frames, video.records) for video in videos])
    return [Plan(np.array(trio), np.ones(3, bool), triplet_class=kind) for *trio, kind in found]


def _drawn_triplets(manifest: Mapping[str, Any], videos: Sequence[Video]) -> list[tuple[int, int, int, int]]:
    record_of = {
        (*video.key, t): int(record)  # of synthetic faces every frame is there
        for video in videos
        for t, record in enumerate(np.sort(np.concatenate([video.records, video.dropped])))
    }
    fields = [field.name for field in dataclasses.fields(SynthConfig)]
    faces = SynthFaces(SynthConfig(**{name: manifest["generator"][name] for name in fields}))
    drawn = draw_triplets(faces, sorted({video.key[0] for video in videos}), len(record_of))
    return [
        (record_of[tuple(anchor)], record_of[tuple(positive)], record_of[tuple(negative)], int(kind))
        for (anchor, positive, negative), kind in zip(
            drawn.frames.tolist(), drawn.triplet_class.tolist(), strict=True
        )
    ]


def emotion_plans(records: Records, videos: Sequence[Video]) -> list[Plan]:
    """The frames that show an emotion; of synthetic faces, some show none of the seven."""
    found = [int(record) for video in videos for record in video.records]
    if _is_drawn(records.manifest):
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
