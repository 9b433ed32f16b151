"""Expression triplets: which two of three faces look more alike, in the form of Google's FEC data set.

Two distances between expressions that neither identity nor pose nor light can enter: how far the same mean
face would move, and how far the AU intensities are apart. A triplet is kept only if both agree, with a
margin, on which of the three is the odd one.

Most triplets show three people. In the hard ones two faces are of one person, from different clips where
there are several, and which two they are is drawn evenly over the three pairs: in a fifth of all triplets the
odd face is of the same person as one of the pair, so that whoever looks at people instead of expressions is
wrong, and in a tenth the pair is one person, so that he is right. Over the hard ones people tell nothing:
looking at them is at chance, a third, and so is a distance of pixels.
"""

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics.pairwise import euclidean_distances

from data_pipelines.synthetic.faces import SynthFaces
from data_pipelines.synthetic.profiles import PROFILES
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import limit_weights
from jaxau.morphable.grid import Bools, Floats, Ints, gaussian
from jaxau.morphable.head import REFERENCE_X, REFERENCE_Y
from jaxau.morphable.identity import MODES
from jaxau.morphable.shape import HeadShape

MISLEADING_SHARE, MATCHED_SHARE = 0.2, 0.1
"""Of all triplets: the odd face is of the same person as one of the pair; the pair is one person."""

_SECONDS = 1.0  # of a clip from one candidate to the next
_VERTEX_STEP = 2  # every second vertex each way tells as much
_PRESENT = 1.5
_FACE = (-118.0, 75.0)  # mm of height that the distance looks at
_CLASSES = {1: "ONE_CLASS_TRIPLET", 2: "TWO_CLASS_TRIPLET", 3: "THREE_CLASS_TRIPLET"}
_ANNOTATORS = 6
_DRAWN, _MOST_DRAWS = 20_000, 500


class Triplets(NamedTuple):
    """n triplets; the third of each is the odd one.

    Attributes:
      frames: (n, 3, 3) int: subject, clip, t of anchor, positive and negative.
      triplet_class: (n,) how many different kinds of expression the three show, 1 to 3.
      shared: (n,) who is of one person: 0 nobody, 1 anchor and positive, 2 the negative and one of these.
      movement: (n, 3) mm, distances positive-negative, anchor-negative, anchor-positive on the mean face.
      intensity: (n, 3) the same in AU intensities.
    """

    frames: Ints
    triplet_class: Ints
    shared: Ints
    movement: Floats
    intensity: Floats

    @property
    def hard(self) -> Bools:
        """(n,) whether two of the three are of one person."""
        return np.asarray(self.shared > 0)


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
    people = sorted(set(subjects))
    if len(people) < 3:
        raise ValueError(f"subjects {list(subjects)}: triplets show three people, name at least three")
    if not 0 < margin <= 1:
        raise ValueError(f"margin = {margin}: use more than 0 (strict) to 1 (any order)")
    every = max(1, round(_SECONDS * faces.config.shape.fps))
    pool = np.array(
        [
            (subject, clip, t)
            for subject in people
            for clip in range(faces.config.shape.clips)
            for t in range(0, faces.config.shape.frames, every)
        ]
    )
    labels = np.stack([faces.labels(subject, clip)[t] for subject, clip, t in pool])
    distances = euclidean_distances(movement(labels)), squareform(pdist(labels))
    kind = kinds(labels)
    rng = np.random.default_rng([seed, faces.config.seed])
    misleading, matched = round(MISLEADING_SHARE * count), round(MATCHED_SHARE * count)
    wanted = {0: count - misleading - matched, 1: matched, 2: misleading}
    kept: dict[int, list[Ints]] = {shared: [np.zeros((0, 3), int)] for shared in wanted}
    for _ in range(_MOST_DRAWS):
        if all(sum(map(len, kept[shared])) >= number for shared, number in wanted.items()):
            break
        three = _with_odd_last(_draw_three(rng, pool), distances, margin)
        found = _shared(pool[three, 0])
        for shared in kept:
            kept[shared].append(three[found == shared])
    else:
        raise ValueError(
            f"{count} triplets with margin {margin} were not found among {len(pool)} faces: ask for fewer, "
            "or take more people or a wider margin"
        )
    chosen = np.concatenate([np.concatenate(kept[shared])[:number] for shared, number in wanted.items()])
    three = chosen[rng.permutation(count)]
    return Triplets(
        frames=pool[three],
        triplet_class=np.array([len(set(row)) for row in kind[three]]),
        shared=_shared(pool[three, 0]),
        movement=_of_pairs(distances[0], three),
        intensity=_of_pairs(distances[1], three),
    )


def _draw_three(rng: np.random.Generator, pool: Ints) -> Ints:
    """(m, 3) rows of the pool: three people, or two faces of one person, of different clips, and another."""
    three = rng.integers(len(pool), size=(_DRAWN, 3))
    subjects, clips = pool[:, 0], pool[:, 1]
    each = len(pool) // len(np.unique(subjects))
    two = three[: _DRAWN // 2]
    two[:, 1] = two[:, 0] // each * each + two[:, 1] % each  # of the first one's person
    elsewhere = clips if clips.any() else np.arange(len(pool))
    apart = elsewhere[two[:, 0]] != elsewhere[two[:, 1]]
    two = two[apart & (subjects[two[:, 0]] != subjects[two[:, 2]])]
    others = three[_DRAWN // 2 :]
    differ = (np.diff(np.sort(subjects[others], 1), axis=1) > 0).all(1)
    return np.concatenate([two, others[differ]])


def _with_odd_last(three: Ints, distances: tuple[Floats, Floats], margin: float) -> Ints:
    """Those of (m, 3) whose odd face is clear and the same by both distances, as the third."""
    by_movement, by_intensity = (_of_pairs(distance, three) for distance in distances)
    agreed = by_movement.argmin(1) == by_intensity.argmin(1)
    agreed &= _is_clear(by_movement, margin) & _is_clear(by_intensity, margin)
    odd = by_intensity[agreed].argmin(1)
    order = np.stack([(odd + 1) % 3, (odd + 2) % 3, odd], 1)
    return np.take_along_axis(three[agreed], order, 1)


def _shared(subjects: Ints) -> Ints:
    """(n,) of the subjects (n, 3) of anchor, positive and negative: see ``Triplets.shared``."""
    anchor, positive, negative = subjects.T
    misleads = (negative == anchor) | (negative == positive)
    return np.where(anchor == positive, 1, np.where(misleads, 2, 0))


def _of_pairs(distance: Floats, three: Ints) -> Floats:
    """(n, 3): the distance between the two others, for each of the three."""
    a, b, c = three.T
    return np.stack([distance[b, c], distance[a, c], distance[a, b]], 1)


def _is_clear(distances: Floats, margin: float) -> Bools:
    ordered = np.sort(distances, 1)
    return np.asarray(ordered[:, 0] < margin * ordered[:, 1])


def write_fec(faces: SynthFaces, triplets: Triplets, folder: Path, name: str) -> Path:
    """Write pictures and a table as FEC has them, for ``launch.prepare --corpus=fec``.

    A row holds, for each of three faces, its picture and its box as shares of width and height (left, right,
    top, bottom), then the class, then pairs of annotator and vote; a vote is the number of the odd face. The
    odd face's place is drawn at random.

    Returns:
      ``<folder>/faceexp-comparison-data-<name>-public.csv``; pictures lie beside it, their addresses are file
      names, and ``downloads.csv`` lists those of all tables.
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
    path = folder / f"faceexp-comparison-data-{name}-public.csv"
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
    files = sorted(picture.name for picture in folder.glob("S*.png"))
    (folder / "downloads.csv").write_text("\n".join(["url,file", *(f"{file},{file}" for file in files)]))
    return path


def _picture(subject: int, clip: int, t: int) -> str:
    return f"S{subject:03d}_{clip}_{t:03d}.png"
