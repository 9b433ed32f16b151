"""Figures of faces with maps and landmarks, and graphs of AUs: what is drawn, where."""

import numpy as np
from matplotlib.colors import to_hex

from jaxau.report import face_figures
from jaxau.report.figures import SERIES

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


def test_map_grid_has_a_row_for_each_face_and_a_column_for_each_map():
    maps = {"static": np.arange(4 * 9.0).reshape(4, 3, 3), "dynamic": np.ones((4, 2, 2))}
    figure = face_figures.map_grid(IMAGES, maps, ["AU01", "AU02", "", "AU04"])
    axes = np.array(figure.axes).reshape(4, 3)
    assert [one.get_title(loc="center") for one in axes[0]] == ["face", "static", "dynamic"]
    assert [one.get_xlabel() for one in axes[:, 0]] == ["AU01", "AU02", "", "AU04"]
    for row in range(4):
        np.testing.assert_array_equal(axes[row, 0].images[0].get_array(), IMAGES[row])
        np.testing.assert_array_equal(axes[row, 1].images[0].get_array(), maps["static"][row])


def test_faces_show_their_landmarks():
    landmarks = np.random.default_rng(1).uniform(0, 8, (4, 5, 2))
    figure = face_figures.faces(IMAGES, landmarks, list("abcd"))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in shown] == list("abcd")
    for axes, points in zip(shown, landmarks, strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), points)
        assert axes.get_ylim() == (7.5, -0.5)  # downwards, as the picture


def test_relation_graph_joins_what_is_strongly_related():
    values = np.array([[1, 0.5, 0.1], [0.5, 1, -0.3], [0.1, -0.3, 1]])
    undefined = np.where(np.eye(3) == 1, 1, np.nan)
    figure = face_figures.relation_graph({"truth": values, "nothing": undefined}, (1, 2, 12), beyond=0.2)
    truth, nothing = figure.axes
    edges = truth.lines[:-1]  # and the AUs themselves
    assert [(to_hex(line.get_color()), line.get_linestyle()) for line in edges] == [
        (SERIES[1], "-"),
        (SERIES[0], "--"),
    ]
    assert [text.get_text() for text in truth.texts] == ["01", "02", "12"]
    np.testing.assert_allclose(edges[0].get_xydata(), truth.lines[-1].get_xydata()[[0, 1]])
    assert len(nothing.lines) == 1 and nothing.get_title(loc="left") == "nothing"
