"""Expression triplets: which two of three faces look more alike, in the form of Google's FEC data set.

Two distances between expressions that neither identity nor pose nor light can enter: how far the same mean
face would move, and how far the AU intensities are apart. A triplet is kept only if both agree, with a
margin, on which of the three is the odd one. The three people differ; in the hard ones the odd face is of the
same person as one of the pair, so that whoever looks at people instead of expressions is wrong.
"""

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_pipelines.synthetic.faces import SynthFaces
from data_pipelines.synthetic.profiles import PROFILES
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import limit_weights
from jaxau.morphable.grid import Bools, Floats, Ints, gaussian
from jaxau.morphable.head import REFERENCE_X, REFERENCE_Y
from jaxau.morphable.identity import MODES
from jaxau.morphable.shape import HeadShape

HARD_SHARE = 0.2
_EVERY = 8  # frames of a clip from one candidate to the next
_VERTEX_STEP = 2  # every second vertex each way tells as much
_PRESENT = 1.5
_FACE = (-118.0, 75.0)  # mm of height that the distance looks at
_CLASSES = {1: "ONE_CLASS_TRIPLET", 2: "TWO_CLASS_TRIPLET", 3: "THREE_CLASS_TRIPLET"}
_ANNOTATORS = 6


class Triplets(NamedTuple):
    """n triplets; the third of each is the odd one.

    Attributes:
      frames: (n, 3, 3) int: subject, clip, t of anchor, positive and negative.
      triplet_class: (n,) how many different kinds of expression the three show, 1 to 3.
      hard: (n,) whether the negative is of the same person as the anchor or the positive.
      movement: (n, 3) mm, distances positive-negative, anchor-negative, anchor-positive on the mean face.
      intensity: (n, 3) the same in AU intensities.
    """

    frames: Ints
    triplet_class: Ints
    hard: Bools
    movement: Floats
    intensity: Floats


@lru_cache(maxsize=1)
def _mean_face() -> tuple[HeadShape, Floats]:
    """The mean head, and the share (ROWS, COLUMNS) of each vertex in a distance."""
    share = gaussian(REFERENCE_X, 45) * (REFERENCE_Y > _FACE[0]) * (REFERENCE_Y < _FACE[1])
    return HeadShape(np.zeros(len(MODES))), share / share[::_VERTEX_STEP, ::_VERTEX_STEP].sum()


def movement(intensities: Floats) -> Floats:
    """What AU intensities (n, 25) do to the mean face: (n, d), whose Euclidean distances are RMS mm."""
    head, share = _mean_face()
    root = np.sqrt(share[::_VERTEX_STEP, ::_VERTEX_STEP])[..., None]
    rest = head.vertices(np.zeros(len(SYNTHETIC_AUS)))
    moved = [head.vertices(limit_weights(row / 5)) - rest for row in intensities]
    return np.stack([(field[::_VERTEX_STEP, ::_VERTEX_STEP] * root).ravel() for field in moved])


def kinds(intensities: Floats) -> Ints:
    """(n,) number of the expression in the balanced profile that each face is most like; -1 neutral."""
    events = np.array(
        [[event.aus.get(au, 0.0) for au in SYNTHETIC_AUS] for event in PROFILES["balanced"].events.values()]
    )
    unit = events / np.linalg.norm(events, axis=1, keepdims=True)
    likeness = (intensities @ unit.T).argmax(1)
    return np.where((intensities >= _PRESENT).any(1), likeness, -1)


def draw_triplets(
    faces: SynthFaces, subjects: Sequence[int], count: int, margin: float = 0.7, seed: int = 0
) -> Triplets:
    """Draw triplets of the expressions of some people, without drawing their pictures.

    Args:
      faces: the data set.
      subjects: whose faces; three at least, such as those of a fold.
      count: number of triplets.
      margin: a triplet is kept if the smallest of its three distances is less than this share of the second
        smallest, by both distances, and both call the same face odd.
      seed: of the draw.

    Raises:
      ValueError: fewer than three subjects, or a margin outside 0..1.
    """
    if len(set(subjects)) < 3:
        raise ValueError(f"subjects {list(subjects)}: triplets show three people, name at least three")
    if not 0 < margin <= 1:
        raise ValueError(f"margin = {margin}: use more than 0 (strict) to 1 (any order)")
    pool = np.array(
        [
            (subject, clip, t)
            for subject in subjects
            for clip in range(faces.config.shape.clips)
            for t in range(0, faces.config.shape.frames, _EVERY)
        ]
    )
    labels = np.stack([faces.labels(subject, clip)[t] for subject, clip, t in pool])
    moved, kind = movement(labels), kinds(labels)
    rng = np.random.default_rng([seed, faces.config.seed])
    hard_wanted = round(HARD_SHARE * count)
    kept: dict[bool, list[tuple[Ints, Floats, Floats]]] = {True: [], False: []}
    wanted = {True: hard_wanted, False: count - hard_wanted}
    for _ in range(500):
        if all(sum(len(part[0]) for part in kept[hard]) >= wanted[hard] for hard in kept):
            break
        three = rng.integers(len(pool), size=(20_000, 3))
        by_movement = _pair_distances(moved, three)
        by_intensity = _pair_distances(labels, three)
        agreed = by_movement.argmin(1) == by_intensity.argmin(1)
        agreed &= _is_clear(by_movement, margin) & _is_clear(by_intensity, margin)
        three, by_movement, by_intensity = (x[agreed] for x in (three, by_movement, by_intensity))
        odd = by_intensity.argmin(1)
        order = np.stack([(odd + 1) % 3, (odd + 2) % 3, odd], 1)
        three, by_movement, by_intensity = (
            np.take_along_axis(x, order, 1) for x in (three, by_movement, by_intensity)
        )
        anchor, positive, negative = pool[three, 0].T
        shared = (negative == anchor) | (negative == positive)
        for hard, fits in ((True, shared), (False, ~shared)):
            fits = fits & (anchor != positive)
            kept[hard].append((three[fits], by_movement[fits], by_intensity[fits]))
    else:
        raise ValueError(
            f"{count} triplets with margin {margin} were not found among {len(pool)} faces: ask for fewer, "
            "or take more people or a wider margin"
        )
    chosen = [
        tuple(np.concatenate(parts)[: wanted[hard]] for parts in zip(*kept[hard], strict=True))
        for hard in kept
    ]
    three, by_movement, by_intensity = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    is_hard = np.arange(count) < hard_wanted
    classes = np.array([len(set(row)) for row in kind[three]])
    mixed = rng.permutation(count)
    fields = (pool[three], classes, is_hard, by_movement, by_intensity)
    return Triplets(*(field[mixed] for field in fields))


def _pair_distances(values: Floats, three: Ints) -> Floats:
    """(n, 3): the distance between the two others, for each of the three."""
    a, b, c = (values[three[:, i]] for i in range(3))
    return np.stack([np.linalg.norm(x - y, axis=1) for x, y in ((b, c), (a, c), (a, b))], 1)


def _is_clear(distances: Floats, margin: float) -> Bools:
    ordered = np.sort(distances, 1)
    return np.asarray(ordered[:, 0] < margin * ordered[:, 1])


def write_fec(faces: SynthFaces, triplets: Triplets, folder: Path, name: str) -> Path:
    """Write pictures and a table as FEC has them; the addresses are file names.

    A row holds, for each of three faces, its picture and its box as shares of width and height (left, right,
    top, bottom), then the class, then pairs of annotator and vote; a vote is the number of the odd face. The
    odd face's place is drawn at random.

    Returns:
      ``<folder>/faceexp-comparison-data-<name>.csv``; pictures lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = faces.config.shape.size
    rng = np.random.default_rng(len(triplets.frames))
    boxes: dict[tuple[int, int, int], list[float]] = {}
    for subject, clip, t in np.unique(triplets.frames.reshape(-1, 3), axis=0):
        frame = faces.frame(int(subject), int(clip), int(t))
        picture = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / _picture(subject, clip, t)), picture)
        (left, top), (right, bottom) = frame.lm68.min(0), frame.lm68.max(0)
        sides = np.clip(np.array([left, right, top, bottom]) / size, 0, 1)
        boxes[int(subject), int(clip), int(t)] = [round(float(side), 5) for side in sides]
    path = folder / f"faceexp-comparison-data-{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for three, triplet_class in zip(triplets.frames, triplets.triplet_class, strict=True):
            order = rng.permutation(3)
            row: list[str | float | int] = []
            for subject, clip, t in three[order]:
                row += [_picture(subject, clip, t), *boxes[int(subject), int(clip), int(t)]]
            row.append(_CLASSES[int(triplet_class)])
            odd = int(np.flatnonzero(order == 2)[0]) + 1
            for annotator in range(_ANNOTATORS):
                row += [f"synthetic{annotator}", odd]
            writer.writerow(row)
    return path


def _picture(subject: int, clip: int, t: int) -> str:
    return f"S{subject:03d}_{clip}_{t:03d}.png"
