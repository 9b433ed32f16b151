"""BP4D (Zhang et al., 2014) and BP4D+ (Zhang et al., 2016) from the folders that their owner ships.

::

    AUCoding/AU_OCC/F001_T1.csv               first row "0,1,2,4,...": AU numbers; then a frame's number and
                                              its codes
    AUCoding/AU_INT/AU06/F001_T1_AU06.csv     rows "frame,intensity", no header; may be absent
    Sequences(2D+3D)/F001/T1/0017.jpg         the number zero-padded to any width, which differs between
                                              sequences
    2DFeatures/F001_T1.mat                    49 points of each frame

Codes are 0, 1 and 9 (not coded). The 12 AUs that papers score are kept; the other columns are hardly coded.
Five AUs (6, 10, 12, 14, 17) also have intensities, 0 to 5 and 9 (not coded). Occurrence alone decides what is
coded and what occurs, so that all counts are the same with and without intensities; an intensity that says
otherwise (from 1 on an AU occurs) is not used, and is counted.

Landmarks are MATLAB files of version 7.3 (HDF5): ``fit/pred`` holds references to one (2, 49) array a frame,
counted from 1. Which frame each belongs to is stated nowhere: where there are as many as pictures, they are
taken in the order of the pictures' numbers; else the n-th is taken as that of frame n [choice]. Older .mat
versions are read too, and the folder names of the FERA 2015 copies (``BP4D-fpoints``, ``BP4D-AUCoding``).

BP4D+ has the same layout, coded in tasks T1, T6, T7 and T8; there the picture of frame f is number f - 1. Its
landmarks are read where they are in BP4D's layout; without them a detector is needed.
"""

import csv
import re
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from data_pipelines.face_source import FaceSource
from data_pipelines.listing import (
    OCCURRENCE,
    Landmarks,
    Listed,
    Remarks,
    corpus_of,
    first_folder,
    not_as_shipped,
    numbered_pictures,
    occurrence,
    rows_of,
)
from data_pipelines.preparation import Corpus
from jaxau import facs

_POINTS = 49
_FPS = 25.0
_LABEL_FILE = re.compile(r"([FM]\d{3})_(T\d+)\.csv")
_LABELS = ("AUCoding/AU_OCC", "AU_OCC", "BP4D-AUCoding/AU_OCC", "BP4D-AUCoding", "AUCoding")
_INTENSITIES = ("AUCoding/AU_INT", "AU_INT", "BP4D-AUCoding/AU_INT")
_PICTURES = ("Sequences(2D+3D)", "2D+3D", "Sequences", "BP4D-training", ".")
_LANDMARKS = ("2DFeatures", "BP4D-fpoints")
_LOOKED_FOR = (
    "AUCoding/AU_OCC/F001_T1.csv ..., Sequences(2D+3D)/F001/T1/0001.jpg ..., 2DFeatures/F001_T1.mat ..."
)


def corpus(
    raw_dir: Path | str, alignment: str, faces: FaceSource | None = None, plus: bool = False
) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of BP4D.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks in place of the owner's.
      plus: whether it is BP4D+.

    Raises:
      ValueError: no such corpus in ``raw_dir``.
    """
    raw_dir, name = Path(raw_dir), "BP4D+" if plus else "BP4D"
    videos = sorted(match.groups() for match in map(_LABEL_FILE.fullmatch, _label_files(raw_dir)) if match)
    if not videos:
        raise not_as_shipped(raw_dir, name, _LOOKED_FOR)
    aus = facs.CORPUS_AUS["bp4d"]
    return corpus_of(
        "bp4dplus" if plus else "bp4d",
        raw_dir,
        [(subject, task) for subject, task in videos],
        _read_plus if plus else _read,
        alignment=alignment,
        faces=faces,
        points=_POINTS if first_folder(raw_dir, *_LANDMARKS) else 0,
        about={
            "description": f"{name}, {len({subject for subject, _ in videos})} subjects",
            "licence": f"{name}: for research, under the agreement that each laboratory has with its owner",
            "fps": _FPS,
            "aus": list(aus),
            "label_rule": OCCURRENCE,
        },
        request={"intensities": graded} if (graded := sorted(_intensity_folders(raw_dir))) else None,
    )


def _label_files(raw_dir: Path) -> list[str]:
    folder = first_folder(raw_dir, *_LABELS)
    return [path.name for path in folder.iterdir()] if folder else []


def _read(raw_dir: Path, subject: str, task: str) -> Listed:
    return _list(raw_dir, subject, task, picture_of_frame=0)


def _read_plus(raw_dir: Path, subject: str, task: str) -> Listed:
    return _list(raw_dir, subject, task, picture_of_frame=-1)


def _list(raw_dir: Path, subject: str, task: str, picture_of_frame: int) -> Listed:
    name, remarks = f"{subject}_{task}", Remarks()
    labels = first_folder(raw_dir, *_LABELS)
    assert labels is not None
    frames, intensity = _read_labels(labels / f"{name}.csv", remarks)
    for au, below in _intensity_folders(raw_dir).items():
        column = intensity[:, facs.CORPUS_AUS["bp4d"].index(au)]
        _grade(column, frames.tolist(), au, below / f"{name}_{below.name}.csv", remarks)
    folder = first_folder(raw_dir, *(f"{parent}/{subject}/{task}" for parent in _PICTURES))
    there = numbered_pictures(folder) if folder else {}
    numbers = [int(frame) + picture_of_frame for frame in frames]
    landmarks = _read_landmarks(raw_dir, name, numbers, sorted(there))
    pictures = [there.get(number) for number in numbers]
    return Listed(subject, name, frames, intensity, pictures, landmarks=landmarks, remarks=remarks.all())


def _read_labels(path: Path, remarks: Remarks) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (n,) and (n, k) intensities; what cannot be read is said."""
    with path.open(newline="", errors="replace") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    header = [re.sub(r"^AU0*", "", cell.strip()) for cell in rows[0]] if rows else []
    columns = {int(cell): i for i, cell in enumerate(header) if i and cell.isdecimal()}
    if not columns:
        raise ValueError(
            f"{path.name}: its first row must name AUs (0,1,2,4,...), it is {rows[:1]}; copy it again"
        )
    good: dict[int, list[str]] = {}
    for row in rows[1:]:
        number = row[0].strip()
        if not number.isdecimal() or len(row) != len(header):
            remarks.add("label", f"a row of {path.name} cannot be read: {','.join(row)[:40]!r}")
        elif int(number) in good:
            remarks.add("label", f"more than one row in {path.name}: the first is taken", int(number))
        else:
            good[int(number)] = row
    frames = np.array(sorted(good), np.int32)
    intensity = np.full((len(frames), len(facs.CORPUS_AUS["bp4d"])), np.nan, np.float32)
    for k, au in enumerate(facs.CORPUS_AUS["bp4d"]):
        if au in columns:
            texts = [good[int(frame)][columns[au]] for frame in frames]
            intensity[:, k] = occurrence(texts, au, frames.tolist(), path.name, remarks)
    coded = np.isfinite(intensity).any(1)
    if not coded.all():
        remarks.add("uncoded", "no AU of its row is coded", *frames[~coded].tolist())
    return frames[coded], intensity[coded]


def _intensity_folders(raw_dir: Path) -> dict[int, Path]:
    """AU -> the folder of its intensities."""
    folder = first_folder(raw_dir, *_INTENSITIES)
    found = {path.name: path for path in sorted(folder.iterdir())} if folder else {}
    return {au: found[name] for au in facs.CORPUS_AUS["bp4d"] for name in (f"AU{au:02d}",) if name in found}


def _grade(column: np.ndarray, frames: list[int], au: int, path: Path, remarks: Remarks) -> None:
    """Put intensities from 0 to 5 in the place of occurrence codes that they agree with."""
    if not path.is_file():
        remarks.add("intensity", f"no file AU_INT/{path.parent.name}/{path.name}", *frames, au=au)
        return
    position = {frame: i for i, frame in enumerate(frames)}
    occurs, seen = column >= OCCURRENCE["min_intensity"], set()
    for line in path.read_text(errors="replace").splitlines():
        frame, _, code = (cell.strip().removesuffix(".0") for cell in line.partition(","))
        i = position.get(int(frame)) if frame.isdecimal() else None
        if i is None or code == "9" or np.isnan(column[i]):
            continue  # a row of names, a frame without occurrence codes, or not coded
        if i in seen:
            reason = f"more than one row in {path.name}: the first is taken"
        elif code not in ("0", "1", "2", "3", "4", "5"):
            reason = f"value {code[:40]!r} in {path.name}, must be 0 to 5 or 9"
        elif (int(code) >= OCCURRENCE["min_intensity"]) != occurs[i]:
            reason = "it contradicts the occurrence code, which is kept"
        else:
            reason, column[i] = "", int(code)
        seen.add(i)
        if reason:
            remarks.add("intensity", reason, frames[i], au=au)


def _read_landmarks(raw_dir: Path, name: str, wanted: list[int], there: list[int]) -> Landmarks:
    """Landmarks of the pictures with the numbers ``wanted``; ``there`` are all of the sequence."""
    folder = first_folder(raw_dir, *_LANDMARKS)
    path = folder / f"{name}.mat" if folder else None
    found, problem = np.zeros((0, _POINTS, 2)), "no landmark file"
    if path is not None and path.is_file():
        try:
            found, problem = read_fit(path), "no landmarks for this frame"
        except (OSError, KeyError, ValueError, NotImplementedError) as error:
            reason = str(error).replace(str(path), path.name)
            problem = f"the landmark file {path.name} cannot be read ({type(error).__name__}: {reason[:80]})"
    if len(found) == len(there):
        row_of = {number: row for row, number in enumerate(there)}
    else:
        row_of = {number: number - 1 for number in wanted if 1 <= number <= len(found)}
    points = np.full((len(wanted), _POINTS, 2), np.nan)
    for i, number in enumerate(wanted):
        if number in row_of:
            points[i] = found[row_of[number]]
    return rows_of(points, problem)


def read_fit(path: Path) -> np.ndarray:
    """Landmarks of all frames of a sequence.

    Args:
      path: a MATLAB file with ``fit``, a structure array with the field ``pred``.

    Returns:
      (n, 49, 2) pixels from 0; NaN where a frame has none.

    Raises:
      OSError, KeyError, ValueError: not such a file.
    """
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            arrays = [np.asarray(file[reference][()]).T for reference in np.ravel(file["fit/pred"][()])]
    else:
        fit = scipy.io.loadmat(path, variable_names=["fit"])["fit"]
        arrays = [np.asarray(pred) for pred in np.ravel(fit["pred"])]
    points = np.full((len(arrays), _POINTS, 2), np.nan)
    for i, array in enumerate(arrays):
        # An empty MATLAB array is stored as its two dimensions.
        if array.shape == (_POINTS, 2):
            points[i] = array - 1.0
    return points
