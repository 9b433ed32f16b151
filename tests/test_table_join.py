"""Joins by time stamp and by frame, by hand."""

import numpy as np
import pandas as pd
import pytest

from jaxau import au_tables
from jaxau.table_join import join


@pytest.fixture
def tables(tmp_path):
    """Truth and predictions of the rows that are given, all AUs 1."""

    def tables(truth, predictions):
        for name, rows in (("t", truth), ("p", predictions)):
            pd.DataFrame(rows).assign(AU12_c=1).to_csv(tmp_path / f"{name}.csv", index=False)
        return au_tables.read_truth(tmp_path / "t.csv"), au_tables.read_predictions([tmp_path / "p.csv"])

    return tables


@pytest.mark.parametrize(
    "truth, predicted, expected",
    [
        ([0, 1, 2, 3], [0.4, 1.4, 2.4, 3.4], [0, 1, 2, 3]),  # less than half an interval late
        ([0, 1, 2, 3], [0.5, 1.5, 2.5, 3.5], "nothing"),  # half: it may be either
        ([0, 1, 2, 3], [-0.4, 0.6, 1.6, 2.6], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [0, 1, 3], [0, 1, -1, 2]),
        ([0, 1, 2, 3, 4, 5], [0, 2.4, 5], [0, -1, 1, -1, -1, 2]),  # the faster table's interval counts
        ([0, 2.4, 5], [0, 1, 2, 3, 4, 5], [0, 2, 5]),
        ([0, 1, 2, 2.1], [0, 1, 2.06], [0, 1, -1, 2]),  # each row once: the nearer of the two
        ([0.3], [0.3], [0]),
        ([3, 1, 2], [2, 3, 1], [2, 0, 1]),  # sorted by time
    ],
)
def test_nearest_time_stamps(tables, truth, predicted, expected):
    pair = tables({"timestamp": truth}, {"timestamp": predicted})
    if expected == "nothing":
        with pytest.raises(ValueError, match="no time stamp of p.csv"):
            join(*pair)
        return
    joined = join(*pair)
    assert joined.prediction.tolist() == expected
    assert joined.truth.tolist() == np.argsort(truth).tolist()
    found = sum(row >= 0 for row in expected)
    assert joined.counts["on"] == "time" and joined.counts["joined"] == found
    assert joined.counts["truth_not_joined"] == len(truth) - found
    assert joined.counts["predictions_not_joined"] == len(predicted) - found


def test_frames_are_counted_from_time_stamps_with_their_gaps(tables):
    times = [0, 0.04, 0.08, 0.2, 0.24, 0.2401]
    joined = join(*tables({"timestamp": times}, {"timestamp": times}))
    assert joined.frame.tolist() == [0, 1, 2, 5, 6, 7]


def test_frames_come_before_time_stamps_where_both_have_both(tables):
    joined = join(*tables({"frame": [4, 5], "timestamp": [0, 1]}, {"frame": [5, 4], "timestamp": [0, 1]}))
    assert joined.counts["on"] == "frame" and joined.prediction.tolist() == [1, 0]
    assert joined.frame.tolist() == [4, 5]


def test_videos_are_joined_each_for_itself(tables):
    truth = {"video": ["a", "b", "a", "c"], "timestamp": [0, 0, 1, 0]}
    joined = join(*tables(truth, {"video": ["b.mp4", "x/a.mp4", "d"], "timestamp": [0.0001, 1.0001, 0]}))
    assert joined.truth.tolist() == [0, 2, 1] and joined.prediction.tolist() == [-1, 1, 0]
    assert joined.video.tolist() == ["a", "a", "b"]
    assert joined.counts["truth_videos_without_predictions"] == ["c"]
    assert joined.counts["prediction_videos_without_truth"] == ["d"]


def test_names_that_differ_in_folder_only_are_not_mixed(tables):
    truth = {"video": ["s1/talk.mp4", "s2/talk.mp4"], "frame": [0, 0]}
    joined = join(*tables(truth, {"video": ["s2/talk.mp4", "s1/talk.mp4"], "frame": [0, 0]}))
    assert joined.prediction.tolist() == [1, 0] and joined.notes == []


def test_the_note_about_an_offset_needs_a_reason(tables):
    same = join(*tables({"frame": [0, 1, 2]}, {"frame": [0, 1, 2]}))
    assert same.notes == []
    gaps = join(*tables({"frame": range(0, 50, 5)}, {"frame": range(50)}))
    assert gaps.notes == [] and gaps.counts["joined"] == 10
    late = join(*tables({"frame": [0, 1, 2]}, {"frame": [1, 2]}))  # first frame lost, or counted from 1?
    assert len(late.notes) == 1 and "--frame_offset=-1" in late.notes[0]
    early = join(*tables({"frame": [1, 2, 3, 4]}, {"frame": [0, 1, 2, 3]}))
    assert (
        "3 join as written, 4 if shifted by one" in early.notes[0]
        and "--frame_offset=1 adds 1" in early.notes[0]
    )
