"""A folder as DISFA's owner ships it, made of synthetic faces, with the faults of real ones.

27 subjects with the owner's names, one video of 24 frames each. What is wrong on purpose:

- SN003: the landmark file of frame 3 is missing; that of frame 22 is empty, that of 23 has 65 points;
- SN006: one label file is a row short (AU 4, frame 24), another one lacks altogether (AU 20);
- SN008: an intensity of 7 (AU 1, frame 2) and a row that is none (AU 2, line 5);
- SN010: all label files are a row short, as in the corpus (frame 24);
- SN013: the video ends after 22 frames;
- SN001: the landmarks lie in ``frame_lm``, not in ``tmp_frame_lm``.
"""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import facs

NAMES = [f"SN{i:03d}" for i in range(1, 33) if i not in (14, 15, 19, 20, 22)]
COUNTED_FROM_1 = set("SN008 SN009 SN010 SN021 SN023 SN024 SN025 SN026 SN027 SN028".split())
FRAMES = 24
FACES = SynthConfig(tier="tiny", subjects=27, clips=1, frames=FRAMES, size=96, nuisance=0.5, fps=4)
OF_68 = [i for i in range(68) if i not in (60, 64)]
MARKED = ("SN001", (30, 48, 54))
"""In this subject's pictures these of the 68 landmarks (nose tip, mouth corners) are bright green dots."""


def intensities(subject: int) -> np.ndarray:
    """(24, 12) what the label files say, faults aside."""
    columns = [facs.SYNTHETIC_AUS.index(au) for au in facs.DISFA_CODED_AUS]
    return np.floor(SynthFaces(FACES).labels(subject, 0)[:, columns] + 0.5).astype(int)


def write_disfa(folder: Path) -> None:
    """Write the folder; takes seconds."""
    faces = SynthFaces(FACES)
    for subject, name in enumerate(NAMES):
        frames = faces.clip(subject, 0)
        pictures = [frame.image.copy() for frame in frames]
        if name == MARKED[0]:
            for picture, frame in zip(pictures, frames, strict=True):
                for x, y in frame.lm68[list(MARKED[1])]:
                    cv2.circle(picture, (round(x * 16), round(y * 16)), 48, (0, 255, 0), -1, cv2.LINE_AA, 4)
        _write_video(folder, name, pictures[: 22 if name == "SN013" else None])
        _write_landmarks(folder, name, [frame.lm68[OF_68] for frame in frames])
        _write_labels(folder, name, intensities(subject))


def _write_video(folder: Path, name: str, pictures: list[np.ndarray]) -> None:
    import av  # an optional extra: without it the tests that need it are skipped

    path = folder / "Videos_LeftCamera" / f"LeftVideo{name}_comp.avi"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "12"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _write_landmarks(folder: Path, name: str, landmarks: list[np.ndarray]) -> None:
    below = folder / "Landmark_Points" / name / ("frame_lm" if name == "SN001" else "tmp_frame_lm")
    below.mkdir(parents=True)
    for frame, points in enumerate(landmarks, 1):
        file = f"l0{frame:04d}_lm.mat" if name in COUNTED_FROM_1 else f"{name}_{frame - 1:04d}_lm.mat"
        fault = (name, frame)
        if fault == ("SN003", 3):
            continue
        if fault == ("SN003", 22):
            (below / file).touch()
            continue
        points = points[:65] if fault == ("SN003", 23) else points
        scipy.io.savemat(below / file, {"pts": points + 1.0})  # MATLAB's pixels count from 1


def _write_labels(folder: Path, name: str, values: np.ndarray) -> None:
    below = folder / "ActionUnit_Labels" / name
    below.mkdir(parents=True)
    for column, au in enumerate(facs.DISFA_CODED_AUS):
        rows = [f"{frame},{intensity}" for frame, intensity in enumerate(values[:, column], 1)]
        if name == "SN010" or (name, au) == ("SN006", 4):
            rows = rows[:-1]
        if (name, au) == ("SN006", 20):
            continue
        if (name, au) == ("SN008", 1):
            rows[1] = "2,7"
        if (name, au) == ("SN008", 2):
            rows[4] = "#"
        (below / f"{name}_au{au}.txt").write_text("\r\n".join(rows) + "\r\n")
