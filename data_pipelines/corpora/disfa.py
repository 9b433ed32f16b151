"""DISFA (Mavadati et al., 2013) from the folder that its owner ships.

Three of its folders are read, for subjects SN001 to SN032 (27 people, one video each)::

    ActionUnit_Labels/SN001/SN001_au1.txt     lines "frame,intensity", frames from 1, intensity 0 to 5
    Videos_LeftCamera/LeftVideoSN001_comp.avi
    Landmark_Points/SN001/tmp_frame_lm/SN001_0000_lm.mat    frame 1: these names count from 0
    Landmark_Points/SN010/tmp_frame_lm/l00001_lm.mat        frame 1: these count from 1

Frame numbers in the records are those of the label files. Landmarks are 66 points, the variable ``pts``.
Their origin is stated nowhere; they are taken as MATLAB's pixels, which count from 1, as JAA-Net's public
code takes them [choice]: 1 is subtracted. In an aligned crop this is a shift of about half a pixel.

A frame without a row in any label file, without a readable landmark file, or without a picture is left
out. A label that is missing in one file alone, or outside 0 to 5, is masked. Both are counted in the
manifest, with the reason.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io

from data_pipelines.face_source import FaceSource
from data_pipelines.listing import Listed, Remarks, corpus_of, not_as_shipped
from data_pipelines.preparation import Corpus
from jaxau import facs

_AUS = facs.DISFA_CODED_AUS
_POINTS = 66
_FPS = 20.0
_MIN_INTENSITY = 2.0  # every paper here counts an AU as present from intensity 2 on

_LABELS, _VIDEOS, _LANDMARKS = "ActionUnit_Labels", "Videos_LeftCamera", "Landmark_Points"
_PATTERNS = {
    _LABELS: (re.compile(r"(SN\d{3})/\1_au\d+\.txt"), "SN001/SN001_au1.txt ..."),
    _VIDEOS: (re.compile(r"LeftVideo(SN\d{3})_comp\.avi"), "LeftVideoSN001_comp.avi ..."),
    _LANDMARKS: (
        re.compile(r"(SN\d{3})/(?:.+/)?(?:\1_\d{4}|l0\d{4})_lm\.mat"),
        "SN001/tmp_frame_lm/SN001_0000_lm.mat or l00001_lm.mat ...",
    ),
}

# The distribution lacks one file; public code takes the one of the frame before, and so the corpus keeps
# its 130,814 frames.
_SAME_LANDMARKS = {("SN031", 3631): 3630}


def corpus(raw_dir: Path | str, alignment: str, faces: FaceSource | None = None) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of DISFA.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks in place of the owner's.

    Raises:
      ValueError: unknown alignment, no DISFA in ``raw_dir``, or subjects of whom labels, video or
        landmarks are missing altogether; lists them all.
    """
    names = _find_subjects(Path(raw_dir))
    return corpus_of(
        "disfa",
        Path(raw_dir),
        [(name, name) for name in names],
        _read,
        alignment=alignment,
        faces=faces,
        points=_POINTS,
        about={
            "description": f"DISFA, left camera, {len(names)} subjects",
            "licence": "DISFA: for research, under the agreement that each laboratory has with its owner",
            "fps": _FPS,
            "aus": list(_AUS),
            "label_rule": {"min_intensity": _MIN_INTENSITY},
        },
    )


def _read(raw_dir: Path, name: str, _: str) -> Listed:
    remarks = Remarks()
    labels = _read_labels(raw_dir / _LABELS / name, name, remarks)
    frames = np.array(sorted(labels), np.int32)
    files = _landmark_files(raw_dir / _LANDMARKS / name, name)
    sources = {int(frame): int(frame) for frame in frames}
    for (subject, frame), source in _SAME_LANDMARKS.items():
        if subject == name and frame in sources and frame not in files:
            sources[frame] = source
            remarks.add("landmarks", f"no landmark file in the distribution; frame {source}'s", frame)

    def landmarks(position: int) -> np.ndarray:
        return _read_landmarks(files[sources[int(frames[position])]])

    return Listed(
        name,
        name,
        frames,
        np.array([labels[int(frame)] for frame in frames], np.float32).reshape(-1, len(_AUS)),
        raw_dir / _VIDEOS / f"LeftVideo{name}_comp.avi",
        indices=frames - 1,
        landmarks=landmarks,
        unlabelled="no row in any label file",
        remarks=remarks.all(),
    )


def _find_subjects(raw_dir: Path) -> list[str]:
    """Names of the subjects of whom there are labels, a video and landmarks."""
    found: dict[str, set[str]] = {}
    for folder, (pattern, _) in _PATTERNS.items():
        found[folder] = {m[1] for path in _files(raw_dir / folder) if (m := pattern.fullmatch(path))}
    names = set.union(*found.values())
    if not all(found.values()):
        looked_for = "; ".join(
            f"{folder}/{example} ({len(found[folder])} subjects)"
            for folder, (_, example) in _PATTERNS.items()
        )
        raise not_as_shipped(raw_dir, "DISFA", looked_for)
    lacking = [
        f"{name}: no {folder}" for name in sorted(names) for folder in found if name not in found[folder]
    ]
    if lacking:
        raise ValueError(
            f"--raw_dir={raw_dir}: each subject needs labels, video and landmarks. {'; '.join(lacking)}. "
            "Copy what is missing, or take these subjects out of the other folders"
        )
    return sorted(names)


def _files(folder: Path) -> Iterator[str]:
    """Paths of all files in ``folder``, relative to it, with '/'."""
    for parent, _, files in os.walk(folder):
        below = Path(parent).relative_to(folder)
        for file in files:
            yield (below / file).as_posix()


def _read_labels(folder: Path, name: str, remarks: Remarks) -> dict[int, np.ndarray]:
    """Frame number -> (k,) float32 intensities, NaN where masked; frames with a row in any file."""
    rows: dict[int, dict[int, float]] = {}
    for au in _AUS:
        path = folder / f"{name}_au{au}.txt"
        if path.is_file():
            rows[au] = _read_label_file(path, au, remarks)
    frames = sorted(set().union(*rows.values()))
    labels = {frame: np.full(len(_AUS), np.nan, np.float32) for frame in frames}
    for column, au in enumerate(_AUS):
        if au not in rows:
            remarks.add("label", f"not coded: no file {name}_au{au}.txt", *frames, au=au)
            continue
        for frame in frames:
            if frame in rows[au]:
                labels[frame][column] = rows[au][frame]
            else:
                remarks.add("label", f"no row in {name}_au{au}.txt", frame, au=au)
    return labels


def _read_label_file(path: Path, au: int, remarks: Remarks) -> dict[int, float]:
    """Frame number -> intensity, NaN where the file's row cannot be used."""
    found: dict[int, float] = {}
    for line_number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        frame_text, _, intensity_text = line.partition(",")
        try:
            frame = int(frame_text)
        except ValueError:
            reason = f"line {line_number} of {path.name} is {line[:40]!r}, not frame,intensity"
            remarks.add("label", reason, au=au)
            continue
        try:
            intensity = float(intensity_text)
        except ValueError:
            intensity = np.nan
        if frame in found:
            remarks.add("label", f"more than one row in {path.name}", frame, au=au)
            intensity = np.nan
        elif not 0 <= intensity <= 5:
            reason = f"intensity {intensity_text.strip()[:40]!r} in {path.name}, must be 0 to 5"
            remarks.add("label", reason, frame, au=au)
            intensity = np.nan
        found[frame] = intensity
    return found


def _landmark_files(folder: Path, name: str) -> dict[int, list[Path]]:
    """Frame number -> its landmark files, in whatever sub-folder and with either name; none is []."""
    found: dict[int, list[Path]] = defaultdict(list)
    for relative in sorted(_files(folder)):
        file = Path(relative).name
        if match := re.fullmatch(rf"{name}_(\d{{4}})_lm\.mat", file):
            found[int(match[1]) + 1].append(folder / relative)
        elif match := re.fullmatch(r"l0(\d{4})_lm\.mat", file):
            found[int(match[1])].append(folder / relative)
    return found


def _read_landmarks(paths: list[Path]) -> np.ndarray:
    """(66, 2) pixels, (0, 0) being the centre of the first; ValueError with a reason if there are none."""
    if not paths:
        raise ValueError("no landmark file")
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} landmark files: one is needed")
    if not paths[0].stat().st_size:
        raise ValueError("the landmark file is empty")
    try:
        content = scipy.io.loadmat(paths[0], variable_names=["pts"])
    except Exception as error:  # SciPy raises errors of almost any kind on a damaged file
        raise ValueError(f"the landmark file cannot be read ({type(error).__name__}: {error})") from error
    if "pts" not in content:
        raise ValueError("the landmark file has no variable 'pts'")
    points = content["pts"]
    if points.shape != (_POINTS, 2) or points.dtype.kind not in "fiu":
        raise ValueError(f"landmarks of shape {points.shape}, must be ({_POINTS}, 2) numbers")
    return points.astype(np.float64) - 1
