"""A job of prediction over many files: which to read, what is done already, what went wrong."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from jaxau import overlay
from jaxau.faces.landmark_file import LandmarkFile
from jaxau.faces.video import Frame, count_frames, open_video, read_image
from jaxau.files import exclusive_name
from jaxau.find_faces import FaceFinder, unused_landmarks
from jaxau.predict import Predictor, in_background
from jaxau.result_files import ResultFiles, overlay_ending
from jaxau.result_table import FrameFaces
from jaxau.sources import Source, find_sources, printable

_DECODED_AHEAD = 8  # frames
_FROM_CHECKPOINT = (
    "network stage epoch trained_on synthetic corpus protocol fold train_subjects manifest_hash licence "
    "alignment image_size resize_to clip_length neighbor_distance threshold_source face_model"
).split()


@dataclass(frozen=True)
class Options:
    """What changes the results, besides the checkpoint.

    Attributes:
      detector: what stands in the sidecar: name, file and hash of the detector; None with landmarks.
      landmarks: landmarks that replace detection.
      every: only each so many-th decoded frame has rows.
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
    notes: list[str] = field(default_factory=list)


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
        # A network with time sees all frames, because it expects neighbours.
        self._read_every = 1 if predictor.needs_every_frame else options.every
        self._problems = 0

    def run(self, inputs: Sequence[Path | str]) -> int:
        """Predict all inputs that are not done yet.

        Returns:
          The number of inputs that were not read to their end, each of them said.
        """
        sources, problems, remarks = find_sources(inputs)
        for remark in remarks:
            self._say(remark)
        for problem in problems:
            self._problem(problem)
        landmarks = self._options.landmarks
        if landmarks is not None:
            self._check_names(landmarks, sources)
        todo = []
        for source in sources:
            try:
                self._check_owner(source)
                if self._is_done(source):
                    self._say(f"{source.name}: already done")
                else:
                    todo.append(source)
            except (OSError, ValueError) as error:
                self._problem(str(error))
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
            notes: dict[str, None] = {}
            try:
                if source.is_picture:
                    yield Frame(0, 0.0, read_image(source.path))
                else:
                    for frame in open_video(source.path):
                        if frame.note:
                            notes[frame.note] = None
                        if frame.index % self._read_every == 0:
                            yield frame
            except ValueError as problem:
                error = str(problem)
            except Exception as problem:  # decoders meet all kinds of damage; the next file may be well
                error = f"{source.path}: {type(problem).__name__}: {problem}; convert it again"
            yield _End(source, error, list(notes))

    def _prepare(self, decoded: Iterator[_Begin | Frame | _End]) -> Iterator[_Begin | FrameFaces | _End]:
        find: FaceFinder | None = None
        error = ""
        for item in decoded:
            if isinstance(item, _Begin):
                find, error = self._finder(item.source), ""
                yield item
            elif isinstance(item, _End):
                item.error = error or item.error
                if not item.error and find is not None:
                    try:
                        # Up to the last frame that was read, or could have been with --every.
                        if (unused := find.unused()) >= self._read_every:
                            item.notes.append(unused_landmarks(unused))
                    except ValueError as problem:  # a line of the landmark file
                        item.error = str(problem)
                yield item
            elif not error and find is not None:
                try:
                    faces = find(item)
                except ValueError as problem:
                    error = str(problem)
                    continue
                frame = self._predictor.prepare(item, faces)
                if self._options.overlay and self._has_rows(item):
                    frame.image = overlay.reduce(item.image)
                yield frame

    def _finder(self, source: Source) -> FaceFinder:
        landmarks = self._options.landmarks
        given = None if landmarks is None else landmarks.frames(source.name)
        return FaceFinder(self._predictor.detector, given, source.is_picture, self._read_every)

    def _has_rows(self, frame: Frame | FrameFaces) -> bool:
        return frame.index % self._options.every == 0

    # ---- results ---------------------------------------------------------------------------------

    def _write(self, predicted: Iterator[Any], bar: tqdm) -> None:
        results: ResultFiles | None = None
        about: dict[str, Any] = {}
        failed = name = ""
        try:
            for item in predicted:
                try:
                    if isinstance(item, _Begin):
                        failed, results, name = "", None, item.source.name
                        bar.set_description(name[-30:])
                        bar.total += self._expected_frames(item.source)
                        about = _about(item.source)
                        results = self._open_results(item.source)
                    elif isinstance(item, _End):
                        if results is not None:
                            results.finish(self._sidecar | about | {"notes": item.notes}, item.error)
                            self._report(item, results)
                        else:
                            self._problem(failed)
                    elif results is not None and self._has_rows(item):
                        results.write(item)
                        bar.update()
                except (OSError, ValueError) as error:
                    failed = f"{name}: {error}"
                    if isinstance(error, OSError):
                        failed = f"{self._out}: cannot write results ({error}); check space and permissions"
                    if results is not None:
                        results.abandon()
                        results = None
                    if isinstance(item, _End):
                        self._problem(failed)
        finally:
            if results is not None:
                results.release()

    def _open_results(self, source: Source) -> ResultFiles:
        options = self._options
        points = 0
        if options.save_landmarks:
            points = 5 if options.landmarks is None else options.landmarks.points
        is_openface = options.format == "openface"
        with ExitStack() as hold:
            hold.enter_context(exclusive_name(self._out / source.name))
            self._check_owner(source)
            results = ResultFiles(self._out, source, self._predictor, points, is_openface, options.overlay)
            results.hold = hold.pop_all()
            return results

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
            if results.path(".json").is_file():
                kept += f"; {results.path('.csv')} is of an earlier run"
            self._problem(end.error + kept)
            return
        counts = ", ".join(f"{name} {count}" for name, count in sorted(results.counts.items()))
        self._say(f"{end.source.name}: {results.frames} frames, {counts}")
        for note in end.notes:
            self._say(f"warning: {end.source.name}: {note}")

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
                "pose": self._predictor.pose,
                "format": options.format,
                "overlay": options.overlay,
                "calibration": None,
            },
            "versions": {name: _version(name) for name in packages},
            "command": list(command),
        }

    def _check_owner(self, source: Source) -> None:
        """Refuse to replace the results of another file of the same name."""
        for ending in (".json", ".partial.json"):
            try:
                old = json.loads((self._out / f"{source.name}{ending}").read_text())["input"]["path"]
            except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
                continue
            if old != _resolved(source):
                raise ValueError(
                    f"{printable(source.path)}: {self._out / source.name}{ending} is of {old}: results of "
                    "another file are not replaced; give another --out, or take them away"
                )

    def _is_done(self, source: Source) -> bool:
        path = self._out / f"{source.name}.json"
        if not path.is_file():
            return False
        try:
            old = json.loads(path.read_text())
        except ValueError:
            return False
        endings = [".csv", ".parquet"] + [overlay_ending(source)] * self._options.overlay
        results = [self._out / f"{source.name}{ending}" for ending in endings]
        return (
            old.get("settings") == json.loads(json.dumps(self._sidecar["settings"]))
            and old.get("input") == _about(source)["input"]
            and all(result.is_file() for result in results)
        )


def _resolved(source: Source) -> str:
    return printable(source.path.resolve())


def _about(source: Source) -> dict[str, Any]:
    status = source.path.stat()
    about = {"name": source.name, "path": _resolved(source)}
    return {"input": about | {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
