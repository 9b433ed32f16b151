"""Synthetic faces from which folders in the layouts of the corpora's owners are written."""

import csv
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import simplejpeg

from data_pipelines.parts import Part
from data_pipelines.preparation import Corpus
from data_pipelines.synthetic import Frame, SynthConfig, SynthFaces
from jaxau.faces.align import align

FACES = SynthConfig(tier="tiny", subjects=3, clips=1, frames=8, size=96, nuisance=0.5, fps=4)


@functools.cache
def faces(subject: int) -> list[Frame]:
    """The 8 frames of one of 3 people."""
    return SynthFaces(FACES).clip(subject % 3, 0)


def write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=97))


def write_video(path: Path, pictures: Sequence[np.ndarray], rate: int = 10) -> None:
    import av  # an optional extra

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "12"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_fit(path: Path, points: Sequence[np.ndarray | None]) -> None:
    """BP4D's landmark file: fit/pred, references to (2, 49) arrays counted from 1; None is MATLAB's []."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        arrays = file.create_group("#refs#")
        references = np.empty((len(points), 1), h5py.ref_dtype)
        for i, face in enumerate(points):
            data = np.zeros(2, np.uint64) if face is None else np.asarray(face, np.float64).T + 1
            references[i, 0] = arrays.create_dataset(f"a{i}", data=data).ref
        file.create_dataset("fit/pred", data=references, dtype=h5py.ref_dtype)


def write_landmarks(path: Path, rows: Iterable[tuple[str, int, np.ndarray]]) -> Path:
    """A table of landmarks: (video, frame, (p, 2) points)."""
    rows = list(rows)
    points = len(rows[0][2])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        axes = [f"{axis}_{i}" for axis in "xy" for i in range(points)]
        writer.writerow(["video", "frame", "face_id", *axes])
        for video, frame, face in rows:
            writer.writerow([video, frame, 0, *np.round(face.T, 3).ravel()])
    return path


def parts(corpus: Corpus) -> dict[str, Part]:
    """Name of the video -> its part."""
    assert corpus.listed is not None
    return {corpus.listed(i).name: corpus.make(corpus.request, i) for i in range(corpus.parts)}


def remarks(part: Part) -> dict[tuple, str]:
    """(what, AUs, frames) -> reason."""
    return {(r.what, r.aus, r.frames): r.reason for r in part.remarks}


def shows(jpeg: bytes, frame: Frame, alignment: str = "jaa256") -> bool:
    """Whether a record's picture is this face, by the mean difference to its aligned crop."""
    crop, _ = align(frame.image, frame.lm68, alignment)
    return bool(np.abs(crop.astype(int) - simplejpeg.decode_jpeg(jpeg)).mean() < 4)


def which(jpeg: bytes, subject: int) -> int:
    """Which of a person's frames a record's picture is nearest to."""
    found = simplejpeg.decode_jpeg(jpeg).astype(int)
    crops = [align(frame.image, frame.lm68, "jaa256")[0] for frame in faces(subject)]
    return int(np.argmin([np.abs(crop - found).mean() for crop in crops]))
