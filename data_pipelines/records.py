"""Prepared data sets: the features of a record, random access to records, and the manifest.

A data set is the folder ``<data_dir>/<corpus>``: ArrayRecord shards written by a TFDS builder, and
``manifest.json``, which says what they hold:

- ``corpus``, ``synthetic``, ``description``, ``licence``, ``fps``, ``request`` (the arguments that it
  was made with), and ``generator`` of drawn faces;
- ``excluded``: frames left out (``what``: "frame"; "uncoded" where nobody labelled them), labels of kept
  frames that are masked ("label", of the AUs in ``aus``) and intensities of which the occurrence alone is
  kept ("intensity"), each ``{"subject", "what", "aus", "reason", "count", "frames"}`` with frame numbers as
  [first, last] pairs; ``substituted``: alike, frames kept with another frame's landmarks;
- ``landmarks`` (number of points), ``without_centers`` (AUs whose places on the face these points do not
  tell: with 5 points all), ``alignment``, ``aus`` (columns of the labels), ``label_rule``;
- ``folds``: subject lists of protocols that are drawn and not published;
- ``attributes``, where the corpus tells: subject -> attribute -> value, such as "sex" -> "female", for scores
  by group;
- what `summarize` finds in the records: ``hash``, ``counts``, ``subjects``, ``videos``,
  ``base_rates``, ``missing_labels`` and ``missing_landmarks``.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxau import files
from jaxau.faces.align import ALIGNMENTS

Manifest = dict[str, Any]

MANIFEST = "manifest.json"
_JPEG_QUALITY = 95
OCCURS, ABSENT = 6.0, -1.0
"""In the place of an intensity of 0 to 5: the AU occurs, or does not, and nobody coded how much."""

SPLIT = "frames"
"""The one TFDS split; subjects are divided by a protocol, not on disk."""


def features(alignment: str, landmarks: int, aus: int, emotion: bool = False) -> tfds.features.FeaturesDict:
    """The features of one record: an aligned face with its labels.

    ``image`` JPEG bytes of the (s, s, 3) crop; ``landmarks`` (p, 2) float32 pixels of the crop, NaN
    where a face has none; ``au_intensity`` (k,) float32 from 0 to 5, NaN where an AU is not coded, `OCCURS`
    or `ABSENT` where its occurrence alone is;
    ``subject``, ``video`` and ``frame`` int32; ``emotion`` int32 where the corpus has expressions.
    """
    size = ALIGNMENTS[alignment].size
    return tfds.features.FeaturesDict(
        {
            **({"emotion": np.int32} if emotion else {}),
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg"),
            "landmarks": tfds.features.Tensor(shape=(landmarks, 2), dtype=np.float32),
            "au_intensity": tfds.features.Tensor(shape=(aus,), dtype=np.float32),
            "subject": np.int32,
            "video": np.int32,
            "frame": np.int32,
        }
    )


def encode(crop: np.ndarray) -> bytes:
    """JPEG bytes of an aligned crop (s, s, 3) uint8 RGB, as the records hold it."""
    return simplejpeg.encode_jpeg(crop, quality=_JPEG_QUALITY)


def read_manifest(data_dir: Path | str, corpus: str) -> Manifest:
    """Read ``<data_dir>/<corpus>/manifest.json``.

    Raises:
      ValueError: no data set there; the message names the command that prepares it.
    """
    path = Path(data_dir) / corpus / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{path.parent}: holds no prepared data set (no {MANIFEST}); prepare it with "
            f"`python -m launch.prepare --corpus={corpus} --data_dir={data_dir}`"
        )
    manifest: Manifest = files.read_json(path)
    return manifest


def manifests(data_dir: Path | str) -> dict[str, Manifest]:
    """The manifests of all data sets in a folder, by corpus."""
    found = sorted(path.parent.name for path in Path(data_dir).glob(f"*/{MANIFEST}"))
    return {corpus: read_manifest(data_dir, corpus) for corpus in found}


@dataclass(frozen=True)
class Frame:
    """One decoded record.

    Attributes:
      image: (s, s, 3) uint8 RGB, aligned.
      landmarks: (p, 2) float32 pixels of ``image``, NaN where the face has none.
      intensity: (k,) float32, NaN where not coded; `OCCURS` and `ABSENT` where occurrence alone is.
      subject: number of the subject in the manifest.
      video: number of the video within the subject.
      frame: number of the frame within the video.
      emotion: expression label; -1 where the corpus has none.
    """

    image: np.ndarray
    landmarks: np.ndarray
    intensity: np.ndarray
    subject: int
    video: int
    frame: int
    emotion: int = -1


class Records:
    """Random access to the records of a prepared data set.

    TFDS finds the records and opens their files anew in another process. It would also parse them, in a
    seventh of the time that decoding the JPEG takes; `raw` is three times as quick.
    """

    def __init__(self, data_dir: Path | str, corpus: str):
        self.manifest = read_manifest(data_dir, corpus)
        self.data_dir = Path(data_dir)
        self.folder = self.data_dir / corpus
        self._source = self._open()
        self._features = self._source.dataset_info.features.get_serialized_info()
        videos = self.manifest["videos"]
        listed = sum(len(video["frames"]) for video in videos)
        if listed != len(self):
            raise ValueError(
                f"{self.folder}: the manifest lists {listed} frames, the records hold "
                f"{len(self)}; labels and frames must match one to one, {self._remedy()}"
            )
        columns = self._source[0]["au_intensity"].shape[0] if len(self) else 0
        if columns != len(self.manifest["aus"]):
            raise ValueError(
                f"{self.folder}: the manifest lists {len(self.manifest['aus'])} AUs, the records "
                f"hold {columns} intensities; they must be as many, {self._remedy()}"
            )

    def _open(self) -> Any:
        versions = sorted(path.parent for path in self.folder.glob("*/dataset_info.json"))
        if len(versions) != 1:
            raise ValueError(
                f"{self.folder}: expected the shards of one version, found {len(versions)}; {self._remedy()}"
            )
        builder = tfds.builder_from_directory(versions[0])
        return builder.as_data_source(split=SPLIT, decoders={"image": tfds.decode.SkipDecoding()})

    def _remedy(self) -> str:
        return (
            f"delete {self.folder} and prepare it again with `python -m launch.prepare "
            f"--corpus={self.folder.name} --data_dir={self.data_dir}`"
        )

    def __len__(self) -> int:
        return len(self._source)

    def raw(self, index: int) -> dict[str, Any]:
        """The features of a record (see `features`), the image still encoded."""
        stored = tf_example_pb2.Example.FromString(self._source.data_source[index]).features.feature
        return {name: _value(stored[name], known) for name, known in self._features.items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of each picture."""
        size = ALIGNMENTS[self.manifest["alignment"]].size
        return size, size, 3

    def picture(self, index: int, record: Mapping[str, Any], buffer: np.ndarray | None = None) -> np.ndarray:
        """Decode the picture of a record.

        Args:
          index: of the record.
          record: what `raw` says.
          buffer: array of `shape` to decode into; a new one takes a quarter longer.

        Raises:
          ValueError: the picture cannot be decoded; names record, subject, video and frame.
        """
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(record["image"])
            if (height, width, 3) != self.shape:
                raise ValueError(f"it has {width} x {height} pixels")
            return simplejpeg.decode_jpeg(record["image"], buffer=buffer)
        except ValueError as error:
            name = self.manifest["subjects"][record["subject"]]["name"]
            raise ValueError(
                f"record {index} (subject {name}, video {record['video']}, frame "
                f"{record['frame']}) of {self.folder}: the picture must be a whole JPEG of "
                f"{self.shape[1]} x {self.shape[0]} pixels ({error}); list all such records with `--check`, "
                f"then {self._remedy()}"
            ) from error

    def frame(self, index: int) -> Frame:
        """Decode a record; errors as `picture`."""
        record = self.raw(index)
        return Frame(
            self.picture(index, record),
            record["landmarks"],
            record["au_intensity"],
            int(record["subject"]),
            int(record["video"]),
            int(record["frame"]),
            int(record.get("emotion", -1)),
        )


def _value(stored: Any, known: Any) -> Any:
    """A feature of a tf.Example, as TFDS says that it is."""
    if known.shape == ():
        return getattr(stored, stored.WhichOneof("kind")).value[0]
    return np.array(stored.float_list.value, np.float32).reshape(known.shape)


# What the records mean; a change of any of these makes another data set. Scores by group and redrawn folds
# follow from the attributes; a corpus without them has the hash that it had before there were any.
_MEANING = ("aus", "label_rule", "landmarks", "alignment", "folds")


def summarize(
    source: Any,
    described: Mapping[str, Any],
    subject_names: list[str],
    video_names: Mapping[tuple[int, int], str] = MappingProxyType({}),
) -> Manifest:
    """What the records hold, read from the records themselves.

    Args:
      source: random access to the features of the records, in order of subject, video and frame.
      described: the other fields of the manifest, among them ``aus``, the columns of ``au_intensity``, and
        ``label_rule``, ``{"min_intensity": x}``: an AU occurs from this intensity on.
      subject_names: by subject number.
      video_names: by numbers of subject and video; else made of the subject's name and it.

    Returns:
      The part of the manifest that `check` compares: ``hash`` over every record (picture,
      landmarks, labels, subject, video, frame) and over what they mean (AUs, label rule, alignment, folds,
      attributes of subjects),
      ``counts``, ``subjects`` (records, and per AU how
      often it is coded and occurs), ``videos`` (first record and frame numbers), ``base_rates``
      (None where never coded), ``missing_labels`` per AU, ``missing_landmarks`` (record indices).
    """
    aus, label_rule = described["aus"], described["label_rule"]
    meaning = {key: described.get(key) for key in _MEANING}
    meaning |= {key: described[key] for key in ("attributes", "emotions", "triplets") if key in described}
    digest = hashlib.sha256(json.dumps([meaning, subject_names], sort_keys=True).encode())
    counts = np.zeros(len(subject_names), np.int64)
    coded = np.zeros((len(subject_names), len(aus)), np.int64)
    occurs = np.zeros_like(coded)
    videos: list[dict[str, Any]] = []
    no_landmarks: list[int] = []
    emotions: Counter[int] = Counter()
    for index in range(len(source)):
        record = source[index]
        subject, video, frame = (int(record[key]) for key in ("subject", "video", "frame"))
        digest.update(np.array([index, subject, video, frame], "<i8").tobytes())
        digest.update(record["au_intensity"].astype("<f4").tobytes())
        digest.update(record["landmarks"].astype("<f4").tobytes())
        digest.update(record["image"])
        if "emotion" in record:
            digest.update(np.array(record["emotion"], "<i4").tobytes())
            emotions[int(record["emotion"])] += 1
        counts[subject] += 1
        coded[subject] += np.isfinite(record["au_intensity"])
        occurs[subject] += record["au_intensity"] >= label_rule["min_intensity"]
        if not videos or (videos[-1]["subject"], videos[-1]["video"]) != (subject, video):
            name = subject_names[subject]
            videos.append(
                {
                    "subject": subject,
                    "subject_name": name,
                    "video": video,
                    "video_name": video_names.get((subject, video), f"{name}_{video}"),
                    "start": index,
                    "frames": [],
                }
            )
        videos[-1]["frames"].append(frame)
        if not np.isfinite(record["landmarks"]).all():
            no_landmarks.append(index)
    subjects = [
        {
            "subject": i,
            "name": name,
            "records": int(counts[i]),
            "coded": coded[i].tolist(),
            "occurs": occurs[i].tolist(),
        }
        for i, name in enumerate(subject_names)
    ]
    totals, positives = coded.sum(0), occurs.sum(0)
    return {
        "hash": digest.hexdigest(),
        "counts": {"subjects": len(subjects), "videos": len(videos), "records": len(source)},
        "base_rates": [float(p) / int(n) if n else None for p, n in zip(positives, totals, strict=True)],
        "missing_labels": [len(source) - int(n) for n in totals],
        "missing_landmarks": no_landmarks,
        **({"emotion_counts": [emotions[i] for i in range(max(emotions) + 1)]} if emotions else {}),
        "subjects": subjects,
        "videos": videos,
    }


def check(data_dir: Path | str, corpus: str) -> list[str]:
    """Compare a data set with its manifest, and decode every picture.

    Returns:
      One line per problem; none if all is well.

    Raises:
      ValueError: no data set, or one whose counts contradict its manifest.
    """
    records = Records(data_dir, corpus)
    manifest = records.manifest
    names = [subject["name"] for subject in manifest["subjects"]]
    video_names = {(v["subject"], v["video"]): v["video_name"] for v in manifest["videos"]}
    try:
        found = summarize(records._source, manifest, names, video_names)
    except (RuntimeError, IndexError, ValueError) as error:  # of the reader, in its own words
        return [
            f"{data_dir}/{corpus}: a record cannot be read ({str(error).splitlines()[0][:200]}); the shards "
            "are damaged: move the folder away and prepare the corpus again"
        ]
    problems = [
        f"{key}: the manifest says {_short(manifest[key])}, the records hold {_short(value)}"
        for key, value in found.items()
        if manifest[key] != value
    ]
    for index in range(len(records)):
        try:
            records.frame(index)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
