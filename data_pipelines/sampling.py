"""Which frames of a video make an example: LAC's temporal sampling, and consecutive windows."""

from collections.abc import Sequence

import numpy as np

# Separates these draws from all others that use the same seed.
_STREAM = 0x5A3B


def clips_in_video(frames: int, clip_length: int, subsequences: int, video: str) -> int:
    """How many clips an epoch draws from a video (LAC, Algorithm 1, line 4).

    That is one from each of N_sep subsequences; where these would be shorter than a clip, the video
    is divided into as many as hold one [choice: the paper does not say].

    Args:
      frames: of the video, N_F.
      clip_length: t.
      subsequences: N_sep.
      video: its name, for the error.

    Raises:
      ValueError: the whole video is shorter than a clip.
    """
    if frames < clip_length:
        raise ValueError(
            f"video {video} has {frames} frames: a clip needs clip_length={clip_length}; use "
            'shorter clips, sampling="all", or leave the video out'
        )
    return min(subsequences, frames // clip_length)


def clip_start(
    frames: int,
    clip_length: int,
    clips: int,
    j: int,
    *,
    seed: int,
    epoch: int,
    video: tuple[int, int],
) -> int:
    """First frame of the clip drawn from a video's subsequence ``j`` in ``epoch``.

    LAC, Algorithm 1: N_SF = floor(N_F / N_sep) frames belong to each subsequence, and the start is
    random inside it. Two things are read into the printed algorithm: the start is moved by j N_SF
    (which line 6 omits, so that all clips would come from the first subsequence), and a clip has t
    frames that may end with the subsequence's last one.

    Args:
      frames: of the video, N_F.
      clip_length: t.
      clips: from `clips_in_video`.
      j: subsequence, 0 .. clips - 1.
      seed: of the run.
      epoch: from 0; each epoch draws anew.
      video: subject and video number; the draw does not depend on the other videos of the split.

    Returns:
      Position in the video, from 0.
    """
    length = frames // clips
    rng = np.random.default_rng([_STREAM, seed, epoch, *video, j])
    return j * length + int(rng.integers(0, length - clip_length + 1))


def windows(frame_numbers: Sequence[int], clip_length: int) -> list[tuple[np.ndarray, np.ndarray]]:
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
