"""Event metrics: are whole segments of an AU found, from onset to offset, rather than single frames?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxau import facs
from jaxau.metrics import intervals
from jaxau.metrics.counts import f1_from_counts

EventScore = dict[str, Any]
"""What `event_score` returns, ready for JSON."""


def segments(
    present: NDArray[np.bool_],
    coded: NDArray[np.bool_],
    group: NDArray[np.integer],
    frame: NDArray[np.integer],
    step: int = 1,
) -> NDArray[np.int64]:
    """Runs of frames in which an AU is present.

    A segment ends where the AU is absent, where it is not coded, where a frame is missing (the next one is
    more than ``step`` on) and at the end of a video.

    Args:
      present: (n,) of one AU.
      coded: (n,) False where it is not coded.
      group: (n,) number of the video; rows in order of group and, within it, of frame.
      frame: (n,) numbers.
      step: between neighbouring frames.

    Returns:
      (s, 2): first row and last row of each segment, inclusive.
    """
    on = present & coded
    follows = np.zeros(len(on), bool)  # the row goes on where the one before it stood
    follows[1:] = on[1:] & on[:-1] & (group[1:] == group[:-1]) & (frame[1:] - frame[:-1] <= step)
    onsets = np.flatnonzero(on & ~follows)
    offsets = np.flatnonzero(on & ~np.append(follows[1:], False))
    return np.stack([onsets, offsets], axis=1)


def matches(predicted: NDArray[np.int64], true: NDArray[np.int64], overlap: float = 0.5) -> NDArray[np.int64]:
    """The true segments that find a partner, one to one, with an intersection over union of ``overlap``.

    From .5 on, the number does not depend on who is paired first: above .5 a segment has one possible
    partner, and at exactly .5 two candidates are halves of the same segment and have no other.

    Args:
      predicted: (p, 2) first and last frame, inclusive, ascending and disjoint, as of `segments`.
      true: (t, 2) likewise.
      overlap: in [.5, 1].

    Returns:
      (m,) indices into ``true``.
    """
    found, start = [], 0
    for event, (onset, offset) in enumerate(true):
        while start < len(predicted) and predicted[start, 1] < onset:
            start += 1
        for index in range(start, len(predicted)):
            first, last = predicted[index]
            if first > offset:
                break
            intersection = min(last, offset) - max(first, onset) + 1
            if intersection >= overlap * (max(last, offset) - min(first, onset) + 1):
                found.append(event)
                start = index + 1
                break
    return np.array(found, np.int64)


def event_score(
    present: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    subject: ArrayLike,
    video: ArrayLike,
    frame: ArrayLike,
    aus: Sequence[int],
    overlap: float = 0.5,
    step: int = 1,
    bootstrap: int = 1000,
    seed: int = 0,
) -> EventScore:
    """Precision, recall and F1 of events: segments of occurrence, from onset to offset.

    A predicted and a true segment match if the frames they share are at least ``overlap`` of the frames that
    either covers; each matches at most once. Frames where the AU is not coded belong to no segment of either
    side, and end one.

    Args:
      present: (n, k) predicted occurrence, 0 or 1; values under a False mask are never read.
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where coded.
      subject, video: (n,) ids; together they name a recording.
      frame: (n,) integers.
      aus: the k AU numbers, in the order of the columns.
      overlap: least intersection over union, in [.5, 1].
      step: between neighbouring frames; more where only each so many-th frame is coded.
      bootstrap, seed: number and seed of the draws of subjects for the 95 % intervals, as of `score`.

    Returns:
      ``per_au``: a list of {au, f1, f1_low, f1_high, precision, recall, true_events, predicted_events,
      matched}, F1 and recall None without a true event, precision None without a predicted one; ``mean``:
      {f1, f1_low, f1_high, aus, undefined} over the AUs with true events; ``overlap``, ``step``.

    Raises:
      ValueError: shapes differ, an overlap outside [.5, 1], or a frame that comes twice in a video.
    """
    aus = facs.check_aus(aus)
    present, truth, mask = (np.asarray(values).astype(bool) for values in (present, truth, mask))
    subject, video, frame = np.asarray(subject), np.asarray(video), np.asarray(frame)
    if not present.shape == truth.shape == mask.shape == (len(frame), len(aus)):
        raise ValueError(
            f"present {present.shape}, truth {truth.shape} and mask {mask.shape}: all three must be "
            f"({len(frame)} frames, {len(aus)} AUs)"
        )
    if not 0.5 <= overlap <= 1:
        raise ValueError(
            f"overlap {overlap}: an intersection over union in [.5, 1] is needed; below .5 the matches "
            "depend on the order of pairing"
        )
    group = _groups(subject, video)
    order = np.lexsort((frame, group))
    group, frame = group[order], frame[order]
    twice = np.flatnonzero((group[1:] == group[:-1]) & (frame[1:] == frame[:-1]))
    if len(twice):
        raise ValueError(
            f"frame {frame[twice[0]]} of subject {subject[order][twice[0]]}, video {video[order][twice[0]]} "
            f"comes twice ({len(twice)} such frames): give each frame once"
        )
    present, truth, mask = present[order], truth[order], mask[order]
    names, index = np.unique(subject[order], return_inverse=True)
    counts = np.zeros((len(names), len(aus), 4), np.int64)  # true positives, false positives and negatives, 0
    for column in range(len(aus)):
        arrays = mask[:, column], group, frame, step
        predicted, true = (segments(values[:, column], *arrays) for values in (present, truth))
        matched = true[matches(predicted, true, overlap)]
        of_subject = [
            np.bincount(index[one[:, 0]], minlength=len(names)) for one in (matched, predicted, true)
        ]
        counts[:, column, 0] = of_subject[0]
        counts[:, column, 1] = of_subject[1] - of_subject[0]
        counts[:, column, 2] = of_subject[2] - of_subject[0]
    is_coded = np.bincount(index, mask.any(axis=1), minlength=len(names)) > 0
    return _scored(counts[is_coded], aus, bootstrap, seed) | {"overlap": overlap, "step": step}


def _scored(counts: NDArray[np.int64], aus: Sequence[int], bootstrap: int, seed: int) -> EventScore:
    """From the counts (s, k, 4) of events, with the fourth left 0."""
    f1 = f1_from_counts(counts.sum(axis=0))
    subjects = len(counts)
    draws = np.empty((0, len(aus)))
    if bootstrap and subjects > 1:
        weights = intervals.draw_subjects(subjects, bootstrap, seed)
        draws = f1_from_counts(np.einsum("bs,skc->bkc", weights, counts))
    per_au = []
    for column, au in enumerate(aus):
        matched, false, missed, _ = (int(count) for count in counts[:, column].sum(axis=0))
        shown_by = int((counts[:, column, [0, 2]].sum(axis=1) > 0).sum())
        low, high = intervals.interval(float(f1[column]), draws[:, column], shown_by, 0, 1)
        true, predicted = matched + missed, matched + false
        per_au.append(
            {
                "au": int(au),
                "f1": float(f1[column]) if true else None,
                "f1_low": low,
                "f1_high": high,
                "precision": matched / predicted if predicted else None,
                "recall": matched / true if true else None,
                "true_events": true,
                "predicted_events": predicted,
                "matched": matched,
            }
        )
    mean = float(intervals.mean_defined(f1))
    low, high = intervals.interval(mean, intervals.mean_defined(draws), subjects, 0, 1)
    defined = ~np.isnan(f1)
    return {
        "per_au": per_au,
        "mean": {
            "f1": mean if defined.any() else None,
            "f1_low": low,
            "f1_high": high,
            "aus": int(defined.sum()),
            "undefined": [int(au) for au, is_defined in zip(aus, defined, strict=True) if not is_defined],
        },
    }


def _groups(subject: NDArray[Any], video: NDArray[Any]) -> NDArray[np.int64]:
    of_subject, of_video = (np.unique(ids, return_inverse=True)[1] for ids in (subject, video))
    return of_subject * (of_video.max(initial=0) + 1) + of_video
