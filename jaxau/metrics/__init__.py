"""Numbers that say how good predictions are: occurrence, events, intensity, relations.

Three rules hold in every function. A label under a False mask never counts, whatever its value. What
is undefined stays undefined (None) and is named; it is never read as 0. Frames of one subject are
not independent, so uncertainty comes from resampling subjects, not frames.
"""

from jaxau.metrics.calibration import Reliability, reliability
from jaxau.metrics.counts import f1_from_counts, rates_from_counts, subject_counts
from jaxau.metrics.events import event_score
from jaxau.metrics.intensity import icc31, intensity_score
from jaxau.metrics.occurrence import (
    AU_COUNTS,
    METRICS,
    Score,
    Thresholds,
    always_on,
    best_thresholds,
    score,
)
from jaxau.metrics.paired import paired_difference
from jaxau.metrics.relations import adjacency, dependency_f1, l2_distance
from jaxau.metrics.shortcuts import POSE_BINS, pose_bins, scores_by_group, shortcut_drop

__all__ = [
    "AU_COUNTS",
    "METRICS",
    "POSE_BINS",
    "Reliability",
    "Score",
    "Thresholds",
    "adjacency",
    "always_on",
    "best_thresholds",
    "dependency_f1",
    "event_score",
    "f1_from_counts",
    "icc31",
    "intensity_score",
    "l2_distance",
    "paired_difference",
    "pose_bins",
    "rates_from_counts",
    "reliability",
    "score",
    "scores_by_group",
    "shortcut_drop",
    "subject_counts",
]
