"""Combinations, Ave-Var and retrieval on cases that can be counted by hand; what the figures show."""

import matplotlib
import numpy as np
import pytest

from jaxau.report import embeddings

AUS = [1, 6, 12]


def groups_of(rows, coded=None, most=7):
    truth = np.array(rows)
    return embeddings.combinations(truth, np.ones_like(truth) if coded is None else coded, AUS, most)


def test_the_commonest_combinations_come_first_and_the_rest_belongs_to_none():
    rows = [[0, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]]
    groups = groups_of(rows, most=2)
    assert groups.names == ("AUs(6,12)", "no AU")
    assert groups.member.tolist() == [0, 1, 0, -1, 0, 1]


def test_a_face_with_an_uncoded_au_is_in_no_combination():
    coded = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    groups = groups_of([[0, 1, 1], [0, 1, 1], [1, 0, 0]], coded)
    assert groups.member.tolist()[1] == -1 and sorted(groups.names) == ["AUs(1)", "AUs(6,12)"]


def test_average_variance_by_hand():
    groups = groups_of([[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    embedding = np.array([[0.0, 0], [2, 0], [0, 4], [0, 8], [6, 3]])
    # Within: 1 and 4, the single face has none. All: x has variance 136/25, y 8.8.
    assert embeddings.average_variance(embedding, groups) == pytest.approx(2.5 / (136 / 25 + 8.8))
    assert embeddings.average_variance(100 * embedding, groups) == pytest.approx(2.5 / (136 / 25 + 8.8))
    assert embeddings.average_variance(embedding[:2], groups_of([[0, 0, 1], [1, 0, 0]])) is None
    assert embeddings.average_variance(np.ones((2, 3)), groups_of([[0, 0, 1], [0, 0, 1]])) is None


def test_projection_keeps_clusters_together_and_repeats():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 20)
    embedding = rng.normal(size=(40, 8)) + 20 * label[:, None]
    points = embeddings.project(embedding)
    np.testing.assert_array_equal(points, embeddings.project(embedding))
    near = np.square(points[:, None] - points).sum(-1) + 1e9 * np.eye(40)
    assert (label[near.argmin(1)] == label).all()
    with pytest.raises(ValueError, match="3 faces: t-SNE needs at least 5"):
        embeddings.project(embedding[:3])


def test_retrieval_finds_the_nearest_of_other_subjects():
    embedding = np.array([[0.0], [0.1], [5], [1], [3]])
    subject = np.array(["a", "a", "b", "b", "c"])
    found = embeddings.nearest(embedding, [0, 4], subject, 2)
    assert found.tolist() == [[3, 4], [2, 3]]
    with pytest.raises(ValueError, match="query 2: other subjects have 3 faces, fewer than the 4 asked for"):
        embeddings.nearest(embedding, [2], subject, 4)


def texts(figure):
    return {t.get_text() for t in figure.findobj(matplotlib.text.Text)}


def test_figures_show_what_they_are_given():
    groups = groups_of([[0, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0]], most=2)
    figure = embeddings.scatter(np.arange(8.0).reshape(4, 2), groups, "E_exp (synthetic)")
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {"others", "AUs(6,12): 2", "no AU: 1"}
    (axes,) = figure.axes
    shown = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert shown["AUs(6,12): 2"] == [[0, 1], [4, 5]]

    images = np.zeros((4, 8, 8, 3), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    truth = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0]])
    figure = embeddings.retrieval(images, np.array([0]), np.array([[2, 3]]), truth, AUS)
    assert [int(np.asarray(axes.images[0].get_array()).max()) for axes in figure.axes] == [0, 2, 3]
    assert [axes.get_xlabel() for axes in figure.axes] == ["6 12", "6 12", "1"]
    assert [axes.xaxis.label.get_fontweight() for axes in figure.axes] == ["bold", "bold", "normal"]
