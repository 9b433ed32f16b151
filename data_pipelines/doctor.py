"""What is wrong with a corpus, before anything is prepared; and afterwards, by its manifest."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import protocols, records
from data_pipelines.listing import Listed, Remarks, pictures, without_path
from data_pipelines.parts import Remark
from data_pipelines.preparation import Corpus, in_parallel


@dataclass(frozen=True)
class Findings:
    """What a corpus holds.

    Attributes:
      survey: the fields of a manifest that labels alone tell: corpus, aus, folds, subjects (with how often
        each AU is coded and occurs), videos (with frame numbers), over the frames that can be used.
      remarks: (what, reason) -> how many frames, labels or triplets; see `preparation.Remark`.
      problems: why scores will not be comparable, one line each: a protocol that does not fit the subjects,
        and totals that are not the published ones; where none are published, frames that are left out and
        labels outside the code book.
    """

    survey: dict[str, Any]
    remarks: Counter[tuple[str, str]]
    problems: list[str]


@dataclass(frozen=True)
class _Examined:
    subject: str
    name: str
    frames: list[int]
    coded: np.ndarray
    occurs: np.ndarray
    remarks: tuple[Remark, ...]


def examine(corpus: Corpus, raw_dir: Path, labels_only: bool = False, workers: int = 0) -> Findings:
    """Read a corpus as preparation would, without aligning or writing anything.

    Labels are checked against their code book, each picture is decoded, and the owner's landmarks are read;
    faces are not detected, and landmarks that preparation could do without are not missed.

    Args:
      corpus: as it would be prepared; one that is listed, not drawn.
      raw_dir: its folder, whose path no finding may hold.
      labels_only: do not look for pictures and landmarks.
      workers: processes; 0 = all cores.

    Raises:
      ValueError: the corpus is drawn, or files that preparation would refuse.
    """
    if corpus.listed is None:
        raise ValueError(f"--check: {corpus.name} is drawn, there is nothing to look at before; prepare it")
    only_own = corpus.request["landmarks_from"] == "corpus"
    least = corpus.manifest["label_rule"]["min_intensity"]
    work = partial(_examine, corpus.listed, raw_dir, labels_only, only_own, least)
    title = f"{corpus.name}: examining"
    cores = 1 if labels_only else workers or os.cpu_count() or 1
    found = dict(in_parallel(work, range(corpus.parts), cores, title))
    examined = [found[part] for part in sorted(found)]
    survey = _survey(corpus, examined)
    remarks = Counter[tuple[str, str]]()
    for video in examined:
        for remark in video.remarks:
            remarks[remark.what, remark.reason] += len(remark.frames)
    remarks.update(_lost_triplets(corpus.manifest, survey["videos"]))
    return Findings(survey, remarks, _problems(survey, remarks))


def of_manifest(manifest: records.Manifest) -> Findings:
    """The same of records that were made, by what their manifest says."""
    remarks = Counter[tuple[str, str]]()
    for remark in manifest["excluded"] + manifest["substituted"]:
        remarks[remark["what"], remark["reason"]] += remark["count"]
    remarks.update(_lost_triplets(manifest, manifest["videos"]))
    return Findings(manifest, remarks, _problems(manifest, remarks))


def _problems(survey: Mapping[str, Any], remarks: Counter[tuple[str, str]]) -> list[str]:
    problems = protocols.unexpected(survey)
    if any(p.test_frames for p in protocols.PROTOCOLS.values() if p.corpus == survey["corpus"]):
        return problems
    bad = {kind: sum(n for (what, _), n in remarks.items() if what == kind) for kind in ("frame", "label")}
    if bad["frame"]:
        problems.append(f"{bad['frame']} labelled frames cannot be used, see the reasons")
    if bad["label"]:
        problems.append(f"{bad['label']} labels are outside the code book or contradict each other")
    return problems


def _lost_triplets(
    described: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]
) -> Counter[tuple[str, str]]:
    """Triplets that are not used, and why: by their rows, or for want of a face."""
    lost = Counter[tuple[str, str]]()
    for name, rows in described.get("triplets", {}).items():
        there = {frame for video in videos if video["subject_name"] == name for frame in video["frames"]}
        lost["triplet", f"{name}: a face of it cannot be used"] += sum(
            not there.issuperset(trio) for *trio, _ in rows
        )
        for reason, count in described["triplets_dropped"][name].items():
            lost["triplet", f"{name}: {reason}"] += count
    return +lost


def _examine(
    listed_part: Callable[[int], Listed],
    raw_dir: Path,
    labels_only: bool,
    only_own: bool,
    min_intensity: float,
    part: int,
) -> _Examined:
    listed = listed_part(part)
    remarks, usable = Remarks(listed.remarks), listed.usable
    if not usable.all():
        remarks.add("frame", "no valid label", *listed.frames[~usable].tolist())
    positions = np.flatnonzero(usable).tolist()
    if not labels_only:
        positions = []
        for position, _ in pictures(listed, remarks):
            try:
                if listed.landmarks is not None and only_own:
                    listed.landmarks(position)
            except ValueError as error:
                remarks.add("frame", without_path(error, raw_dir), int(listed.frames[position]))
                continue
            if usable[position]:
                positions.append(position)
    labels = listed.intensity[positions]
    return _Examined(
        listed.subject,
        listed.name,
        listed.frames[positions].tolist(),
        np.isfinite(labels).sum(0),
        (np.where(np.isfinite(labels), labels, records.ABSENT) >= min_intensity).sum(0),
        remarks.all(listed.name, listed.subject),
    )


def _survey(corpus: Corpus, examined: list[_Examined]) -> dict[str, Any]:
    subjects = {name: {"name": name, "records": 0, "coded": 0, "occurs": 0} for name in corpus.subjects}
    videos = []
    for video in examined:
        of = subjects[video.subject]
        of["records"] += len(video.frames)  # type: ignore[operator]
        of["coded"] = of["coded"] + video.coded  # type: ignore[operator]
        of["occurs"] = of["occurs"] + video.occurs  # type: ignore[operator]
        videos.append({"subject_name": video.subject, "video_name": video.name, "frames": video.frames})
    listed = [
        {**of, "coded": np.asarray(of["coded"]).tolist(), "occurs": np.asarray(of["occurs"]).tolist()}
        for of in subjects.values()
    ]
    return {
        "corpus": corpus.name,
        "aus": corpus.manifest["aus"],
        "folds": corpus.manifest.get("folds", {}),
        "subjects": listed,
        "videos": videos,
    }
