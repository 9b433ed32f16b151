"""Figures of faces with maps or landmarks on them, and graphs of AUs; from arrays to a ``Figure``."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jaxau import facs
from jaxau.report.figures import INK, MUTED, SERIES, STYLE, WIDTH

_CELL = 1.7  # inches of a picture


@matplotlib.rc_context(STYLE)
def map_grid(
    images: NDArray[np.uint8], maps: Mapping[str, NDArray[np.floating]], names: Sequence[str] = ()
) -> Figure:
    """Maps beside the faces they are of: a row per face, a column per map, each face's map on its own scale.

    Args:
      images: (n, s, s, 3) RGB.
      maps: title -> (n, h, w), at least 0; bright is large.
      names: (n,) of the rows, under the faces; () = none.
    """
    n, titles = len(images), ["face", *maps]
    figure = Figure(figsize=(_CELL * len(titles), 0.3 + (_CELL + 0.25) * n), layout="constrained")
    grid = figure.subplots(n, len(titles), squeeze=False)
    for row, axes_of_row in enumerate(grid):
        for column, axes in enumerate(axes_of_row):
            if column == 0:
                axes.imshow(images[row])
                axes.set_xlabel(names[row] if names else "", fontsize=8)
            else:
                axes.imshow(maps[titles[column]][row], cmap="magma", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(titles[column], fontsize=9, loc="center", color=INK)
    return figure


@matplotlib.rc_context(STYLE)
def faces(images: NDArray[np.uint8], landmarks: NDArray[np.floating], names: Sequence[str]) -> Figure:
    """Faces with landmarks, in rows of three.

    Args:
      images: (n, s, s, 3) RGB.
      landmarks: (n, p, 2) pixels.
      names: (n,), under the faces.
    """
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns + 0.6)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(images) :]:
        axes.set_visible(False)
    for axes, image, points, name in zip(panels, images, landmarks, names, strict=False):
        axes.imshow(image)
        axes.plot(points[:, 0], points[:, 1], ".", color=SERIES[0], ms=3.5, mec="white", mew=0.3)
        axes.set(xticks=[], yticks=[], xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.spines[:].set_visible(False)
        axes.set_xlabel(name, fontsize=9, color=INK)
    return figure


@matplotlib.rc_context(STYLE)
def relation_graph(
    panels: Mapping[str, NDArray[np.floating]], aus: Sequence[int], beyond: float = 0.2
) -> Figure:
    """AUs on a circle, joined where their correlation is strong: orange if positive, else blue and dashed.

    Args:
      panels: title -> (k, k) in [-1, 1], nan where undefined.
      aus: k AU numbers.
      beyond: least absolute correlation that is drawn.
    """
    side, k = WIDTH / max(2, len(panels)), len(aus)
    figure = Figure(figsize=(side * len(panels), side), layout="constrained")
    angles = np.pi / 2 - 2 * np.pi * np.arange(k) / k
    x, y = np.cos(angles), np.sin(angles)
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for i, j in zip(*np.triu_indices(k, 1), strict=True):
            value = values[i, j]
            if np.isfinite(value) and abs(value) >= beyond:
                color, style = (SERIES[1], "-") if value > 0 else (SERIES[0], "--")
                axes.plot(x[[i, j]], y[[i, j]], style, color=color, lw=4 * abs(value), alpha=0.75, zorder=1)
        axes.plot(x, y, "o", color="white", mec=MUTED, ms=19, zorder=2)
        for au, left, up in zip(aus, x, y, strict=True):
            name = facs.column(au).removeprefix("AU")
            axes.text(left, up, name, ha="center", va="center", fontsize=8.5, color=INK, zorder=3)
        axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
        axes.set_axis_off()
        axes.set_title(title, color=INK)
    return figure
