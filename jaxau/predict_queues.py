"""From a stream of faces to batches of what a network is given: stills, windows of a track, or tuples.

A queue belongs to one stream of frames, a network to all of them, so that nothing is compiled twice. Batches
always have one shape; what they are filled up with, nobody reads.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxau.checkpoint import Model
from jaxau.faces.flow import tuple_flow
from jaxau.morphable.linear_model import EXPRESSIONS
from jaxau.result_table import Face, FrameFaces

STILLS_PER_BATCH = 16
CLIPS_PER_BATCH = 4
TUPLES_PER_BATCH = 8


_OF_A_FACE: dict[str, tuple[tuple[int, ...], type]] = {
    "expression": ((EXPRESSIONS,), np.float32),
    "expression_mask": ((), np.bool_),
}
"""Inputs of a network on stills beside the picture: shape of one, and type."""


# ---- stills and windows --------------------------------------------------------------------------


class WindowNetwork:
    """A network that is given stills (b, h, w, 3), or windows of ``clip_length`` frames (b, t, h, w, 3).

    ``step(variables, image, state, *further) -> (probability, state)`` is compiled. The state is None unless
    the network's outputs have one, what a recurrent network must be given when it goes on with the next
    frames; ``first_state`` is that of one new track, zeros.
    """

    def __init__(self, model: Model, batch_size: int | None = None) -> None:
        self.clip_length, side = int(model.info["clip_length"]), int(model.info["image_size"])
        self.batch_size = batch_size or (CLIPS_PER_BATCH if self.clip_length else STILLS_PER_BATCH)
        self.image_shape = (self.batch_size, max(1, self.clip_length), side, side, 3)
        self.variables = jax.device_put(model.variables)

        shape = self.image_shape if self.clip_length else (self.batch_size, side, side, 3)
        image = jax.ShapeDtypeStruct(shape, np.uint8)
        # Features are what a model makes of pictures itself; stills may come with the face's expression.
        self.further = tuple(name for name in model.info.get("inputs", ()) if name in _OF_A_FACE)
        further: list[Any] = [
            jax.ShapeDtypeStruct((self.batch_size, *_OF_A_FACE[n][0]), _OF_A_FACE[n][1]) for n in self.further
        ]
        outputs: Any = jax.eval_shape(
            lambda v, x, *of: model.network.apply(v, x, *of, train=False), self.variables, image, *further
        )
        self.first_state = None
        if "state" in outputs:
            self.first_state = jax.tree.map(
                lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), outputs["state"]
            )

        @jax.jit
        def step(variables: Any, image: jax.Array, state: Any, *further: Any) -> tuple[jax.Array, Any]:
            memory = {} if state is None else {"state": state}
            outputs: Any = model.network.apply(variables, image, *further, train=False, **memory)
            return _probabilities(outputs), outputs.get("state")

        self.step = step

    @property
    def look_ahead(self) -> int:
        """Frames that may have to be read before one can be predicted."""
        return self.clip_length * self.batch_size

    def queue(self) -> "WindowQueue":
        """For one stream of frames."""
        return WindowQueue(self)


@dataclass
class _Track:
    """A face over frames without a gap, and what the network remembers of it."""

    state: Any = None  # of a network that carries one from window to window


@dataclass
class _Window:
    """One sample of the network: a single face, or consecutive frames of a track."""

    track: _Track
    faces: list[Face] = field(default_factory=list)


class WindowQueue:
    """Cuts the faces of a stream into windows, and predicts these."""

    def __init__(self, network: WindowNetwork) -> None:
        self._network = network
        self._open: dict[int, _Window] = {}
        self._samples: list[_Window] = []

    def add(self, frame: FrameFaces) -> None:
        """Take in the next frame."""
        faces = [face for face in frame.faces if face.crop is not None]
        if not self._network.clip_length:
            self._samples += [_Window(_Track(), [face]) for face in faces]
            return
        present = {face.face_id for face in faces}
        # A track with a gap goes on as a new one: the network expects neighbours in time.
        closed = [self._open.pop(face_id) for face_id in list(self._open) if face_id not in present]
        self._samples += [window for window in closed if window.faces]
        for face in faces:
            assert face.face_id is not None
            window = self._open.setdefault(face.face_id, _Window(_Track()))
            window.faces.append(face)
            if len(window.faces) == self._network.clip_length:
                self._samples.append(window)
                self._open[face.face_id] = _Window(window.track)

    def end(self) -> None:
        """All tracks end here: a video begins or ends."""
        self._samples += [window for window in self._open.values() if window.faces]
        self._open.clear()

    def run(self, whole: bool) -> None:
        """Predict full batches, with ``whole`` also what is left."""
        while len(self._samples) >= self._network.batch_size or (whole and self._samples):
            self._run_batch()

    def _run_batch(self) -> None:
        """Predict the first windows, of as many tracks as fill a batch."""
        network = self._network
        batch, self._samples = self._first_of_tracks()
        image = np.zeros(network.image_shape, np.uint8)
        for row, window in zip(image, batch, strict=False):
            for t, face in enumerate(window.faces):
                assert face.crop is not None
                row[t] = face.crop
            row[len(window.faces) :] = row[len(window.faces) - 1]
        state = network.first_state
        if state is not None:
            states = [state if w.track.state is None else w.track.state for w in batch]
            states += [state] * (network.batch_size - len(batch))
            state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        given = image if network.clip_length else image[:, 0]
        further: list[Any] = [
            np.zeros((network.batch_size, *_OF_A_FACE[n][0]), _OF_A_FACE[n][1]) for n in network.further
        ]
        for name, values in zip(network.further, further, strict=True):
            for i, window in enumerate(batch):
                expression = window.faces[0].expression
                if expression is not None:
                    values[i] = True if name == "expression_mask" else expression
        result, state = network.step(network.variables, given, state, *further)
        result = np.asarray(result).reshape(*image.shape[:2], -1)
        for i, (row, window) in enumerate(zip(result, batch, strict=False)):
            for probability, face in zip(row, window.faces, strict=False):
                _hand_out(face, probability)
            if state is not None:
                window.track.state = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), state)

    def _first_of_tracks(self) -> tuple[list[_Window], list[_Window]]:
        """Up to a batch of windows and the rest, in order; a network with a state gets one of each track."""
        size = self._network.batch_size
        if self._network.first_state is None:
            return self._samples[:size], self._samples[size:]
        batch: list[_Window] = []
        rest: list[_Window] = []
        for window in self._samples:
            known = any(window.track is other.track for other in batch + rest)
            (rest if known or len(batch) == size else batch).append(window)
        return batch, rest


# ---- tuples --------------------------------------------------------------------------------------


class TupleNetwork:
    """A network that is given the frames t - T, t, t + T of a track.

    One that has the methods ``features`` (image (b, h, w, 3) -> any arrays of b rows) and ``detect`` (these
    as (b, 3, ...), and the further inputs) sees each frame once; any other is given the three frames
    (b, 3, h, w, 3). Further inputs may be ``neighbor`` and ``flow``, as in the view ``tuples``.
    """

    def __init__(self, model: Model, batch_size: int | None = None) -> None:
        self.distance, side = int(model.info["neighbor_distance"]), int(model.info["image_size"])
        self.batch_size = batch_size or TUPLES_PER_BATCH
        self.image_shape = (self.batch_size, side, side, 3)
        self.further = tuple(model.info["inputs"][1:])
        self.variables = jax.device_put(model.variables)
        network = model.network
        has_methods = hasattr(type(network), "features")

        @jax.jit
        def features(variables: Any, image: jax.Array) -> Any:
            return network.apply(variables, image, method="features") if has_methods else image

        @jax.jit
        def detect(variables: Any, trio: Any, *further: jax.Array) -> jax.Array:
            outputs: Any = (
                network.apply(variables, trio, *further, method="detect")
                if has_methods
                else network.apply(variables, trio, *further, train=False)
            )
            return _probabilities(outputs)

        self.features, self.detect = features, detect

    @property
    def look_ahead(self) -> int:
        """Frames that may have to be read before one can be predicted."""
        return self.distance + 2 * self.batch_size

    def queue(self) -> "TupleQueue":
        """For one stream of frames."""
        return TupleQueue(self)


@dataclass
class _Seen:
    """A face of a frame: where it is in the stream, and what the network made of it."""

    video: int
    index: int
    face: Face
    crop: np.ndarray
    features: Any = None

    def key(self, step: int = 0) -> tuple[int, int, int]:
        """Of the same face so many frames later."""
        assert self.face.face_id is not None
        return self.video, self.face.face_id, self.index + step


class TupleQueue:
    """Finds the neighbours of the faces of a stream, and predicts these.

    Neighbours are the same face in the same video, exactly T frames away, whatever lies between; where there
    is none, the face itself stands in, as in training. Features are kept for 2 T + 1 frames and a batch.
    """

    def __init__(self, network: TupleNetwork) -> None:
        self._network = network
        self._video, self._newest = 0, 0
        self._new: deque[_Seen] = deque()  # without features yet
        self._open: deque[_Seen] = deque()  # not predicted yet
        self._kept: dict[tuple[int, int, int], _Seen] = {}

    def add(self, frame: FrameFaces) -> None:
        """Take in the next frame."""
        self._newest = frame.index
        for face in frame.faces:
            if face.crop is not None:
                seen = _Seen(self._video, frame.index, face, face.crop)
                self._new.append(seen)
                self._open.append(seen)
                self._kept[seen.key()] = seen

    def end(self) -> None:
        """All tracks end here: a video begins or ends."""
        self._video, self._newest = self._video + 1, 0

    def run(self, whole: bool) -> None:
        """Predict full batches, with ``whole`` also what is left and has its neighbours."""
        size = self._network.batch_size
        while len(self._new) >= size or (whole and self._new):
            self._find_features([self._new.popleft() for _ in range(min(size, len(self._new)))])
        ready = sum(1 for seen in self._open if self._has_neighbors(seen))
        while ready >= size or (whole and ready):
            batch = [self._open.popleft() for _ in range(min(size, ready))]
            self._detect(batch)
            ready -= len(batch)
        self._forget()

    def _has_neighbors(self, seen: _Seen) -> bool:
        """Whether what it needs is known: its features, and those of all frames up to t + T."""
        if self._new and (seen.video, seen.index + self._network.distance) >= (
            self._new[0].video,
            self._new[0].index,
        ):
            return False
        return seen.video < self._video or seen.index + self._network.distance <= self._newest

    def _find_features(self, batch: list[_Seen]) -> None:
        image = np.zeros(self._network.image_shape, np.uint8)
        for row, seen in zip(image, batch, strict=False):
            row[:] = seen.crop
        features = self._network.features(self._network.variables, image)
        for i, seen in enumerate(batch):
            seen.features = jax.tree.map(lambda leaf, i=i: leaf[i], features)

    def _detect(self, batch: list[_Seen]) -> None:
        network = self._network
        step = network.distance
        trios = [[self._kept.get(seen.key(at), seen) for at in (-step, 0, step)] for seen in batch]
        filled = trios + [trios[-1]] * (network.batch_size - len(batch))
        rows = [jax.tree.map(lambda *of: jnp.stack(of), *[seen.features for seen in trio]) for trio in filled]
        features = jax.tree.map(lambda *of: jnp.stack(of), *rows)
        further = [np.stack([_further(name, trio) for trio in filled]) for name in network.further]
        result = np.asarray(network.detect(network.variables, features, *further))
        for seen, probability in zip(batch, result, strict=False):
            _hand_out(seen.face, probability)

    def _forget(self) -> None:
        """Drop what is no neighbour of any face that is open or still to come."""
        oldest = self._open[0] if self._open else None
        video, index = (oldest.video, oldest.index) if oldest else (self._video, self._newest + 1)
        while self._kept:
            key, first = next(iter(self._kept.items()))
            if (first.video, first.index) >= (video, index - self._network.distance):
                break
            del self._kept[key]


def _further(name: str, trio: list[_Seen]) -> np.ndarray:
    """An input of a tuple beside its pictures."""
    before, middle, after = trio
    if name == "neighbor":
        return np.array([before is not middle, True, after is not middle])
    assert name == "flow", name
    return tuple_flow(np.stack([seen.crop for seen in trio]))


def _probabilities(outputs: Any) -> jax.Array:
    return jax.nn.sigmoid(outputs["logits"].astype(np.float32))


def _hand_out(face: Face, probability: np.ndarray) -> None:
    if not np.isfinite(probability).all():
        raise ValueError(
            f"the network's probabilities are {probability}: must be finite; the checkpoint is damaged, "
            "train it again or take an earlier one"
        )
    face.probability, face.crop = probability, None
