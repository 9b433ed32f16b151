"""A small faultless folder of every corpus in its owner's layout: two subjects (or sets) of four pictures."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from corpus_folders import faces, write_fit, write_landmarks, write_picture, write_video

from data_pipelines import corpora
from data_pipelines.corpora import synthetic
from data_pipelines.face_source import FaceSource
from data_pipelines.preparation import Corpus
from data_pipelines.synthetic import Frame, SynthConfig
from jaxau import facs

NAMES = (*corpora.NAMES, "synthetic")
DRAWN = SynthConfig(tier="tiny", subjects=3, clips=1, frames=4, size=96, fps=4)
PICTURES = 4
_OF_68 = [i for i in range(68) if i not in (60, 64)]  # DISFA's 66

Table = list[tuple[str, int, np.ndarray]]


def write_corpus(name: str, folder: Path, alignment: str) -> Corpus:
    """Write the folder of a corpus and open it."""
    if name == "synthetic":
        return synthetic.corpus(DRAWN, alignment)
    folder.mkdir(parents=True)
    table = _WRITERS[name](folder)
    source = FaceSource("file", write_landmarks(folder / "points.csv", table)) if table else None
    return corpora.open_corpus(name, folder, alignment, source)


def _shown(subject: int) -> list[Frame]:
    return faces(subject)[:PICTURES]


def _codes(frame: int, columns: int, separator: str) -> str:
    return separator.join(str((frame + k) % 2) for k in range(columns))


def _bp4d(folder: Path, picture_of_frame: int = 0) -> None:
    aus = facs.CORPUS_AUS["bp4d"]
    for subject, name in enumerate(("F001", "M002")):
        for i, face in enumerate(_shown(subject)):
            write_picture(
                folder / f"Sequences(2D+3D)/{name}/T1/{i + 5 + picture_of_frame:04d}.jpg", face.image
            )
        write_fit(folder / f"2DFeatures/{name}_T1.mat", [face.lm49 for face in _shown(subject)])
        rows = [",".join(map(str, (0, *aus))), *(f"{i},{_codes(i, len(aus), ',')}" for i in range(5, 9))]
        (folder / "AUCoding/AU_OCC").mkdir(parents=True, exist_ok=True)
        (folder / f"AUCoding/AU_OCC/{name}_T1.csv").write_text("\n".join(rows))


def _disfa(folder: Path) -> None:
    for subject, name in enumerate(("SN001", "SN002")):
        write_video(
            folder / f"Videos_LeftCamera/LeftVideo{name}_comp.avi", [f.image for f in _shown(subject)]
        )
        points, labels = folder / f"Landmark_Points/{name}/tmp_frame_lm", folder / f"ActionUnit_Labels/{name}"
        points.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i, face in enumerate(_shown(subject)):
            scipy.io.savemat(points / f"{name}_{i:04d}_lm.mat", {"pts": face.lm68[_OF_68] + 1.0})
        for au in facs.DISFA_CODED_AUS:
            rows = (f"{i + 1},{(i + au) % 6}" for i in range(PICTURES))
            (labels / f"{name}_au{au}.txt").write_text("\n".join(rows))


def _aff_wild2(folder: Path, release: str) -> Table:
    aus, table = facs.CORPUS_AUS[release], []
    for subject, (part, name) in enumerate((("Train_Set", "1-left"), ("Validation_Set", "2"))):
        (folder / f"AU_Set/{part}").mkdir(parents=True)
        rows = (_codes(i, len(aus), ",") for i in range(PICTURES))
        (folder / f"AU_Set/{part}/{name}.txt").write_text(
            "\n".join([",".join(f"AU{au}" for au in aus), *rows])
        )
        for i, face in enumerate(_shown(subject), 1):
            write_picture(folder / f"cropped_aligned/{name}/{i:05d}.jpg", face.image)
            table.append((name, i, face.lm68))
    return table


def _raf_au(folder: Path) -> Table:
    table = []
    for i, face in enumerate([*_shown(0), *_shown(1)], 1):
        write_picture(folder / f"aligned/{i:04d}_aligned.jpg", face.image)
        table.append((f"{i:04d}", i, face.lm68))
    (folder / "RAFAU_label.txt").write_text("\n".join(f"{name}.jpg 1+L{i}" for name, i, _ in table))
    return table


def _gft(folder: Path) -> None:
    for subject, (stem, name) in enumerate((("GFT_train", "001A"), ("GFT_test", "014B"))):
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"{name}/{i}.jpg", face.image)
        lines = {
            "path": [f"{name}/{i}.jpg" for i in range(PICTURES)],
            "AUoccur": [_codes(i, 10, " ") for i in range(PICTURES)],
            "land": [" ".join(map(str, face.lm49.ravel())) for face in _shown(subject)],
        }
        for what, rows in lines.items():
            (folder / f"{stem}_{what}.txt").write_text("\n".join(rows))


def _affectnet(folder: Path) -> None:
    box = "face_x,face_y,face_width,face_height"
    for subject, name in enumerate(("training", "validation")):
        rows = [f"subDirectory_filePath,{box},facial_landmarks,expression,valence,arousal"]
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"Manually_Annotated_Images/{subject}/{i}.jpg", face.image)
            points = ";".join(f"{value:.3f}" for value in face.lm68.ravel())
            rows.append(f"{subject}/{i}.jpg,1,2,3,4,{points},{i + subject},-0.1,0.2")
        (folder / f"{name}.csv").write_text("\n".join(rows))


def _fec(folder: Path) -> Table:
    """Triplet 1 of each file: anchor picture 0, positive 1, negative 2; triplet 2: 3, 0, negative 1."""
    table = []
    for subject, name in enumerate(("test", "train")):
        urls = [f"http://example.org/{name}{i}.jpg" for i in range(PICTURES)]
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"images/{hashlib.sha1(urls[i].encode()).hexdigest()}.jpg", face.image)
            table.append((f"{name}/00000", i + 1, face.lm68))
        rows = []
        for trio, kind in (((0, 1, 2), "ONE"), ((3, 0, 1), "THREE")):
            cells = [cell for i in trio for cell in (urls[i], "0", "1", "0", "1")]
            votes = [cell for rater in range(6) for cell in (f"rater{rater}", "3")]
            rows.append(",".join([*cells, f"{kind}_CLASS_TRIPLET", *votes]))
        (folder / f"faceexp-comparison-data-{name}-public.csv").write_text("\n".join(rows))
    return table


def _w300_lp(folder: Path) -> None:
    for subject, name in enumerate(("AFW", "HELEN")):
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"{name}/{i}.jpg", face.image)
            scipy.io.savemat(folder / f"{name}/{i}.mat", {"pt2d": face.lm68.T + 1.0})


def _wflw(folder: Path) -> None:
    for subject, name in enumerate(("test", "train")):
        rows = []
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"WFLW_images/0--Parade/{name}{i}.jpg", face.image)
            points = " ".join(f"{value:.3f}" for value in face.lm98.ravel())
            rows.append(f"{points} 1 2 3 4 0 0 0 0 0 0 0--Parade/{name}{i}.jpg")
        (folder / f"list_98pt_rect_attr_{name}.txt").write_text("\n".join(rows))


def _folder(folder: Path) -> Table:
    table, rows = [], ["video,subject,AU12_c,AU06_r"]
    for subject in range(2):
        for i, face in enumerate(_shown(subject)):
            write_picture(folder / f"{subject}{i}.jpg", face.image)
            table.append((f"{subject}{i}.jpg", 0, face.lm68))
            rows.append(f"{subject}{i}.jpg,P{subject},{i % 2},{i}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return table


_WRITERS: dict[str, Callable[[Path], Table | None]] = {
    "bp4d": _bp4d,
    "bp4dplus": lambda folder: _bp4d(folder, -1),
    "disfa": _disfa,
    "aff_wild2": lambda folder: _aff_wild2(folder, "aff_wild2"),
    "aff_wild2_8au": lambda folder: _aff_wild2(folder, "aff_wild2_8au"),
    "raf_au": _raf_au,
    "affectnet": _affectnet,
    "fec": _fec,
    "300w_lp": _w300_lp,
    "wflw": _wflw,
    "gft": _gft,
    "folder": _folder,
}
