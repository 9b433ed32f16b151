"""Numbers that say how good predictions are: occurrence, intervals over subjects, calibration.

Three rules hold in every function. A label under a False mask never counts, whatever its value. What
is undefined stays undefined (None) and is named; it is never read as 0. Frames of one subject are
not independent, so uncertainty comes from resampling subjects, not frames.
"""

from jaxau.metrics.events import event_score
from jaxau.metrics.intensity import icc31, intensity_score
from jaxau.metrics.occurrence import (
    Score,
    Thresholds,
    always_on,
    best_thresholds,
    f1_from_counts,
    score,
    subject_counts,
)
from jaxau.metrics.relations import adjacency, dependency_f1, l2_distance

__all__ = [
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
    "score",
    "subject_counts",
]
