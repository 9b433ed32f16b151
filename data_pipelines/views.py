"""Views of a corpus that are neither stills nor clips: tuples, triplets, labels, emotions, landmarks.

Their batches (b examples) stand in the architecture: `data_pipelines.loader` reads the frames of an example,
and the functions here give it its form.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from data_pipelines.plans import Plan, Video
from data_pipelines.protocols import EVERYONE, PROTOCOLS
from data_pipelines.records import Frame, Records
from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.emotions import emotions
from data_pipelines.synthetic.triplets import draw_triplets
from jaxau.config import Config
from jaxau.faces.landmarks import five_points

Example = dict[str, np.ndarray]

_GREY = (128, 128, 128)  # as outside of aligned crops


def of_other_corpus(config: Config, name: str) -> Config:
    """The configuration of a stage that sees another corpus, for itself; of AUs it has none."""
    stage = config.stages[name]
    protocol = next((p for p, of in PROTOCOLS.items() if of.corpus == stage.corpus), EVERYONE)
    data = dataclasses.replace(
        config.data, corpus=stage.corpus, protocol=protocol, fold=1, fold_seed=0, frames="all", aus=()
    )
    # Nobody is held back: a whole set of pictures counts as one subject there.
    stages = {name: dataclasses.replace(stage, corpus="")}
    return dataclasses.replace(config, data=data, stages=stages, selection="conventional")


def still(example: Example) -> Example:
    """An example of one frame without its axis of time."""
    return {key: value[0] for key, value in example.items()}


def tuple_of(example: Example) -> Example:
    """Of the frames t-T, t, t+T: all images, and the labels of the middle.

    Args:
      example: fields (3, ...); ``mask`` (3,) is False where the middle frame stands in for a neighbour.

    Returns:
      ``image`` (3, h, w, 3), ``neighbor`` (3,), and all other fields of the middle frame.
    """
    middle = {key: value[1] for key, value in example.items()}
    return {**middle, "image": example["image"], "neighbor": example["mask"]}


def triplet_of(example: Example, triplet_class: int) -> Example:
    """Of anchor, positive and negative: ``image`` (3, h, w, 3), ``triplet_class``, ``mask``, ``record`` "
    "(3,)."""
    return {
        "image": example["image"],
        "triplet_class": np.array(triplet_class, np.int32),
        "mask": example["mask"][0],
        "record": example["record"],
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

    Raises:
      ValueError: the corpus has no triplets; fewer than three synthetic people.
    """
    if "generator" in manifest:
        found = _drawn_triplets(manifest, videos) if videos else []
    else:
        found = triplets(manifest, [(video.subject, video.frames, video.records) for video in videos])
    return [Plan(np.array(trio), np.ones(3, bool), triplet_class=kind) for *trio, kind in found]


def _drawn_triplets(manifest: Mapping[str, Any], videos: Sequence[Video]) -> list[tuple[int, int, int, int]]:
    record_of = {
        (*video.key, int(frame)): int(record)
        for video in videos
        for frame, record in zip(video.frames, video.records, strict=True)
    }
    fields = [field.name for field in dataclasses.fields(SynthConfig)]
    faces = SynthFaces(SynthConfig(**{name: manifest["generator"][name] for name in fields}))
    drawn = draw_triplets(faces, sorted({video.key[0] for video in videos}), len(record_of))
    found = []
    for trio, kind in zip(drawn.frames.tolist(), drawn.triplet_class.tolist(), strict=True):
        records = [record_of.get((subject, clip, t)) for subject, clip, t in trio]
        anchor, positive, negative = records
        if anchor is not None and positive is not None and negative is not None:
            found.append((anchor, positive, negative, int(kind)))
    return found


def emotion_plans(records: Records, videos: Sequence[Video]) -> list[Plan]:
    """The frames that show an emotion; of synthetic faces, some show none of the seven."""
    found = [int(record) for video in videos for record in video.records]
    if "generator" in records.manifest:
        shown = [emotions(records.raw(record)["au_intensity"][None])[0] for record in found]
        found = [record for record, emotion in zip(found, shown, strict=True) if emotion >= 0]
    return [Plan(np.array([record]), np.ones(1, bool)) for record in found]


def emotions_of(manifest: Mapping[str, Any], frames: Sequence[Frame]) -> np.ndarray:
    """(t,) int32 expression labels of frames; of synthetic faces, what their AUs show."""
    if "generator" in manifest:
        return emotions(np.stack([frame.intensity for frame in frames]))
    return np.array([frame.emotion for frame in frames], np.int32)


def align_to_middle(images: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the faces of neighbours over that of the middle frame, by their five points (AUNet's public code).

    Args:
      images: (3, s, s, 3) uint8.
      landmarks: (3, p, 2) pixels; a frame without (NaN), or a middle frame without, stays as it is.

    Returns:
      Both, the first and the last frame moved by the similarity that carries their five points as closely as
      possible to those of the middle one (least squares).
    """
    images, landmarks = images.copy(), landmarks.copy()
    present = np.isfinite(landmarks).all((1, 2))
    for i in (0, 2):
        if not (present[i] and present[1]):
            continue
        matrix = _similarity(five_points(landmarks[i]), five_points(landmarks[1]))
        size = images.shape[2], images.shape[1]
        images[i] = cv2.warpAffine(
            images[i], matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_GREY
        )
        landmarks[i] = landmarks[i] @ matrix[:, :2].T + matrix[:, 2]
    return images, landmarks


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) least-squares rotation, scale and shift of points (p, 2); as complex numbers: target = a "
    "source + b."""
    z, w = (np.ascontiguousarray(points, np.float64).view(complex)[:, 0] for points in (source, target))
    centered = z - z.mean()
    a = np.vdot(centered, w - w.mean()) / np.vdot(centered, centered).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
