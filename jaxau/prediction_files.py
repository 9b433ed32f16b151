"""A job of prediction over many files: which to read, what is done already, what went wrong."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from jaxau import overlay
from jaxau.faces.landmark_file import LandmarkFile, LandmarkRow
from jaxau.faces.track import FaceTracker
from jaxau.faces.video import (
    PICTURES,
    VIDEOS,
    Frame,
    count_frames,
    open_video,
    read_image,
)
from jaxau.predict import Predictor, faces_of_landmarks, in_background
from jaxau.result_files import ResultFiles, Source
from jaxau.result_table import Face, FrameFaces

_DECODED_AHEAD = 8  # frames
_FROM_CHECKPOINT = (
    "network stage epoch trained_on synthetic corpus protocol fold train_subjects manifest_hash licence "
    "alignment image_size resize_to clip_length threshold_source"
).split()


@dataclass(frozen=True)
class Options:
    """What changes the results, besides the checkpoint.

    Attributes:
      detector: what stands in the sidecar: name, file and hash of the detector; None with landmarks.
      landmarks: landmarks that replace detection.
      every: only each so many-th decoded frame is predicted.
      save_landmarks: write the landmarks into the tables.
      format: of the CSV file: our columns, or those of OpenFace 2.
      overlay: also write pictures or videos to look at; they show the faces.
    """

    detector: dict[str, Any] | None = None
    landmarks: LandmarkFile | None = None
    every: int = 1
    save_landmarks: bool = False
    format: Literal["jaxau", "openface"] = "jaxau"
    overlay: bool = False


@dataclass
class _Begin:
    source: Source


@dataclass
class _End:
    source: Source
    error: str = ""
    unused_landmarks: int = 0


def find_sources(inputs: Sequence[Path | str]) -> tuple[list[Source], list[str]]:
    """The files of a job.

    Args:
      inputs: pictures, videos, and folders of them (searched to any depth).

    Returns:
      The files in order, and a message for each input that cannot be used.

    Raises:
      ValueError: two inputs would have the same results.
    """
    sources, problems = [], []
    for given in map(Path, inputs):
        if given.is_dir():
            found = sorted(
                p for p in given.rglob("*") if p.suffix.lower() in PICTURES | VIDEOS and p.is_file()
            )
            # Results may stand beside the inputs.
            found = [p for p in found if not p.stem.endswith((".overlay", ".partial"))]
            sources += [Source(p, _printable(p.relative_to(given).as_posix())) for p in found]
            if not found:
                problems.append(f"{_printable(given)}: no picture or video in this folder")
        elif given.is_file() and given.suffix.lower() not in PICTURES | VIDEOS:
            problems.append(
                f"{_printable(given)}: {given.suffix or 'no suffix'} is no known kind of file; give one "
                f"of {', '.join(sorted(PICTURES | VIDEOS))}"
            )
        elif not given.exists():
            problems.append(f"{_printable(given)}: no such file or folder; check the path")
        else:
            sources.append(Source(given, _printable(given.name)))
    counts = Counter(source.name for source in sources)
    twice = [source for source in sources if counts[source.name] > 1]
    if twice:
        raise ValueError(
            f"{' and '.join(_printable(s.path) for s in twice[:3])}: both would write the results "
            f"{twice[0].name}.csv; run them with different --out, or give a folder that holds both"
        )
    return sources, problems


def _printable(path: Path | str) -> str:
    """A name whose bytes are not UTF-8 is written with escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Job:
    """Prediction of many files with one network.

    Args:
      predictor: network and detector.
      options: see `Options`.
      out: folder for the results.
      command: what the sidecars say about how the job was called.
      say: receives a line about each file.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: Options,
        out: Path,
        command: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        if options.every < 1:
            raise ValueError(f"every {options.every}: must be at least 1 (each frame); leave it out")
        if options.landmarks is None and predictor.detector is None:
            raise ValueError(
                "neither a detector nor landmarks: faces must be found by one of the two; give --detector "
                "yunet --detector_weights FILE, or --landmarks CSV"
            )
        self._predictor, self._options, self._out, self._say = predictor, options, out, say
        self._sidecar = self._describe(command)
        self._problems = 0

    def run(self, inputs: Sequence[Path | str]) -> int:
        """Predict all inputs that are not done yet.

        Returns:
          The number of inputs that were not read to their end, each of them said.
        """
        sources, problems = find_sources(inputs)
        for problem in problems:
            self._problem(problem)
        landmarks = self._options.landmarks
        if landmarks is not None:
            self._check_names(landmarks, sources)
        todo = []
        for source in sources:
            if self._is_done(source):
                self._say(f"{source.name}: already done")
            else:
                todo.append(source)
        decoded = in_background(self._decode(todo), _DECODED_AHEAD)
        prepared = in_background(self._prepare(decoded), 32)
        predicted = self._predictor.stream(prepared)
        with tqdm(desc="predict", unit="frame", total=0, disable=None) as bar:
            try:
                self._write(predicted, bar)
            finally:
                prepared.close()  # type: ignore[attr-defined]
                decoded.close()  # type: ignore[attr-defined]
        return self._problems

    def _problem(self, message: str) -> None:
        self._problems += 1
        self._say(f"not done: {message}")

    def _check_names(self, landmarks: LandmarkFile, sources: list[Source]) -> None:
        if landmarks.of_openface and len(sources) != 1:
            raise ValueError(
                f"landmarks {landmarks.path} for {len(sources)} inputs: a table of OpenFace 2 does not name "
                "its video; give one input, or add a column video"
            )
        absent = [s.name for s in sources if s.name not in landmarks.videos]
        if landmarks.of_openface or not absent:
            return
        message = f"landmarks {landmarks.path} name the videos {landmarks.videos[:5]}, not {absent[:5]}"
        if len(absent) == len(sources):
            raise ValueError(f"{message}; the column video must hold the names of the inputs")
        self._say(f"warning: {message}: these get rows without landmarks")

    # ---- decoding, then detection and alignment, each in a thread --------------------------------

    def _decode(self, sources: list[Source]) -> Iterator[_Begin | Frame | _End]:
        for source in sources:
            yield _Begin(source)
            error = ""
            try:
                if source.is_picture:
                    yield Frame(0, 0.0, read_image(source.path))
                else:
                    for frame in open_video(source.path):
                        if frame.index % self._options.every == 0:
                            yield frame
            except ValueError as problem:
                error = str(problem)
            except Exception as problem:  # decoders meet all kinds of damage; the next file may be well
                error = f"{source.path}: {type(problem).__name__}: {problem}; convert it again"
            yield _End(source, error)

    def _prepare(self, decoded: Iterator[_Begin | Frame | _End]) -> Iterator[_Begin | FrameFaces | _End]:
        find = _Finder(self._predictor, self._options.landmarks)
        error = ""
        for item in decoded:
            if isinstance(item, _Begin):
                error = ""
                find.begin(item.source)
                yield item
            elif isinstance(item, _End):
                item.error = error or item.error
                if not item.error:
                    item.unused_landmarks = find.unused()
                yield item
            elif not error:
                try:
                    faces = find(item)
                except ValueError as problem:  # a line of the landmark file
                    error = str(problem)
                    continue
                frame = self._predictor.prepare(item, faces)
                if self._options.overlay:
                    frame.image = overlay.reduce(item.image)
                yield frame

    # ---- results ---------------------------------------------------------------------------------

    def _write(self, predicted: Iterator[Any], bar: tqdm) -> None:
        results: ResultFiles | None = None
        about: dict[str, Any] = {}
        failed = ""
        for item in predicted:
            try:
                if isinstance(item, _Begin):
                    failed, results = "", None
                    about = _about(item.source)
                    bar.set_description(item.source.name[-30:])
                    bar.total += self._expected_frames(item.source)
                    results = self._open_results(item.source)
                elif isinstance(item, _End):
                    if results is not None:
                        results.finish(self._sidecar | about, item.error)
                        self._report(item, results)
                    else:
                        self._problem(failed)
                elif results is not None:
                    results.write(item)
                    bar.update()
            except (OSError, ValueError) as error:
                failed = f"{self._out}: cannot write results ({error}); check space and permissions"
                if results is not None:
                    results.abandon()
                    results = None
                if isinstance(item, _End):
                    self._problem(failed)

    def _open_results(self, source: Source) -> ResultFiles:
        options = self._options
        points = 0
        if options.save_landmarks:
            points = 5 if options.landmarks is None else options.landmarks.points
        is_openface = options.format == "openface"
        return ResultFiles(self._out, source, self._predictor, points, is_openface, options.overlay)

    def _expected_frames(self, source: Source) -> int:
        if source.is_picture:
            return 1
        try:
            return (count_frames(source.path) or 0) // self._options.every
        except ValueError:
            return 0  # cannot be decoded at all, which is said where it is tried

    def _report(self, end: _End, results: ResultFiles) -> None:
        if end.error:
            kept = f" ({results.frames} frames in {results.path('.partial.csv')})" if results.frames else ""
            self._problem(end.error + kept)
            return
        counts = ", ".join(f"{name} {count}" for name, count in sorted(results.counts.items()))
        self._say(f"{end.source.name}: {results.frames} frames, {counts}")
        if end.unused_landmarks:
            self._say(
                f"warning: {end.source.name}: landmarks of {end.unused_landmarks} frames that were not "
                "predicted or do not exist; check that they belong to this video"
            )

    def _describe(self, command: Sequence[str]) -> dict[str, Any]:
        info, options = self._predictor.info, self._options
        landmarks = options.landmarks and {
            "file": str(options.landmarks.path),
            "sha256": file_hash(options.landmarks.path),
        }
        packages = ("jaxau", "jax", "flax", "numpy", "opencv-python-headless", "av", "pyarrow")
        return {
            "statement": self._predictor.statement,
            "checkpoint": {"hash": info["hash"], **{key: info.get(key) for key in _FROM_CHECKPOINT}},
            "aus": list(self._predictor.aus),
            "thresholds": self._predictor.thresholds.tolist(),
            "settings": {
                "checkpoint": info["hash"],
                "detector": options.detector,
                "landmarks": landmarks,
                "every": options.every,
                "save_landmarks": options.save_landmarks,
                "format": options.format,
                "overlay": options.overlay,
                "calibration": None,
            },
            "versions": {name: _version(name) for name in packages},
            "command": list(command),
        }

    def _is_done(self, source: Source) -> bool:
        path = self._out / f"{source.name}.json"
        if not path.is_file():
            return False
        try:
            old = json.loads(path.read_text())
        except ValueError:
            return False
        results = [path.with_name(f"{path.stem}{ending}") for ending in (".csv", ".parquet")]
        return (
            old.get("settings") == json.loads(json.dumps(self._sidecar["settings"]))
            and old.get("input") == _about(source)["input"]
            and all(result.is_file() for result in results)
        )


@dataclass
class _Finder:
    """Finds the faces of the frames of one file after the other."""

    predictor: Predictor
    landmarks: LandmarkFile | None
    _tracker: FaceTracker | None = None
    _given: Iterator[tuple[int, list[LandmarkRow]]] = field(default_factory=lambda: iter(()))
    _next: tuple[int, list[LandmarkRow]] | None = None

    def begin(self, source: Source) -> None:
        self._tracker = None if source.is_picture else FaceTracker()
        self._next = None
        if self.landmarks is not None:
            self._given = self.landmarks.frames(source.name)

    def __call__(self, frame: Frame) -> list[Face]:
        if self.landmarks is None:
            return self.predictor.detect(frame, self._tracker)
        if self._next is None:
            self._next = next(self._given, None)
        while self._next is not None and self._next[0] < frame.index:
            self._next = next(self._given, None)
        if self._next is not None and self._next[0] == frame.index:
            found, self._next = self._next[1], None
            return faces_of_landmarks(found)
        return faces_of_landmarks([])

    def unused(self) -> int:
        """Frames with landmarks after the last frame of the file."""
        return (self._next is not None) + sum(1 for _ in self._given)


def _about(source: Source) -> dict[str, Any]:
    status = source.path.stat()
    about = {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    return {"input": about}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
