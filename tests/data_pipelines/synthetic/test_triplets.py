"""Triplets: about expressions, across people, in the form of FEC."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines.synthetic import SynthConfig, SynthFaces
from data_pipelines.synthetic.triplets import HARD_SHARE, draw_triplets, kinds, movement, write_fec
from jaxau.faces.align import align
from jaxau.facs import SYNTHETIC_AUS

SUBJECTS = (0, 1, 2, 4, 5, 7, 8)
COLUMN = {au: index for index, au in enumerate(SYNTHETIC_AUS)}


@pytest.fixture(scope="module")
def faces() -> SynthFaces:
    return SynthFaces(SynthConfig(tier="tiny", subjects=9, clips=3, frames=80, size=96, seed=4))


@pytest.fixture(scope="module")
def triplets(faces: SynthFaces):
    return draw_triplets(faces, SUBJECTS, 400)


def test_the_odd_one_is_farthest_by_both_distances(faces, triplets) -> None:
    labels = np.array([[faces.labels(s, c)[t] for s, c, t in three] for three in triplets.frames])
    a, p, n = labels[:, 0], labels[:, 1], labels[:, 2]
    expected = [np.linalg.norm(x - y, axis=1) for x, y in ((p, n), (a, n), (a, p))]
    np.testing.assert_allclose(triplets.intensity, np.stack(expected, 1), rtol=1e-5)
    for distance in (triplets.intensity, triplets.movement):
        assert (distance[:, 2] < 0.7 * distance[:, :2].min(1)).all()


def test_people_differ_and_a_fifth_is_hard(triplets) -> None:
    anchor, positive, negative = triplets.frames[..., 0].T
    assert set(triplets.frames[..., 0].ravel()) <= set(SUBJECTS)
    assert (anchor != positive).all()
    same = (negative == anchor) | (negative == positive)
    np.testing.assert_array_equal(same, triplets.hard)
    assert triplets.hard.sum() == round(HARD_SHARE * 400)


def test_classes_count_the_kinds_of_expression(faces, triplets) -> None:
    assert set(triplets.triplet_class) == {1, 2, 3}
    smile, frown = np.zeros((2, 25)), np.zeros((1, 25))
    smile[:, [COLUMN[12], COLUMN[6]]] = [[4, 3], [2, 2]]
    frown[0, COLUMN[4]] = 3
    found = kinds(np.concatenate([smile, frown, np.zeros((1, 25))]))
    assert found[0] == found[1] != found[2] and found[3] == -1


def test_movement_is_the_movement_of_the_mean_face() -> None:
    still, raised = np.zeros((1, 25)), np.zeros((1, 25))
    raised[0, COLUMN[1]] = 5
    moved = movement(np.concatenate([still, raised, raised / 2]))
    whole, half = np.linalg.norm(moved[1] - moved[0]), np.linalg.norm(moved[2] - moved[0])
    assert 0.5 < whole < 4 and half == pytest.approx(whole / 2, rel=0.05)  # RMS mm over the face


def test_the_same_draw_is_the_same(faces, triplets) -> None:
    np.testing.assert_array_equal(draw_triplets(faces, SUBJECTS, 400).frames, triplets.frames)
    assert (draw_triplets(faces, SUBJECTS, 400, seed=1).frames != triplets.frames).any()


def test_impossible_requests_are_refused(faces) -> None:
    with pytest.raises(ValueError, match="three people"):
        draw_triplets(faces, (1, 2), 10)
    with pytest.raises(ValueError, match="margin = 0"):
        draw_triplets(faces, SUBJECTS, 10, margin=0)


def test_fec_form(faces, triplets, tmp_path: Path) -> None:
    few = type(triplets)(*(field[:6] for field in triplets))
    table = write_fec(faces, few, tmp_path, "train")
    rows = list(csv.reader(table.open()))
    assert table.name == "faceexp-comparison-data-train.csv" and len(rows) == 6
    for row, three, triplet_class in zip(rows, few.frames, few.triplet_class, strict=True):
        pictures = [row[i] for i in (0, 5, 10)]
        assert row[15] == f"{('ONE', 'TWO', 'THREE')[triplet_class - 1]}_CLASS_TRIPLET"
        votes = {int(row[i]) for i in range(17, len(row), 2)}
        assert len(votes) == 1 and len(row) == 16 + 12
        subject, clip, t = three[2]
        assert pictures[votes.pop() - 1] == f"S{subject:03d}_{clip}_{t:03d}.png"
        left, right, top, bottom = map(float, row[1:5])
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert cv2.imread(str(tmp_path / pictures[0])).shape == (96, 96, 3)


def _pixel_distances_are_right(faces: SynthFaces, frames: np.ndarray) -> float:
    """Share of triplets whose odd one is the odd one of aligned pictures, too."""
    pictures = {}
    for place in np.unique(frames.reshape(-1, 3), axis=0):
        frame = faces.frame(*map(int, place))
        crop = align(frame.image, frame.lm98, "jaa256")[0]
        grey = cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA).mean(-1)
        pictures[tuple(place)] = (grey - grey.mean()) / grey.std()
    right = []
    for three in frames:
        a, p, n = (pictures[tuple(place)] for place in three)
        distances = [np.linalg.norm(x - y) for x, y in ((a, p), (a, n), (p, n))]
        right.append(np.argmin(distances) == 0)
    return float(np.mean(right))


def test_pixels_do_not_solve_triplets() -> None:
    """At chance where people differ; worse where the wrong pair is one person, whom pixels recognise."""
    faces = SynthFaces(SynthConfig(tier="tiny", subjects=12, clips=3, frames=80, size=96, seed=4))
    triplets = draw_triplets(faces, range(12), 600)
    hard = _pixel_distances_are_right(faces, triplets.frames[triplets.hard])
    easy = _pixel_distances_are_right(faces, triplets.frames[~triplets.hard][:120])
    print(f"pixel distances are right on {hard:.2f} of the hard triplets and {easy:.2f} of the others")
    assert hard < 1 / 3
    assert 0.2 < easy < 0.5
