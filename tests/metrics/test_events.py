"""Events against cases counted by hand, and a brute-force matching of random segments."""

import itertools

import numpy as np
import pytest
from scipy.stats import t

from jaxau.metrics import events


def score(present, truth, mask=None, frame=None, subject=None, video=None, **options):
    present, truth = (np.array([[int(c) for c in row]]).T for row in (present, truth))
    n = len(truth)
    mask = np.ones((n, 1), bool) if mask is None else np.array([[c == "1" for c in mask]]).T
    ids = [np.zeros(n, int) if one is None else np.array(one) for one in (subject, video)]
    frame = np.arange(n) if frame is None else np.array(frame)
    return events.event_score(present, truth, mask, *ids, frame, [12], **options)["per_au"][0]


def counts(row):
    return row["matched"], row["predicted_events"], row["true_events"]


@pytest.mark.parametrize(
    "present, truth, expected",
    [
        ("0111000110", "0111000110", (2, 2, 2)),  # the same
        ("0110000000", "0111100000", (1, 1, 1)),  # 2 of 4 frames: exactly .5
        ("0100000000", "0111000000", (0, 1, 1)),  # 1 of 3
        ("0111111110", "0011001100", (0, 1, 2)),  # one long prediction over two events
        ("0011001100", "0111111110", (0, 2, 1)),
        ("0111100000", "0110000000", (1, 1, 1)),
        ("0110110000", "0111110000", (0, 2, 1)),  # each half is 2 of 5
        ("1111000000", "1100000000", (1, 1, 1)),  # touches the first frame
        ("0000000011", "0000000001", (1, 1, 1)),  # touches the last frame
        ("1010101010", "1111111111", (0, 5, 1)),
        ("0000000000", "0011100000", (0, 0, 1)),
        ("0011100000", "0000000000", (0, 1, 0)),
    ],
)
def test_counts_by_hand(present, truth, expected):
    row = score(present, truth)
    assert counts(row) == expected
    matched, predicted, true = expected
    assert row["f1"] == (2 * matched / (predicted + true) if true else None)
    assert row["precision"] == (matched / predicted if predicted else None)
    assert row["recall"] == (matched / true if true else None)


def test_an_event_matches_once_even_at_exactly_half():
    assert counts(score("1101", "1111")) == (1, 2, 1)
    halves, whole = np.array([[0, 1], [2, 3]]), np.array([[0, 3]])
    assert len(events.matches(halves, whole)) == len(events.matches(whole, halves)) == 1


def test_gaps_in_coding_frames_and_videos_end_events():
    assert counts(score("111111", "111111", mask="110111")) == (2, 2, 2)
    assert counts(score("111111", "111111", frame=[0, 1, 2, 5, 6, 7])) == (2, 2, 2)
    assert counts(score("111111", "111111", frame=[0, 5, 10, 15, 20, 25])) == (6, 6, 6)
    assert counts(score("111111", "111111", frame=[0, 5, 10, 15, 20, 25], step=5)) == (1, 1, 1)
    assert counts(score("1111", "1111", video=[0, 0, 1, 1], frame=[0, 1, 2, 3])) == (2, 2, 2)
    assert counts(score("1111", "1111", subject=["b", "b", "a", "a"], frame=[0, 1, 2, 3])) == (2, 2, 2)


def test_order_of_rows_and_values_under_the_mask_do_not_matter():
    rng = np.random.default_rng(0)
    n, k = 400, 3
    truth, present = rng.random((n, k)) < 0.5, rng.random((n, k)) < 0.5
    mask = rng.random((n, k)) < 0.9
    subject, video, frame = (
        np.repeat([3, 1], 200),
        np.tile(np.repeat([0, 1], 100), 2),
        np.tile(np.arange(100), 4),
    )
    first = events.event_score(present, truth, mask, subject, video, frame, [1, 2, 4])
    order = rng.permutation(n)
    other = np.where(mask, present, ~present)
    arrays = [values[order] for values in (other, truth, mask, subject, video, frame)]
    assert events.event_score(*arrays, [1, 2, 4]) == first
    assert first["per_au"][0]["true_events"] > 50


def runs(row):
    """Segments of a 0/1 string as sets of frames, without the code under test."""
    found, at = [], 0
    for value, group in itertools.groupby(row):
        length = len(list(group))
        found += [set(range(at, at + length))] if value else []
        at += length
    return found


def most_matches(predicted, true, overlap):
    """The largest one-to-one matching, by trying every partner."""
    if not true:
        return 0
    best = most_matches(predicted, true[1:], overlap)
    for one in predicted:
        if len(one & true[0]) >= overlap * len(one | true[0]):
            rest = [other for other in predicted if other is not one]
            best = max(best, 1 + most_matches(rest, true[1:], overlap))
    return best


@pytest.mark.parametrize("overlap", [0.5, 0.6, 1.0])
def test_no_other_pairing_matches_more(overlap):
    rng = np.random.default_rng(1)
    for _ in range(150):
        truth = np.repeat(rng.integers(0, 2, 8), rng.integers(1, 5, 8))
        present = np.where(rng.random(len(truth)) < 0.15, 1 - truth, truth)
        row = score(present, truth, overlap=overlap)
        predicted, true = runs(present), runs(truth)
        assert counts(row) == (most_matches(predicted, true, overlap), len(predicted), len(true))


def test_mean_over_aus_with_events_and_the_others_named():
    truth = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1]])
    present = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    ids = np.zeros(3, int)
    found = events.event_score(present, truth, np.ones((3, 3)), ids, ids, np.arange(3), [1, 2, 4])
    mean = {"f1": 0.5, "f1_low": None, "f1_high": None, "aus": 2, "undefined": [2]}
    assert found["mean"] == mean
    none = events.event_score(present, truth, np.zeros((3, 3)), ids, ids, np.arange(3), [1, 2, 4])
    assert none["mean"] == mean | {"f1": None, "aus": 0, "undefined": [1, 2, 4]}


def test_errors():
    with pytest.raises(ValueError, match="frame 1 of subject 0, video 0 comes twice"):
        score("111", "111", frame=[0, 1, 1])
    with pytest.raises(ValueError, match=r"overlap 0.3: .* in \[.5, 1\]"):
        score("111", "111", overlap=0.3)
    with pytest.raises(ValueError, match="3 frames, 2 AUs"):
        ones = np.ones((3, 1))
        events.event_score(ones, ones, ones, np.zeros(3), np.zeros(3), np.arange(3), [1, 2])


def test_intervals_are_those_of_drawn_subjects():
    """Draws by hand: each drawn subject's events are counted as often as it is drawn."""
    rng = np.random.default_rng(2)
    subjects, frames, aus = 12, 60, [1, 12]
    truth = np.repeat(rng.integers(0, 2, (subjects * frames // 5, 2)), 5, axis=0)
    present = np.where(rng.random(truth.shape) < 0.1, 1 - truth, truth)
    subject, frame = np.repeat(np.arange(subjects), frames), np.tile(np.arange(frames), subjects)
    arrays = present, truth, np.ones_like(truth), subject, subject * 0, frame, aus
    found = events.event_score(*arrays, bootstrap=300)
    alone = []
    for one in range(subjects):
        rows = subject == one
        part = [values[rows] for values in arrays[:-1]]
        alone.append([counts(row) for row in events.event_score(*part, aus)["per_au"]])
    drawn = np.random.default_rng(0).multinomial(subjects, np.full(subjects, 1 / subjects), size=300)
    means = []
    for weights in drawn:
        total = np.einsum("s,skc->kc", weights, np.array(alone))  # matched, predicted, true
        means.append(np.mean(2 * total[:, 0] / (total[:, 1] + total[:, 2])))
    half = t.ppf(0.975, subjects - 1) * np.std(means, ddof=1) * np.sqrt(subjects / (subjects - 1))
    mean = found["mean"]
    assert mean["f1_high"] - mean["f1"] == pytest.approx(half) == mean["f1"] - mean["f1_low"]
    assert found["per_au"][0]["f1_low"] < found["per_au"][0]["f1"] < found["per_au"][0]["f1_high"]
