"""300W-LP (Zhu et al., 2016) and WFLW (Wu et al., 2018): pictures with landmarks, to train a landmark
network.

300W-LP::

    AFW/name.jpg, AFW/name.mat            "pt2d" (2, 68); likewise HELEN, IBUG, LFPW, and each with _Flip
    landmarks/AFW/name_pts.mat            "pts_2d" (68, 2), taken where it is there

WFLW::

    list_98pt_rect_attr_train.txt         196 coordinates, 4 of a box, 6 attributes, path; also ..._test.txt
    WFLW_images/0--Parade/name.jpg        the path is below WFLW_images

Both layouts are from memory and have not been compared with the files. Whether pixels count from 0 or 1 is
stated nowhere: MATLAB's are taken to count from 1, those of the text files from 0 [choice]. The sets of
300W-LP count as subjects, mirrored pictures with those that they mirror; of WFLW "train" and "test" do. A
frame's number is its place in the sorted set or in the list, from 1. Nothing here is coded in AUs.
"""

import functools
from pathlib import Path

import numpy as np
import scipy.io

from data_pipelines.listing import OCCURRENCE, Landmarks, Listed, corpus_of, first_folder, not_as_shipped
from data_pipelines.preparation import Corpus

_SETS = ("AFW", "HELEN", "IBUG", "LFPW")
_CHUNK = 200  # pictures of a part of the preparation
_POINTS_300W, _POINTS_WFLW = 68, 98
_LISTS = {
    name: (f"list_98pt_rect_attr_{name}.txt", f"WFLW_annotations/list_98pt_rect_attr_train_test/{file}")
    for name, file in (("train", "list_98pt_rect_attr_train.txt"), ("test", "list_98pt_rect_attr_test.txt"))
}


def chunks(count: int) -> range:
    """Numbers of the parts into which so many pictures are divided."""
    return range(-(-count // _CHUNK))


def of_chunk(part: str) -> slice:
    """The pictures of a part named by `part_name`."""
    number = int(part.rpartition("/")[2])
    return slice(number * _CHUNK, (number + 1) * _CHUNK)


def part_name(subject: str, number: int) -> str:
    """The name of a part, of which each is a "video" of the manifest."""
    return f"{subject}/{number:05d}"


def corpus_300w_lp(raw_dir: Path | str, alignment: str) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of 300W-LP.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.

    Raises:
      ValueError: no such corpus in ``raw_dir``.
    """
    raw_dir = Path(raw_dir)
    counts = {name: len(_pictures_300w(raw_dir, name)) for name in _SETS}
    if not any(counts.values()):
        raise not_as_shipped(
            raw_dir, "300W-LP", "AFW/name.jpg with AFW/name.mat, HELEN, IBUG, LFPW, AFW_Flip ..."
        )
    return _corpus("300w_lp", "300W-LP", raw_dir, counts, _read_300w, alignment, _POINTS_300W)


def corpus_wflw(raw_dir: Path | str, alignment: str) -> Corpus:
    """As `corpus_300w_lp`, of WFLW; its official test pictures are the fold of "wflw-official"."""
    raw_dir = Path(raw_dir)
    counts = {name: len(_lines_wflw(raw_dir, name)) for name in _LISTS}
    if not all(counts.values()):
        raise not_as_shipped(raw_dir, "WFLW", "list_98pt_rect_attr_train.txt, ..._test.txt and WFLW_images")
    return _corpus("wflw", "WFLW", raw_dir, counts, _read_wflw, alignment, _POINTS_WFLW)


def _corpus(
    name: str, title: str, raw_dir: Path, counts: dict[str, int], read: object, alignment: str, points: int
) -> Corpus:
    videos = [(subject, part_name(subject, i)) for subject, n in counts.items() for i in chunks(n)]
    return corpus_of(
        name,
        raw_dir,
        videos,
        read,  # type: ignore[arg-type]
        alignment=alignment,
        faces=None,
        points=points,
        about={
            "description": f"{title}, {sum(counts.values())} pictures",
            "licence": f"{title}: for research, under the terms of its owner",
            "fps": 1.0,
            "aus": [],
            "label_rule": OCCURRENCE,
        },
    )


@functools.lru_cache(maxsize=8)
def _pictures_300w(raw_dir: Path, name: str) -> list[Path]:
    folders = (raw_dir / name, raw_dir / f"{name}_Flip")
    return [path for folder in folders for path in sorted(folder.glob("*.jpg"))]


def _read_300w(raw_dir: Path, subject: str, part: str) -> Listed:
    chosen = of_chunk(part)
    paths = _pictures_300w(raw_dir, subject)[chosen]
    numbers = np.arange(chosen.start + 1, chosen.start + 1 + len(paths), dtype=np.int32)

    def landmarks(position: int) -> np.ndarray:
        path = paths[position]
        better = raw_dir / "landmarks" / path.parent.name / f"{path.stem}_pts.mat"
        points = (
            _read_mat(better, "pts_2d") if better.is_file() else _read_mat(path.with_suffix(".mat"), "pt2d")
        )
        points = points.T if points.shape == (2, _POINTS_300W) else points
        if points.shape != (_POINTS_300W, 2):
            raise ValueError(f"landmarks of shape {points.shape}, must be {_POINTS_300W} points")
        return points - 1.0

    return _listed(subject, part, numbers, paths, landmarks)


def _read_mat(path: Path, variable: str) -> np.ndarray:
    if not path.is_file():
        raise ValueError("no landmark file")
    try:
        return np.asarray(scipy.io.loadmat(path, variable_names=[variable])[variable], np.float64)
    except Exception as error:  # SciPy raises errors of almost any kind on a damaged file
        raise ValueError(f"the landmark file cannot be read ({type(error).__name__})") from error


@functools.lru_cache(maxsize=2)
def _lines_wflw(raw_dir: Path, name: str) -> list[str]:
    path = next((raw_dir / file for file in _LISTS[name] if (raw_dir / file).is_file()), None)
    return [line for line in path.read_text().splitlines() if line.strip()] if path else []


def _read_wflw(raw_dir: Path, subject: str, part: str) -> Listed:
    chosen = of_chunk(part)
    rows = [line.split(maxsplit=2 * _POINTS_WFLW + 10) for line in _lines_wflw(raw_dir, subject)[chosen]]
    numbers = np.arange(chosen.start + 1, chosen.start + 1 + len(rows), dtype=np.int32)
    below = first_folder(raw_dir, "WFLW_images") or raw_dir
    paths = [below / row[-1].strip() for row in rows]

    def landmarks(position: int) -> np.ndarray:
        try:
            return np.array(rows[position][: 2 * _POINTS_WFLW], np.float64).reshape(_POINTS_WFLW, 2)
        except ValueError as error:
            raise ValueError("its row in the list has not 98 points") from error

    return _listed(subject, part, numbers, paths, landmarks)


def _listed(subject: str, part: str, numbers: np.ndarray, paths: list[Path], landmarks: Landmarks) -> Listed:
    pictures = [path if path.is_file() else None for path in paths]
    return Listed(
        subject, part, numbers, np.zeros((len(numbers), 0), np.float32), pictures, landmarks=landmarks
    )
