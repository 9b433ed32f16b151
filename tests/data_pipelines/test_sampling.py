"""LAC's Algorithm 1 by its properties and by hand; consecutive windows; triplets that follow from others."""

import numpy as np
import pytest

from data_pipelines.sampling import chained_triplets, clip_starts, draw_start, windows


def starts(frames, t, clips, epoch, seed=0, video=(0, 0)):
    possible = clip_starts(range(frames), t, clips, "v")
    return [draw_start(p, j, seed=seed, epoch=epoch, video=video) for j, p in enumerate(possible)]


@pytest.mark.parametrize(
    ("frames", "t", "parts"), [(4845, 16, 12), (100, 16, 6), (50, 7, 7), (16, 16, 1), (37, 5, 3)]
)
def test_each_clip_lies_inside_its_own_subsequence(frames, t, parts):
    length = frames // parts
    for epoch in range(200):
        for j, start in enumerate(starts(frames, t, parts, epoch)):
            assert j * length <= start
            assert start + t <= (j + 1) * length <= frames


def test_by_hand():
    # 37 frames, 3 subsequences of 12 (frame 36 belongs to none), clips of 5: starts 0..7, 12..19, 24..31.
    seen = np.array([starts(37, 5, 3, epoch) for epoch in range(400)])
    assert [sorted(set(column)) for column in seen.T.tolist()] == [
        list(range(0, 8)),
        list(range(12, 20)),
        list(range(24, 32)),
    ]


def test_a_subsequence_of_just_t_frames_leaves_no_choice():
    assert starts(48, 16, 3, epoch=5) == [0, 16, 32]


def test_starts_are_uniform():
    seen = np.array([starts(30, 10, 1, epoch)[0] for epoch in range(4200)])
    counts = np.bincount(seen, minlength=21)
    assert len(counts) == 21
    assert counts.min() > 140 and counts.max() < 265  # 200 expected, SD 14


def test_new_each_epoch_and_video_and_seed_but_reproducible():
    first = starts(4845, 16, 12, epoch=0)
    assert first == starts(4845, 16, 12, epoch=0)
    for other in (
        starts(4845, 16, 12, epoch=1),
        starts(4845, 16, 12, epoch=0, seed=1),
        starts(4845, 16, 12, epoch=0, video=(0, 1)),
        starts(4845, 16, 12, epoch=0, video=(1, 0)),
    ):
        assert sum(a == b for a, b in zip(first, other, strict=True)) <= 2


def test_subsequences_draw_independently():
    offsets = np.array([starts(4845, 16, 12, epoch) for epoch in range(50)]) % (4845 // 12)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(12)).max() < 0.6


def test_fewer_subsequences_where_they_would_be_shorter_than_a_clip():
    assert len(clip_starts(range(4845), 16, 12, "v")) == 12
    assert len(clip_starts(range(90), 16, 12, "v")) == 5
    assert len(clip_starts(range(16), 16, 12, "v")) == 1


@pytest.mark.parametrize("frames", [range(15), range(0, 80, 2), []])
def test_a_video_without_a_clip_is_named(frames):
    message = rf"video SN001_2 has {len(frames)} frames, of which no 16 are .*clip_length=16; use"
    with pytest.raises(ValueError, match=message):
        clip_starts(frames, 16, 12, "SN001_2")


def test_clips_never_span_a_gap():
    # Subsequences of 8 positions: frames 0..7, then 8 9 | 20..25, then 26..28 | 40 41 | 50 51 52.
    numbers = [*range(10), *range(20, 29), 40, 41, 50, 51, 52]
    found = clip_starts(numbers, 5, 3, "v")
    assert [part.tolist() for part in found] == [[0, 1, 2, 3], [10, 11]]  # none in the third


def test_windows_by_hand():
    # Frames 5..9 and, after a gap, 12..13, in windows of 3.
    found = windows([5, 6, 7, 8, 9, 12, 13], 3)
    assert [positions.tolist() for positions, _ in found] == [[0, 1, 2], [3, 4, 4], [5, 6, 6]]
    assert [mask.tolist() for _, mask in found] == [
        [True, True, True],
        [True, True, False],
        [True, True, False],
    ]


def test_windows_hold_every_frame_once_and_never_span_a_gap():
    rng = np.random.default_rng(0)
    for t in (1, 4, 16):
        numbers = np.cumsum(rng.choice([1, 1, 1, 1, 1, 7], 300))
        found = windows(numbers, t)
        real = np.concatenate([positions[mask] for positions, mask in found])
        assert real.tolist() == list(range(300))
        for positions, mask in found:
            assert len(positions) == t
            assert (np.diff(numbers[positions[mask]]) == 1).all()
            assert (positions[~mask] == positions[mask][-1]).all()


A, B, C, E, F = 10, 3, 7, 5, 1


@pytest.mark.parametrize(
    ("annotated", "derived", "contradicted"),
    [
        ([], [], 0),
        ([(A, B, C, 1), (B, E, F, 1)], [], 0),  # they share a picture, but no distance
        ([(A, B, C, 1), (A, C, E, 1)], [(A, B, E, 1)], 0),
        ([(A, B, C, 1), (C, A, E, 3)], [(A, B, E, 3)], 0),  # either of the two alike may be the anchor
        ([(B, A, C, 2), (A, C, E, 1)], [(A, B, E, 2)], 0),
        # Three in a row, in any order: also what takes two steps.
        ([(A, E, F, 1), (A, C, E, 2), (A, B, C, 1)], [(A, B, E, 2), (A, B, F, 2), (A, C, F, 2)], 0),
        # Two ways from B to F, of which the one through C is of one class.
        ([(A, B, C, 1), (A, C, F, 1), (A, B, E, 3), (A, E, F, 1)], [(A, B, F, 1)], 0),
        ([(A, B, C, 2), (A, C, E, 2), (A, B, E, 2)], [], 0),  # somebody has annotated it
        # A is nearer to B than to C, to C than to E, and to E than to B.
        ([(A, B, C, 1), (A, C, E, 1), (A, E, B, 1)], [], 3),
        # C and E are said to be the nearer one, but B is nearer, and F farther, than both.
        (
            [(A, B, C, 1), (A, C, E, 1), (A, E, C, 1), (A, E, F, 1)],
            [(A, B, E, 1), (A, B, F, 1), (A, C, F, 1)],
            0,
        ),
    ],
)  # fmt: skip
def test_chains_by_hand(annotated, derived, contradicted):
    found, dropped = chained_triplets(annotated)
    assert [tuple(row) for row in found.tolist()] == sorted(derived)
    assert dropped == contradicted


def test_what_follows_is_true_and_all_that_follows():
    """Of points in a plane whose distances are known; against chains that are walked one at a time."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    rows = []
    for trio in [rng.choice(9, 3, replace=False) for _ in range(60)]:
        odd = np.argmin([distance[trio[1], trio[2]], distance[trio[0], trio[2]], distance[trio[0], trio[1]]])
        rows.append((*np.delete(trio, odd).tolist(), int(trio[odd]), int(rng.integers(1, 4))))
    farther = {(a, b): set() for a in range(9) for b in range(9)}
    for one, other, odd, _ in rows:
        farther[one, other].add(odd)
        farther[other, one].add(odd)

    def reached(anchor, near):
        seen, waiting = set(), [near]
        while waiting:
            new = farther[anchor, waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    every = {(a, b, e) for a, b in farther for e in reached(a, b)}
    said = {(a, b, c) for (a, b), far in farther.items() for c in far}
    found, contradicted = chained_triplets(rows)
    assert {tuple(row) for row in found[:, :3].tolist()} == every - said and contradicted == 0
    assert len(found) > 20
    anchor, near, far, _ = found.T
    assert (distance[anchor, near] < distance[anchor, far]).all()
