"""Which frames of a video make an example: LAC's temporal sampling, and consecutive windows."""

import numpy as np
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
