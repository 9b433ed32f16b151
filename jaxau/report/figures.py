"""Figures of a report: pure functions from arrays to a matplotlib ``Figure``.

No pyplot, hence no global state and no window. Colours are from Okabe and Ito's palette, which
colour-blind readers tell apart; meaning never hangs on colour alone.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray
from scipy.ndimage import zoom

from jaxau import facs

INK, MUTED, GRID = "#1c1e21", "#5b6168", "#dfe2e6"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
TRUTH = "#e69f00"
WIDTH = 11.1
"""Inches of a figure, 1066 CSS pixels: the width of the text."""

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.hashsalt": "jaxau",  # the same arrays give the same file
}


@matplotlib.rc_context(STYLE)
def f1_intervals(
    labels: Sequence[str],
    systems: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    baselines: Mapping[str, Sequence[float]],
    means: int = 1,
) -> Figure:
    """F1 of each AU with its interval, against the baselines.

    Args:
      labels: (r,) names of the rows, AUs first and then the means.
      systems: name -> (f1, low, high), each (r,); nan where undefined.
      baselines: name -> f1 (r,).
      means: how many of the last rows are means, set apart by a line.
    """
    rows = len(labels)
    figure = Figure(figsize=(8.2, 0.9 + 0.36 * rows), layout="constrained")
    axes = figure.subplots()
    y = np.arange(rows, dtype=float)
    y[rows - means :] += 0.35
    for (name, f1), (marker, color, size) in zip(
        baselines.items(), cycle((("|", INK, 13), ("D", MUTED, 4), ("^", MUTED, 5))), strict=False
    ):
        axes.plot(f1, y, marker, color=color, ms=size, mew=1.6, mfc="white", label=name, zorder=3)
    offsets = (np.arange(len(systems)) - (len(systems) - 1) / 2) * 0.26
    for (name, (f1, low, high)), offset, color in zip(systems.items(), offsets, cycle(SERIES), strict=False):
        axes.hlines(y + offset, low, high, color=color, lw=2.2, alpha=0.55)
        axes.plot(f1, y + offset, "o", color=color, ms=5.5, label=name, zorder=4)
    for row in np.flatnonzero(np.all([np.isnan(f1) for f1, _, _ in systems.values()], axis=0)):
        axes.text(0.01, y[row], "undefined: no positive frame", color=MUTED, va="center")
    axes.axhline(rows - means - 0.33, color=MUTED, lw=0.8)
    axes.set_yticks(y, labels, color=INK)
    axes.set_ylim(y[-1] + 0.6, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("F1 (line: 95 % interval over subjects)")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=4, handletextpad=0.3, columnspacing=1.4)
    return figure


@matplotlib.rc_context(STYLE)
def loss_curves(
    step: NDArray[np.floating],
    terms: Mapping[str, NDArray[np.floating]],
    scored_step: NDArray[np.floating],
    scored_f1: NDArray[np.floating],
    chosen_step: float | None = None,
    scored: str = "inner",
) -> Figure:
    """Loss terms over the steps of one stage, each on its own scale, and the F1 of the epochs, where scored.

    Args:
      step: (s,) of the training rows.
      terms: name -> (s,), the total first; nan where a row lacks the term.
      scored_step, scored_f1: (e,) of the epochs that were scored; e may be 0.
      chosen_step: where the epoch was chosen; marked on the F1.
      scored: on which subjects.
    """
    panels = len(terms) + (len(scored_step) > 0)
    columns = min(6, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, 1.95 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[panels:]:
        axes.set_visible(False)
    ends = np.concatenate([step, scored_step])
    for axes, (name, values) in zip(grid, terms.items(), strict=False):
        held = np.isfinite(values)
        axes.plot(step[held], values[held], color=SERIES[0], lw=0.7, alpha=0.3)
        axes.plot(step[held], running_mean(values[held]), color=SERIES[0], lw=1.8)
        low, high = np.percentile(values[held], (0, 99)) if held.any() else (0, 1)
        margin = 0.06 * (high - low) or 0.05
        axes.set_ylim(low - margin, high + margin)  # the first steps may shoot over the top
        axes.set_title(name, color=INK)
    axes = grid[panels - 1]
    if len(scored_step):
        axes.plot(scored_step, scored_f1, "o-", color=SERIES[1], lw=1.8, ms=3.5, clip_on=False)
        axes.set_title(f"F1, {scored} subjects", color=INK)
        axes.set_ylim(0, max(1e-3, 1.3 * np.nanmax(scored_f1, initial=0)))
    if chosen_step is not None and len(scored_step):
        f1 = scored_f1[np.argmin(np.abs(scored_step - chosen_step))]
        axes.plot(chosen_step, f1, "o", mfc="none", mec=INK, ms=9, mew=1.4, clip_on=False)
        late = chosen_step > ends.mean()
        axes.annotate(
            "chosen: " + f"{f1:.3f}".removeprefix("0"),
            (chosen_step, f1),
            (5 if late else -5, 9),
            textcoords="offset points",
            ha="right" if late else "left",
            color=INK,
        )
    for axes in grid[:panels]:
        axes.set_xlim(min(0, ends.min(initial=0)), ends.max(initial=1))
        axes.grid(axis="y")
        axes.tick_params(length=2, labelsize=8)
        axes.locator_params(nbins=4)
    for axes in grid[max(0, panels - columns) : panels]:
        axes.set_xlabel("step")
    return figure


@matplotlib.rc_context(STYLE)
def epoch_lines(
    epoch: NDArray[np.floating], panels: Mapping[str, NDArray[np.floating]], aus: Sequence[int]
) -> Figure:
    """A value of each AU over the epochs (LAC, Figs. 4 and 5); lines are named where they end.

    Args:
      epoch: (e,).
      panels: title -> (e, k).
      aus: k AU numbers.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    colors = {"upper": SERIES[0], "middle": SERIES[2], "lower": SERIES[1]}
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, values) in zip(grid, panels.items(), strict=True):
        height = float(np.nanmax(values, initial=0)) or 1.0
        places = _spread(values[-1], 0.055 * height, 1.02 * height)
        for column, au in enumerate(aus):
            color = colors[facs.ACTION_UNITS[au].region]
            axes.plot(epoch, values[:, column], color=color, lw=1.3, alpha=0.85)
            axes.annotate(
                facs.column(au),
                (epoch[-1], values[-1, column]),
                (epoch[-1] + 0.06 * np.ptp(epoch) + 0.05, places[column]),
                va="center",
                fontsize=8,
                color=color,
                arrowprops={"arrowstyle": "-", "color": GRID, "lw": 0.7, "shrinkA": 0, "shrinkB": 0},
            )
        axes.set_title(title, color=INK)
        axes.set_ylim(min(0, places.min(initial=0)), 1.06 * height)
        axes.set_xlim(epoch[0], epoch[-1] + 0.16 * np.ptp(epoch) + 0.3)
        axes.set_xticks(epoch[:: max(1, len(epoch) // 6)])
        axes.grid(axis="y")
        axes.tick_params(length=2, labelsize=8)
        axes.set_xlabel("epoch")
    return figure


def _spread(values: NDArray[np.floating], gap: float, top: float) -> NDArray[np.float64]:
    """Places for labels near ``values`` (k,), ``gap`` apart and none above ``top``, in the same order."""
    order = np.argsort(values)
    places = np.array(values, np.float64)
    for below, above in zip(order[:-1], order[1:], strict=True):
        places[above] = max(places[above], places[below] + gap)
    limit = top
    for index in order[::-1]:
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return places


def running_mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centred mean over a twentieth of the length, shorter at the ends: (n,) -> (n,)."""
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


@matplotlib.rc_context(STYLE)
def attention_overlay(
    images: NDArray[np.uint8],
    attention: NDArray[np.floating],
    aus: Sequence[int],
    probability: NDArray[np.floating],
    truth: NDArray[np.integer],
) -> Figure:
    """Where each AU is looked for: a row per face, a column per AU, warm = the AU's direction.

    The opacity grows with the size of the value, on one scale for the whole figure, so that a map
    without a peak stays a plain face.

    Args:
      images: (n, s, s, 3) RGB.
      attention: (n, h, w, k) in [-1, 1].
      aus: k AU numbers.
      probability, truth: (n, k).
    """
    n, size, k = len(images), images.shape[1], len(aus)
    cell = WIDTH / (k + 1)
    figure = Figure(figsize=(WIDTH, n * (cell + 0.24) + 0.75))
    top = 0.3 / figure.get_figheight()
    bottom = 0.45 / figure.get_figheight()
    grid = figure.add_gridspec(
        n, k + 1, left=0, right=1, top=1 - top, bottom=bottom, wspace=0.06, hspace=0.24 / cell
    )
    limit = float(np.percentile(np.abs(attention), 99.5)) or 1.0
    factor = size / attention.shape[1], size / attention.shape[2]
    for row in range(n):
        axes = picture(figure, grid, row, 0, images[row])
        if row == 0:
            axes.set_title("face", fontsize=9, loc="center")
        gray = images[row].mean(axis=-1, keepdims=True) / 255 * np.ones(3)
        for column, au in enumerate(aus):
            values = zoom(attention[row, ..., column], factor, order=1, mode="nearest", grid_mode=True)
            axes = picture(figure, grid, row, column + 1, _tint(gray, values / limit))
            present = bool(truth[row, column])
            if row == 0:
                axes.set_title(facs.column(au), fontsize=9, loc="center")
            if present:
                for spine in axes.spines.values():
                    spine.set(visible=True, color=INK, linewidth=1.5)
            axes.set_xlabel(
                f"{probability[row, column]:.2f}{' ●' if present else ''}",
                fontsize=8.5,
                color=INK if present else MUTED,
                fontweight="bold" if present else "normal",
                labelpad=2,
            )
    bar = figure.add_axes((0.6, 0.16 / figure.get_figheight(), 0.3, 0.09 / figure.get_figheight()))
    scale = np.linspace(-1, 1, 256)[None]
    bar.imshow(_tint(np.full((1, 256, 3), 0.8), scale), aspect="auto", extent=(-1, 1, 0, 1))
    bar.set_axis_off()
    for x, text, side in ((-1.03, f"−{limit:.2f} away", "right"), (1.03, f"+{limit:.2f} towards", "left")):
        bar.text(x, 0.5, text, ha=side, va="center", fontsize=8.5, color=MUTED)
    return figure


def _tint(gray: NDArray[np.floating], value: NDArray[np.floating]) -> NDArray[np.float64]:
    """Orange over (h, w, 3) where value (h, w) is positive, a paler blue where negative, clear at 0."""
    value = np.clip(value, -1, 1)[..., None]
    opacity = np.where(value > 0, 0.85, 0.5) * np.abs(value)
    colour = np.where(value > 0, to_rgb(SERIES[1]), to_rgb(SERIES[0]))
    return (1 - opacity) * gray + opacity * colour


def picture(figure: Figure, grid: GridSpec, row: int, column: int, image: NDArray[np.generic]) -> Axes:
    """A picture without axes in one cell of a grid."""
    axes = figure.add_subplot(grid[row, column])
    axes.imshow(image, interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


@matplotlib.rc_context(STYLE)
def timeline(
    timestamp: NDArray[np.floating],
    probability: NDArray[np.floating],
    truth: NDArray[np.integer] | None,
    aus: Sequence[int],
    threshold: Sequence[float],
    frames: NDArray[np.uint8] | None = None,
    frame_timestamp: NDArray[np.floating] | None = None,
) -> Figure:
    """Probability of each AU over a video, a row per AU, true occurrence as a band behind it.

    Args:
      timestamp: (t,) seconds.
      probability: (t, k); nan (no face) leaves a gap.
      truth: (t, k) occurrence, or None.
      aus, threshold: k each.
      frames, frame_timestamp: (n, h, w, 3) pictures shown above at (n,) seconds.
    """
    k = len(aus)
    strip = 0 if frames is None else 1.5
    figure = Figure(figsize=(WIDTH, strip + 0.46 * k + 0.55), layout="constrained")
    figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)  # type: ignore[union-attr, call-arg]
    ratios = ([3.0] if strip else []) + [1.0] * k
    panels = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0])
    if frames is not None and frame_timestamp is not None:
        _strip(panels.pop(0), frames, frame_timestamp, float(timestamp[0]), float(timestamp[-1]))
    for row, (axes, au) in enumerate(zip(panels, aus, strict=True)):
        if truth is not None:
            axes.fill_between(
                timestamp, 0, 1, where=truth[:, row] > 0, step="mid", color=TRUTH, alpha=0.42, lw=0
            )
        axes.axhline(threshold[row], color=MUTED, lw=0.8, ls=(0, (2, 3)))
        axes.plot(timestamp, probability[:, row], color=SERIES[0], lw=1.6, clip_on=False)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.set_ylabel(
            f"{facs.column(au)}  {facs.ACTION_UNITS[au].name}", rotation=0, ha="right", va="center", color=INK
        )
        axes.tick_params(axis="x", length=0 if row < k - 1 else 3)
    panels[-1].set_xlim(timestamp[0], timestamp[-1])
    panels[-1].set_xlabel("seconds")
    return figure


def _strip(
    axes: Axes, frames: NDArray[np.uint8], seconds: NDArray[np.floating], start: float, end: float
) -> None:
    """Pictures side by side, each joined by a hair line to its moment on the time axis."""
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    width = 1 / len(frames)
    for index, (frame, moment) in enumerate(zip(frames, seconds, strict=True)):
        inset = axes.inset_axes((index * width + 0.003, 0.14, width - 0.006, 0.86))
        inset.imshow(frame)
        inset.set_anchor("S")
        inset.set(xticks=[], yticks=[])
        inset.spines[:].set_visible(False)
        x = start + (index + 0.5) * width * (end - start)
        axes.plot([x, moment], [0.13, 0.0], color=MUTED, lw=0.8, clip_on=False)


@matplotlib.rc_context(STYLE)
def subject_spread(names: Sequence[str], f1: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Mean F1 of each test subject, sorted by the first system: how unequal the faces are.

    Args:
      names: (s,) subjects.
      f1: system -> (s,); nan where no AU of the subject has a positive.
    """
    order = np.argsort(next(iter(f1.values())))
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.subplots()
    for (name, values), color, marker in zip(f1.items(), cycle(SERIES), cycle("os^D"), strict=False):
        axes.plot(np.arange(len(order)), values[order], marker, color=color, ms=5.5, label=name)
    axes.set_xticks(np.arange(len(order)), [names[i] for i in order])
    axes.tick_params(length=0, labelsize=8.5 if len(names) <= 30 else 0)
    axes.tick_params(axis="y", labelsize=8.5)
    axes.set_ylim(0, 1)
    axes.grid(axis="y")
    axes.set_xlabel("test subject")
    axes.set_ylabel("mean F1 at .5")
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.2)
    return figure


@matplotlib.rc_context(STYLE)
def matrices(panels: Mapping[str, NDArray[np.floating]], aus: Sequence[int]) -> Figure:
    """Matrices over pairs of AUs side by side on one scale: adjacency of truth, predictions, networks.

    Orange is positive, blue negative, a dash undefined; each cell shows its number.

    Args:
      panels: title -> (k, k), nan where undefined.
      aus: k AU numbers.
    """
    k, names = len(aus), [facs.column(au).removeprefix("AU") for au in aus]
    side = WIDTH / max(2, len(panels))
    figure = Figure(figsize=(side * len(panels), 1.02 * side), layout="constrained")
    limit = max((float(np.nanmax(np.abs(values), initial=0)) for values in panels.values()), default=0) or 1
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        shares = np.nan_to_num(values / limit)
        axes.imshow(_tint(np.ones((k, k, 3)), shares), interpolation="nearest")
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{round(float(value), 2) + 0.0:.2f}".replace("0.", ".")
            axes.text(column, row, text, ha="center", va="center", fontsize=min(8.5, 72 * side / k / 4))
        axes.set_xticks(range(k), names)
        axes.set_yticks(range(k), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, color=INK)
    return figure


@matplotlib.rc_context(STYLE)
def reliability(
    names: Sequence[str],
    probability: NDArray[np.floating],
    rate: NDArray[np.floating],
    count: NDArray[np.integer],
) -> Figure:
    """How often an AU is present where the network says p, a panel per AU; on the diagonal: calibrated.

    Args:
      names: (k,) of the panels.
      probability, rate, count: (k, bins) mean probability, share present, and number of frames in each bin;
        nan where a bin is empty. The dots' area grows with the number.
    """
    columns = min(7, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, lines * WIDTH / columns * 1.12), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes, name, x, y, n in zip(grid, names, probability, rate, count, strict=False):
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)))
        axes.plot(x[n > 0], y[n > 0], color=SERIES[0], lw=1.2)
        axes.scatter(
            x[n > 0], y[n > 0], s=4 + 90 * n[n > 0] / max(1, n.max()), color=SERIES[0], alpha=0.7, lw=0
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        axes.set_title(name, color=INK)
        axes.tick_params(length=2, labelsize=8)
    figure.supxlabel("probability", fontsize=9.5, color=MUTED)
    figure.supylabel("share present", fontsize=9.5, color=MUTED)
    return figure
