"""From frames to Action Units: faces are found, aligned as in training, and given to a network.

Everything is a stream. Decoding, detection and alignment run in threads beside the network, which
always sees batches of one compiled shape; memory does not depend on how long a video is.
"""

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, TypeVar

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from jaxau import facs
from jaxau.checkpoint import Model, load_model
from jaxau.faces.align import align, check_alignment, to_network_input, transform_points
from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkFile
from jaxau.faces.video import Frame, open_video
from jaxau.find_faces import FaceFinder, rows_of_array, unused_landmarks
from jaxau.result_table import Face, FrameFaces, rows, schema

T = TypeVar("T")

STILLS_PER_BATCH = 16
CLIPS_PER_BATCH = 4


@dataclass
class _Track:
    """A face over frames without a gap, and what the network remembers of it."""

    state: Any = None  # of a network that carries one from window to window


@dataclass
class _Window:
    """One sample of the network: a single face, or consecutive frames of a track."""

    track: _Track
    faces: list[Face] = field(default_factory=list)


@dataclass
class _Windows:
    """Cuts the faces of a stream into windows."""

    length: int  # 0 for networks on stills
    open: dict[int, _Window] = field(default_factory=dict)

    def add(self, frame: FrameFaces) -> list[_Window]:
        faces = [face for face in frame.faces if face.crop is not None]
        if not self.length:
            return [_Window(_Track(), [face]) for face in faces]
        present = {face.face_id for face in faces}
        # A track with a gap goes on as a new one: the network expects neighbours in time.
        closed = [self.open.pop(face_id) for face_id in list(self.open) if face_id not in present]
        ready = [window for window in closed if window.faces]
        for face in faces:
            assert face.face_id is not None
            window = self.open.setdefault(face.face_id, _Window(_Track()))
            window.faces.append(face)
            if len(window.faces) == self.length:
                ready.append(window)
                self.open[face.face_id] = _Window(window.track)
        return ready

    def flush(self) -> list[_Window]:
        ready = [window for window in self.open.values() if window.faces]
        self.open.clear()
        return ready


class Predictor:
    """A trained network with the alignment, thresholds and AU order of its checkpoint.

    Args:
      model: `jaxau.checkpoint.load_model`.
      detector: finds faces where no landmarks are given.
      batch_size: stills or clips per call of the network; results do not depend on it.

    Raises:
      ValueError: the checkpoint's alignment is unknown, or its thresholds are not one for each AU.
    """

    def __init__(self, model: Model, detector: YuNet | None = None, batch_size: int | None = None) -> None:
        self.info = info = model.info
        check_alignment(info["alignment"])
        self.aus = facs.check_aus(info["aus"])
        self.thresholds = np.asarray(info["thresholds"], np.float64)
        if self.thresholds.shape != (len(self.aus),):
            raise ValueError(
                f"checkpoint with thresholds {info['thresholds']} for the AUs {list(self.aus)}: there must "
                "be one for each; the checkpoint is damaged, copy it or train it again"
            )
        self.detector = detector
        self.clip_length = int(info["clip_length"])
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: must be at least 1; leave it out")
        self._batch_size = batch_size or (CLIPS_PER_BATCH if self.clip_length else STILLS_PER_BATCH)
        self._resize_to = int(info["resize_to"])
        self._variables = jax.device_put(model.variables)

        side, frames = int(info["image_size"]), max(1, self.clip_length)
        self._image_shape = (self._batch_size, frames, side, side, 3)
        network_input = self._image_shape if self.clip_length else (self._batch_size, side, side, 3)
        self._step, self._first_state = _make_step(model, self._variables, network_input)

    @property
    def statement(self) -> str:
        """What every result must say about where its numbers come from."""
        trained = f"trained on {self.info['trained_on']}"
        return f"{trained}: not validated on real faces" if self.info["synthetic"] else trained

    # ---- the two stages: faces of frames, then AUs of faces --------------------------------------

    def prepare(self, frame: Frame, faces: list[Face]) -> FrameFaces:
        """Align the faces of a frame; those with unusable landmarks get a reason instead."""
        for face in faces:
            if face.landmarks is None:
                continue
            try:
                crop, matrix = align(frame.image, face.landmarks, self.info["alignment"])
            except ValueError:
                face.reason = "bad_landmarks"
                continue
            face.crop = to_network_input(
                crop,
                transform_points(face.landmarks, matrix),
                self.info["alignment"],
                int(self.info["image_size"]),
                self._resize_to,
            )
        return FrameFaces(frame.index, frame.timestamp, faces, frame.image.shape[1])

    def stream(self, items: Iterable[FrameFaces | T]) -> Iterator[FrameFaces | T]:
        """Predict the faces of a stream of frames.

        Args:
          items: frames from `prepare`; anything else is handed through in its place, and ends all
            tracks (the beginning or end of a video).

        Yields:
          the items in their order, all faces predicted.

        Raises:
          ValueError: the network gives numbers that are not finite.
        """
        windows = _Windows(self.clip_length)
        samples: list[_Window] = []
        waiting: deque[FrameFaces | T] = deque()
        # Frames without faces wait behind a batch that is not full: only so many.
        patience = max(256, 2 * self._batch_size * max(1, self.clip_length))
        for item in items:
            waiting.append(item)
            samples += windows.add(item) if isinstance(item, FrameFaces) else windows.flush()
            while len(samples) >= self._batch_size or (samples and len(waiting) > patience):
                samples = self._run(samples)
            while waiting and _is_done(waiting[0]):
                yield waiting.popleft()
        samples += windows.flush()
        while samples:
            samples = self._run(samples)
        yield from waiting

    def _run(self, samples: list[_Window]) -> list[_Window]:
        """Predict the first windows, of as many tracks as fill a batch; returns the others."""
        batch, rest = self._first_of_tracks(samples)
        image = np.zeros(self._image_shape, np.uint8)
        for row, window in zip(image, batch, strict=False):
            for t, face in enumerate(window.faces):
                assert face.crop is not None
                row[t] = face.crop
            row[len(window.faces) :] = row[len(window.faces) - 1]  # padding, whose results nobody reads
        state = self._first_state
        if state is not None:
            # Rows beyond the batch are nobody's.
            states = [state if w.track.state is None else w.track.state for w in batch]
            states += [state] * (self._batch_size - len(batch))
            state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        result, state = self._step(self._variables, image if self.clip_length else image[:, 0], state)
        result = np.asarray(result).reshape(*image.shape[:2], len(self.aus))
        for i, (row, window) in enumerate(zip(result, batch, strict=False)):
            for probability, face in zip(row, window.faces, strict=False):
                if not np.isfinite(probability).all():
                    raise ValueError(
                        f"the network's probabilities are {probability}: must be finite; the "
                        "checkpoint is damaged, train it again or take an earlier one"
                    )
                face.probability, face.crop = probability, None
            if state is not None:
                window.track.state = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), state)
        return rest

    def _first_of_tracks(self, samples: list[_Window]) -> tuple[list[_Window], list[_Window]]:
        """Up to a batch of windows and the rest, in order; a network with a state gets one of each track."""
        if self._first_state is None:
            return samples[: self._batch_size], samples[self._batch_size :]
        batch: list[_Window] = []
        rest: list[_Window] = []
        for window in samples:
            known = any(window.track is other.track for other in batch + rest)
            (rest if known or len(batch) == self._batch_size else batch).append(window)
        return batch, rest

    # ---- in Python: tables in memory -------------------------------------------------------------

    def __call__(
        self,
        frames: Iterable[np.ndarray],
        landmarks: Sequence[np.ndarray] | np.ndarray | None = None,
        fps: float = 25.0,
    ) -> pd.DataFrame:
        """Predict consecutive frames.

        Args:
          frames: n pictures (h, w, 3) uint8 RGB.
          landmarks: (n, p, 2) pixels of one face a frame, with p of 5, 49, 66, 68 or 98 points, NaN
            in frames without a face; None = use the detector.
          fps: frames a second.

        Returns:
          One row for each frame and face, columns as `schema`.

        Raises:
          ValueError: neither landmarks nor detector, landmarks of another shape, or another number of
            them than frames.
        """
        return self._table("", (Frame(i, i / fps, image) for i, image in enumerate(frames)), landmarks)

    def video(
        self,
        path: Path | str,
        landmarks: Sequence[np.ndarray] | np.ndarray | LandmarkFile | None = None,
    ) -> pd.DataFrame:
        """Predict a video; rows as `__call__`.

        The whole table is held in memory; ``jaxau predict`` streams it to files.

        Args:
          path: a video file.
          landmarks: of its n frames as in `__call__`; or a file of landmarks with this video's name in
            it; None = use the detector.

        Raises:
          ValueError: as `__call__`; the video cannot be read, or is not in the landmark file.
        """
        decoded = in_background(open_video(path), 8)
        return self._table(Path(path).name, decoded, landmarks)

    def _table(
        self,
        name: str,
        frames: Iterable[Frame],
        landmarks: Sequence[np.ndarray] | np.ndarray | LandmarkFile | None,
    ) -> pd.DataFrame:
        given = None
        if isinstance(landmarks, LandmarkFile):
            if not landmarks.of_openface and name not in landmarks.videos:
                raise ValueError(
                    f"landmarks {landmarks.path} name the videos {landmarks.videos[:5]}, not {name!r}; the "
                    "column video must hold the name of the video"
                )
            given = landmarks.frames(name)
        elif landmarks is not None:
            given = rows_of_array(landmarks)
        find = FaceFinder(self.detector, given)

        def prepared() -> Iterator[FrameFaces]:
            count = 0
            for frame in frames:
                count += 1
                yield self.prepare(frame, find(frame))
            if isinstance(landmarks, LandmarkFile):
                if unused := find.unused():
                    warnings.warn(f"{name}: {unused_landmarks(unused)}", stacklevel=1)
            elif landmarks is not None and count != len(landmarks):
                raise ValueError(
                    f"{len(landmarks)} landmarks for {count} frames: give one set of points for each frame, "
                    "NaN where there is no face"
                )

        table = [
            row
            for item in self.stream(in_background(prepared(), 2 * self._batch_size))
            if isinstance(item, FrameFaces)
            for row in rows(item, name, self.aus, self.thresholds)
        ]
        return pa.Table.from_pylist(table, schema(self.aus)).to_pandas()


def load(checkpoint: Path | str, detector: YuNet | None = None, batch_size: int | None = None) -> Predictor:
    """Open a checkpoint for prediction.

    Args:
      checkpoint: a run's folder, a stage's folder in it, or an inference checkpoint.
      detector: `jaxau.faces.detect.YuNet`, to predict pictures without given landmarks.
      batch_size: stills or clips per call of the network.

    Returns:
      A predictor: ``predictor(frames, landmarks=None)``, ``predictor.video(path, landmarks=None)``.

    Raises:
      ValueError: the checkpoint cannot be read.
    """
    return Predictor(load_model(checkpoint), detector, batch_size)


def _make_step(model: Model, variables: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Jit-compiled ``(variables, image, state) -> (probability, state)``, and the state of one new track.

    The state is None unless the network's outputs have one: what a recurrent network must be given when
    it goes on with the next frames (zeros at the beginning).
    """
    image = jax.ShapeDtypeStruct(shape, np.uint8)
    outputs: Any = jax.eval_shape(lambda v, x: model.network.apply(v, x, train=False), variables, image)
    first = None
    if "state" in outputs:
        first = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), outputs["state"])

    @jax.jit
    def step(variables: Any, image: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        memory = {} if state is None else {"state": state}
        outputs: Any = model.network.apply(variables, image, train=False, **memory)
        return jax.nn.sigmoid(outputs["logits"].astype(np.float32)), outputs.get("state")

    return step, first


def _is_done(item: object) -> bool:
    return not isinstance(item, FrameFaces) or item.is_done()


def in_background(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Run an iterator in a thread of its own.

    Args:
      items: the iterator; an error in it is raised here, in its place.
      ahead: how many items it may be ahead.

    Yields:
      the items in their order.
    """
    queue: Queue[tuple[T | None, BaseException | None, bool]] = Queue(ahead)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            try:
                return queue.put(entry, timeout=0.1)
            except Full:
                pass

    def work() -> None:
        try:
            for item in items:
                put((item, None, False))
                if stopped.is_set():
                    break
            put((None, None, True))
        except BaseException as error:  # handed to the reader, who raises it
            put((None, error, True))
        finally:
            if isinstance(items, Iterator) and hasattr(items, "close"):
                items.close()  # here, not when the garbage collector comes: it may hold a file

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error, last = queue.get(timeout=1.0)
            except Empty:
                continue
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
