"""Figures show the arrays they are given; what cannot be read off an axis is read off the pixels."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxau.report import figures, html


def texts(figure: Figure) -> set[str]:
    return {t.get_text() for t in figure.findobj(matplotlib.text.Text)}


def test_f1_intervals_draws_each_interval_and_marks_the_undefined():
    f1, low, high = [0.5, np.nan, 0.6], [0.4, np.nan, 0.55], [0.6, np.nan, 0.65]
    labels = ["AU01 inner brow raiser", "AU02 outer brow raiser", "mean of 1 AUs"]
    figure = figures.f1_intervals(labels, {"stage frames": (f1, low, high)}, {"always on": [0.3, 0.2, 0.3]})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == labels
    segments = axes.collections[0].get_segments()
    assert [s[:, 0].tolist() for s in segments if len(s)] == [[0.4, 0.6], [0.55, 0.65]]
    dots = next(line for line in axes.lines if line.get_label() == "stage frames")
    np.testing.assert_allclose(dots.get_xdata(), f1)
    ticks = next(line for line in axes.lines if line.get_label() == "always on")
    np.testing.assert_allclose(ticks.get_xdata(), [0.3, 0.2, 0.3])
    assert "undefined: no positive frame" in texts(figure)
    assert axes.get_xlim() == (0, 1) and axes.yaxis_inverted()


def test_loss_curves_gives_every_term_a_panel_and_marks_the_chosen_epoch():
    step = np.arange(0, 100, 5.0)
    terms = {"loss": 2 - step / 100, "loc": -step, "late": np.where(step < 50, np.nan, 1.0)}
    figure = figures.loss_curves(step, terms, np.array([50.0, 100.0]), np.array([0.4, 0.3]), 50.0)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["loss", "loc", "late", "F1, inner subjects"]
    np.testing.assert_allclose(shown[1].lines[0].get_ydata(), -step)
    assert len(shown[2].lines[0].get_xdata()) == 10  # nan is left out
    assert shown[3].lines[1].get_xydata().tolist() == [[50.0, 0.4]]
    assert "chosen: .400" in texts(figure)


def test_loss_curves_of_a_stage_without_rows_is_empty_and_not_an_error():
    none = np.array([])
    figure = figures.loss_curves(none, {"loss": none}, none, none)
    figure.savefig(io.BytesIO(), format="svg")


def test_running_mean_is_exact_on_a_line_and_keeps_constants():
    np.testing.assert_allclose(figures.running_mean(np.full(100, 3.0)), 3)
    line = np.arange(200.0)
    np.testing.assert_allclose(figures.running_mean(line)[10:-10], line[10:-10])
    assert figures.running_mean(line)[0] == np.mean(line[:6])


def test_attention_is_orange_where_positive_blue_where_negative_and_clear_at_zero():
    images = np.full((1, 40, 40, 3), 128, np.uint8)
    attention = np.zeros((1, 4, 4, 2))
    attention[0, :2, :, 0] = 0.8  # upper half towards AU01
    attention[0, 2:, :, 1] = -0.8  # lower half away from AU12
    figure = figures.attention_overlay(images, attention, [1, 12], np.array([[0.9, 0.2]]), np.array([[1, 0]]))
    face, first, second = (axes.images[0].get_array() for axes in figure.axes[:3])
    assert (face == 128).all()
    red, _, blue = np.asarray(first)[2, 20]
    assert red > blue + 0.4
    red, _, blue = np.asarray(second)[-3, 20]
    assert blue > red + 0.2
    np.testing.assert_allclose(np.asarray(first)[-3, 20], 128 / 255, atol=1e-6)
    np.testing.assert_allclose(np.asarray(second)[2, 20], 128 / 255, atol=1e-6)
    assert {"AU01", "AU12", "0.90 ●", "0.20"} <= texts(figure)
    assert {"−0.80 away", "+0.80 towards"} <= texts(figure)


def test_a_cell_of_the_map_lies_over_its_part_of_the_face():
    attention = np.zeros((1, 4, 4, 1))
    attention[0, 1, 2] = 1
    black = np.zeros((1, 40, 40, 3), np.uint8)
    figure = figures.attention_overlay(black, attention, [1], np.ones((1, 1)), np.ones((1, 1)))
    weight = np.asarray(figure.axes[1].images[0].get_array())[..., 0]
    y, x = (np.sum(np.indices(weight.shape)[axis] * weight) / weight.sum() for axis in (0, 1))
    assert (y, x) == pytest.approx((14.5, 24.5), abs=0.1)  # pixels 10 to 19 and 20 to 29


def test_timeline_draws_a_row_per_au_with_bands_where_the_truth_is_positive(examples):
    video = examples["video"]
    arrays = video["timestamp"], video["probability"], video["truth"], video["aus"], [0.4] * 12
    figure = figures.timeline(*arrays, video["frames"], video["frame_timestamp"])
    rows = [axes for axes in figure.axes if axes.get_ylabel()]
    assert len(rows) == 12 and rows[6].get_ylabel() == "AU12  lip corner puller"
    np.testing.assert_allclose(rows[6].lines[1].get_ydata(), video["probability"][:, 6])
    assert set(rows[6].lines[0].get_ydata()) == {0.4}
    edges = np.flatnonzero(np.diff(np.concatenate([[0], video["truth"][:, 6], [0]])))
    bands = [path.get_extents() for path in rows[6].collections[0].get_paths()]
    expected = video["timestamp"][edges[0::2]], video["timestamp"][edges[1::2] - 1]
    np.testing.assert_allclose([[band.x0, band.x1] for band in bands], np.transpose(expected), atol=0.021)
    assert sum(len(axes.images) for axes in figure.findobj(matplotlib.axes.Axes)) == 8
    bare = figures.timeline(*arrays[:2], None, *arrays[3:])
    assert len(bare.axes) == 12 and not bare.axes[6].collections


def test_subject_spread_sorts_by_the_first_system():
    f1 = {"stage frames": np.array([0.6, 0.2, 0.4]), "stage clips": np.array([0.1, 0.2, 0.3])}
    (axes,) = figures.subject_spread(["a", "b", "c"], f1).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "c", "a"]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [0.2, 0.3, 0.1])


def test_figures_leave_the_style_alone_and_the_same_arrays_give_the_same_file():
    before = dict(matplotlib.rcParams)
    pictures = [
        html.svg(figures.subject_spread(["a", "b"], {"x": np.array([0.1, 0.2])}), "alt") for _ in range(2)
    ]
    assert dict(matplotlib.rcParams) == before
    assert pictures[0] == pictures[1]


def test_epoch_lines_name_each_au_at_its_line_without_overlap() -> None:
    values = np.array([[0.1, 0.2, 0.2], [0.5, 0.2, 0.21]])
    figure = figures.epoch_lines(np.array([1.0, 2.0]), {"recall": values}, [1, 6, 12])
    axes = figure.axes[0]
    np.testing.assert_array_equal([line.get_ydata() for line in axes.lines], values.T)
    height = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert list(height) == ["AU01", "AU06", "AU12"]
    assert height["AU06"] == 0.2 and height["AU12"] - height["AU06"] >= 0.055 * 0.5 - 1e-9
    assert height["AU01"] == 0.5
    assert len({line.get_color() for line in axes.lines}) == 3  # one of each face region


def test_matrices_share_one_scale_and_show_the_undefined_as_a_dash():
    truth = np.array([[1.0, -0.5], [-0.5, np.nan]])
    predicted = np.array([[1.0, 0.25], [0.25, 1.0]])
    figure = figures.matrices({"truth": truth, "stage frames": predicted}, [6, 12])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["truth", "stage frames"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["06", "12"]
    cells = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
    assert cells[(0, 1)] == "-.50" and cells[(1, 1)] == "–"
    first, second = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    np.testing.assert_allclose(first[0, 0], second[0, 0])  # 1 is 1 in both
    assert first[0, 1, 2] > first[0, 1, 0] and second[0, 1, 0] > second[0, 1, 2]  # blue; orange
    np.testing.assert_allclose(first[1, 1], 1)  # undefined stays white


def test_reliability_leaves_empty_bins_out():
    probability = np.array([[0.1, np.nan, 0.9], [0.2, 0.5, 0.8]])
    rate = np.array([[0.0, np.nan, 0.7], [0.3, 0.5, 0.9]])
    count = np.array([[5, 0, 10], [1, 1, 1]])
    figure = figures.reliability(["AU01", "AU12"], probability, rate, count)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_xydata(), [[0.1, 0.0], [0.9, 0.7]])
    assert len(figure.axes[1].lines[1].get_xdata()) == 3
    small, large = figure.axes[0].collections[0].get_sizes()
    assert large > small
