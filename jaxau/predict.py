"""From frames to Action Units: faces are found, aligned as in training, and given to a network.

Everything is a stream. Decoding, detection and alignment run in threads beside the network, which
always sees batches of one compiled shape; memory does not depend on how long a video is.
"""

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TypeVar

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
from jaxau.morphable.aligned import FITTED, fit_aligned, model_for, openface_pose
from jaxau.morphable.linear_model import FaceModel
from jaxau.predict_queues import TupleNetwork, WindowNetwork
from jaxau.result_table import Face, FrameFaces, rows, schema

T = TypeVar("T")


class Predictor:
    """A trained network with the alignment, thresholds and AU order of its checkpoint.

    Args:
      model: `jaxau.checkpoint.load_model`.
      detector: finds faces where no landmarks are given.
      batch_size: stills, clips or tuples per call of the network; results do not depend on it.
      pose: fit the head's pose, too, where a face has 49, 66, 68 or 98 landmarks.
      face_model: that was fitted to the training data; None = the built-in one.

    Raises:
      ValueError: the checkpoint is of a stage that detects no AUs, its alignment is unknown, its
        thresholds are not one for each AU, or it was trained with another face model.
    """

    def __init__(
        self,
        model: Model,
        detector: YuNet | None = None,
        batch_size: int | None = None,
        pose: bool = False,
        face_model: FaceModel | None = None,
    ) -> None:
        self.info = info = model.info
        if not info.get("detects_aus", True):
            raise ValueError(
                f"checkpoint of the stage {info['stage']!r} of {info['network']}: it detects no AUs; give "
                "the folder of a stage that does, or of a run whose last stage does"
            )
        check_alignment(info["alignment"])
        self.aus = facs.check_aus(info["aus"])
        self.thresholds = np.asarray(info["thresholds"], np.float64)
        if self.thresholds.shape != (len(self.aus),):
            raise ValueError(
                f"checkpoint with thresholds {info['thresholds']} for the AUs {list(self.aus)}: there must "
                "be one for each; the checkpoint is damaged, copy it or train it again"
            )
        self.detector = detector
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: must be at least 1; leave it out")
        self._resize_to = int(info["resize_to"])
        self.pose, self._face_model = pose, face_model
        self._asks_expression = "expression" in info.get("inputs", ())
        trained_with, given = info.get("face_model"), "built-in" if face_model is None else face_model.name
        if self._asks_expression and trained_with not in (None, given):
            raise ValueError(
                f"checkpoint that was trained with the face model {trained_with!r}: its expressions mean "
                f"something else than those of {given!r}; give that model"
            )
        self._network: WindowNetwork | TupleNetwork = (
            TupleNetwork(model, batch_size)
            if info.get("neighbor_distance")
            else WindowNetwork(model, batch_size)
        )

    @property
    def needs_every_frame(self) -> bool:
        """Whether the network looks at a face's neighbours in time."""
        return bool(self.info["clip_length"] or self.info.get("neighbor_distance"))

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
            if self.pose or self._asks_expression:
                self._fit(face, matrix)
        return FrameFaces(frame.index, frame.timestamp, faces, frame.image.shape[1])

    def _fit(self, face: Face, matrix: np.ndarray) -> None:
        """Expression and pose, where the face has enough landmarks and they can be fitted."""
        if face.landmarks is None or len(face.landmarks) not in FITTED:
            return
        model, alignment = model_for(len(face.landmarks), self._face_model), self.info["alignment"]
        found = fit_aligned(model, transform_points(face.landmarks, matrix)[None], alignment)
        if found.ok[0]:
            face.expression = found.expression[0].astype(np.float32)
            face.pose = openface_pose(found.rotation[0], matrix)

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
        queue = self._network.queue()
        waiting: deque[FrameFaces | T] = deque()
        # Frames without faces wait behind a batch that is not full: only so many.
        patience = max(256, 2 * self._network.look_ahead)
        for item in items:
            waiting.append(item)
            if isinstance(item, FrameFaces):
                queue.add(item)
            else:
                queue.end()
            queue.run(whole=len(waiting) > patience)
            while waiting and _is_done(waiting[0]):
                yield waiting.popleft()
        queue.end()
        queue.run(whole=True)
        yield from waiting

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
            for item in self.stream(in_background(prepared(), 2 * self._network.batch_size))
            if isinstance(item, FrameFaces)
            for row in rows(item, name, self.aus, self.thresholds)
        ]
        return pa.Table.from_pylist(table, schema(self.aus, pose=self.pose)).to_pandas()


def load(
    checkpoint: Path | str,
    detector: YuNet | None = None,
    batch_size: int | None = None,
    pose: bool = False,
    face_model: FaceModel | None = None,
) -> Predictor:
    """Open a checkpoint for prediction.

    Args:
      checkpoint: a run's folder, a stage's folder in it, or an inference checkpoint.
      detector: `jaxau.faces.detect.YuNet`, to predict pictures without given landmarks.
      batch_size: stills, clips or tuples per call of the network.

    Returns:
      A predictor: ``predictor(frames, landmarks=None)``, ``predictor.video(path, landmarks=None)``.

    Raises:
      ValueError: the checkpoint cannot be read.
    """
    return Predictor(load_model(checkpoint), detector, batch_size, pose, face_model)


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
