"""Which pictures make an example: LAC's temporal sampling, windows, tuples, chains of triplets."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# Separates these draws from all others that use the same seed.
_STREAM = 0x5A3B


def clip_starts(
    frame_numbers: ArrayLike, clip_length: int, subsequences: int, video: str
) -> list[np.ndarray]:
    """Where clips may start in a video: for each subsequence of LAC's Algorithm 1 its possible starts.

    N_SF = floor(N_F / N_sep) frames belong to each of N_sep subsequences, and an epoch draws one clip
    from each (line 4). Three things are read into the printed algorithm: the start is moved by j N_SF
    (which line 6 omits, so that all clips would come from the first subsequence); a clip has t frames
    that may end with the subsequence's last one; and where subsequences would be shorter than a clip,
    the video is divided into as many as hold one. A clip never spans a gap in the frame numbers: a
    subsequence with no run of t frames gives none.

    Args:
      frame_numbers: of the video's N_F records, increasing.
      clip_length: t.
      subsequences: N_sep.
      video: its name, for the error.

    Returns:
      Positions in the video, from 0, in order; one array for each subsequence that holds a clip.

    Raises:
      ValueError: the video has no t consecutive frames.
    """
    numbers = np.asarray(frame_numbers)
    parts = max(min(subsequences, len(numbers) // clip_length), 1)
    length = len(numbers) // parts
    found = []
    for j in range(parts):
        starts = j * length + np.arange(length - clip_length + 1)
        starts = starts[numbers[starts + clip_length - 1] - numbers[starts] == clip_length - 1]
        if len(starts):
            found.append(starts)
    if not found:
        raise ValueError(
            f"video {video} has {len(numbers)} frames, of which no {clip_length} are consecutive: a clip "
            f'needs clip_length={clip_length}; use shorter clips, sampling="all", or leave the video out'
        )
    return found


def draw_start(starts: np.ndarray, j: int, *, seed: int, epoch: int, video: tuple[int, int]) -> int:
    """The start of the clip drawn from a video's ``j``-th entry of `clip_starts` in ``epoch``.

    Args:
      starts: that entry.
      j: its number, from 0.
      seed: of the run.
      epoch: from 0; each epoch draws anew.
      video: subject and video number; the draw does not depend on the other videos of the split.

    Returns:
      Position in the video, from 0.
    """
    rng = np.random.default_rng([_STREAM, seed, epoch, *video, j])
    return int(starts[rng.integers(0, len(starts))])


def longest_run(frame_numbers: ArrayLike) -> int:
    """Frames of the longest gapless run of a video, whose frame numbers (increasing) are given."""
    numbers = np.asarray(frame_numbers)
    ends = np.flatnonzero(np.diff(numbers, append=np.inf) != 1)
    return int(np.diff(ends, prepend=-1).max(initial=0))


def tuples(frame_numbers: ArrayLike, distance: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each frame of a video with its neighbours (AUNet).

    Args:
      frame_numbers: of the video's records, increasing.
      distance: T; the neighbours are the frames with exactly the numbers t - T and t + T.

    Returns:
      For each frame positions (3,) of t - T, t, t + T, and neighbor (3,) bool, False where there is no such
      frame and the middle one stands in.
    """
    numbers = np.asarray(frame_numbers)
    position = {int(number): i for i, number in enumerate(numbers)}
    found = []
    for i, number in enumerate(numbers):
        trio = [position.get(int(number) + step) for step in (-distance, 0, distance)]
        positions = np.array([i if at is None else at for at in trio])
        found.append((positions, np.array([at is not None for at in trio])))
    return found


def windows(frame_numbers: ArrayLike, clip_length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Consecutive windows without overlap, which together hold each frame of a video once.

    A window never spans a gap in the frame numbers. The last window of each gapless run is filled
    by repeating its last frame (as MDHR's public code does), masked.

    Args:
      frame_numbers: of the video's records, increasing.
      clip_length: frames of a window, t.

    Returns:
      For each window positions in the video (t,) int64 and mask (t,) bool, False where repeated.
    """
    numbers = np.asarray(frame_numbers)
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    found = []
    for run in np.split(np.arange(len(numbers)), breaks):
        for first in range(0, len(run), clip_length):
            positions = run[first : first + clip_length]
            mask = np.arange(clip_length) < len(positions)
            padding = np.repeat(positions[-1:], clip_length - len(positions))
            found.append((np.concatenate([positions, padding]), mask))
    return found


def shared_windows(
    frame_numbers: ArrayLike, clip_length: int, distance: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows in which each frame that has both neighbours in its gapless run counts once (AUNet).

    Windows overlap by 2 T frames, which are neighbours alone; the last one of a run ends with it. One that is
    longer than the run is filled by repeating the last frame.

    Args:
      frame_numbers: of the video's records, increasing.
      clip_length: frames of a window, t, more than 2 T.
      distance: T.

    Returns:
      For each window positions in the video (t,) int64 and mask (t,) bool, where a frame counts.
    """
    numbers = np.asarray(frame_numbers)
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    found = []
    for run in np.split(np.arange(len(numbers)), breaks):
        for first in range(0, len(run) - 2 * distance, clip_length - 2 * distance):
            last = min(first + clip_length, len(run))  # behind the last frame that is new
            here = max(last - clip_length, 0) + np.arange(clip_length)
            mask = (here >= first + distance) & (here < last - distance)
            found.append((run[np.minimum(here, len(run) - 1)], mask))
    return found


_COMPARISON, _OPPOSITE = ["anchor", "near", "far"], ["anchor", "far", "near"]


def chained_triplets(annotated: ArrayLike) -> tuple[np.ndarray, int]:
    """Triplets that nobody annotated and that follow from those that share pictures (GLEE-Net, Sec. III-E).

    In an annotated triplet (a, b, c) a is nearer to b than to c, and b nearer to a than to c. Where a is
    nearer to b than to c, and nearer to c than to e, it is nearer to b than to e, and so on along chains of
    any length: that gives the triplet (a, b, e), which says nothing of b and e.

    Its class is the largest of the chain, of several chains the least [choice]: a, b and e are certainly of
    one class where all of the chain are; otherwise two comparisons apart deserve the wider margin.

    Args:
      annotated: (n, 4) int: three pictures, of which the third is the odd one, and a class from 1 to 3.

    Returns:
      (m, 4) int of the same form, in order of the pictures, none of them annotated, and how many were left
      out because the opposite is annotated or follows as well.
    """
    first, second, odd, kind = np.asarray(annotated, np.int64).reshape(-1, 4).T
    both = np.concatenate([[first, second, odd, kind], [second, first, odd, kind]], 1)
    said = _least(pd.DataFrame(both.T, columns=[*_COMPARISON, "kind"]))
    onward = said.rename(columns={"near": "far", "far": "farther", "kind": "next"})
    known, shorter = said, None
    while not known.equals(shorter):
        shorter = known
        longer = known.merge(onward, on=["anchor", "far"])
        longer["kind"] = longer[["kind", "next"]].max(axis=1)
        longer = longer.drop(columns=["far", "next"]).rename(columns={"farther": "far"})
        known = _least(pd.concat([known, longer]))
    places, opposite = (pd.MultiIndex.from_frame(known[order]) for order in (_COMPARISON, _OPPOSITE))
    new = ~places.isin(pd.MultiIndex.from_frame(said[_COMPARISON])) & (known["near"] != known["far"])
    contradicted = new & opposite.isin(places)
    return known[new & ~contradicted].to_numpy(np.int64), int(contradicted.sum())


def _least(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Each comparison once, in order, with the least of its classes."""
    return comparisons.groupby(_COMPARISON, as_index=False)["kind"].min()
