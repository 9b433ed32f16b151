"""Embeddings of faces to look at: t-SNE by AU combination, its spread, and image retrieval.

GLEE-Net, Figs. 2 and 5 to 7; GTLE-Net, Figs. 6 and 7.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.manifold import TSNE

from jaxau.report.figures import GRID, INK, MUTED, SERIES, STYLE, TRUTH, WIDTH, picture

_COLORS = (*SERIES, TRUTH, "#56b4e9", INK)
_MARKERS = "os^Dv<>"


class Combinations(NamedTuple):
    """The commonest AU combinations of a set of faces."""

    names: tuple[str, ...]  # "AUs(6,12)", the commonest first; "no AU" for none
    member: NDArray[np.int32]  # (n,) index into names, -1 where a face shows another combination


def combinations(truth: ArrayLike, mask: ArrayLike, aus: Sequence[int], most: int = 7) -> Combinations:
    """Group faces by the AUs they show; a face with an uncoded AU belongs to no group.

    Args:
      truth, mask: (n, k) occurrence, and True where it is coded.
      aus: k AU numbers.
      most: number of groups to keep.
    """
    truth, whole = np.asarray(truth, bool), np.asarray(mask, bool).all(axis=1)
    found, inverse, count = np.unique(truth[whole], axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")[:most]
    place = np.full(len(found), -1)
    place[order] = np.arange(len(order))
    member = np.full(len(truth), -1, np.int32)
    member[whole] = place[inverse]
    numbers = [[str(au) for au, shown in zip(aus, found[row], strict=True) if shown] for row in order]
    return Combinations(tuple(f"AUs({','.join(n)})" if n else "no AU" for n in numbers), member)


def average_variance(embedding: ArrayLike, groups: Combinations) -> float | None:
    """Ave-Var of GLEE-Net's Fig. 6: the variance within each combination, averaged over combinations.

    The variance of a combination is the mean squared distance of its members to their mean, over that of all
    faces to theirs, so that embeddings of different scale compare [choice; the paper does not define it]. 1
    means that combinations explain nothing.

    Args:
      embedding: (n, d).
      groups: of the same n faces.

    Returns:
      The average, or None where no combination has two faces or all faces coincide.
    """
    embedding = np.asarray(embedding, np.float64)
    total = embedding.var(axis=0).sum()
    members = [embedding[groups.member == index] for index in range(len(groups.names))]
    within = [one.var(axis=0).sum() for one in members if len(one) > 1]
    return float(np.mean(within) / total) if within and total > 0 else None


def project(embedding: ArrayLike, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE of (n, d) to (n, 2), the same for the same seed.

    Raises:
      ValueError: fewer than 5 faces.
    """
    embedding = np.asarray(embedding, np.float32)
    if len(embedding) < 5:
        raise ValueError(f"{len(embedding)} faces: t-SNE needs at least 5")
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(embedding)


def nearest(embedding: ArrayLike, queries: ArrayLike, subject: ArrayLike, count: int = 7) -> NDArray[np.intp]:
    """The nearest faces of other subjects: retrieval must not be won by recognising the person.

    Args:
      embedding: (n, d); distance is Euclidean.
      queries: (q,) indices of faces.
      subject: (n,).
      count: number of faces for each query.

    Returns:
      (q, count) indices, the nearest first.

    Raises:
      ValueError: other subjects have fewer than ``count`` faces.
    """
    embedding, subject = np.asarray(embedding, np.float64), np.asarray(subject)
    found = []
    for query in np.asarray(queries):
        others = np.flatnonzero(subject != subject[query])
        if len(others) < count:
            raise ValueError(
                f"query {query}: other subjects have {len(others)} faces, fewer than the {count} asked for"
            )
        distance = np.square(embedding[others] - embedding[query]).sum(axis=1)
        found.append(others[np.argsort(distance, kind="stable")[:count]])
    return np.array(found, np.intp).reshape(-1, count)


@matplotlib.rc_context(STYLE)
def scatter(points: NDArray[np.floating], groups: Combinations, title: str) -> Figure:
    """Faces in two dimensions, coloured and marked by their AU combination; others are grey.

    Args:
      points: (n, 2), of `project`.
      groups: of the same faces.
      title: what is embedded.
    """
    figure = Figure(figsize=(0.62 * WIDTH, 0.45 * WIDTH), layout="constrained")
    axes = figure.subplots()
    other = groups.member < 0
    if other.any():
        axes.plot(*points[other].T, ".", color=GRID, ms=5, label="others", zorder=1)
    for index, name in enumerate(groups.names):
        chosen = points[groups.member == index]
        marker, color = _MARKERS[index % len(_MARKERS)], _COLORS[index % len(_COLORS)]
        axes.plot(*chosen.T, marker, color=color, ms=4.5, alpha=0.75, mew=0, label=f"{name}: {len(chosen)}")
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=INK)
    figure.legend(loc="outside right upper")
    return figure


@matplotlib.rc_context(STYLE)
def retrieval(
    images: NDArray[np.uint8],
    queries: NDArray[np.intp],
    found: NDArray[np.intp],
    truth: NDArray[np.integer],
    aus: Sequence[int],
) -> Figure:
    """A row for each query, framed, and the faces that were found for it, with the AUs that each shows.

    Args:
      images: (n, s, s, 3) RGB.
      queries, found: (q,) and (q, count) indices into ``images``, of `nearest`.
      truth: (n, k) occurrence.
      aus: k AU numbers.
    """
    rows, columns = len(queries), found.shape[1] + 1
    cell = min(1.35, WIDTH / columns)
    figure = Figure(figsize=(cell * columns, rows * (cell + 0.25)))
    grid = figure.add_gridspec(rows, columns, left=0.005, right=0.995, top=0.99, bottom=0.22 / (rows * 1.5),
                               wspace=0.05, hspace=0.22)  # fmt: skip
    for row, query in enumerate(queries):
        for column, face in enumerate((query, *found[row])):
            axes = picture(figure, grid, row, column, images[face])
            shown = [str(au) for au, present in zip(aus, truth[face], strict=True) if present]
            same = column == 0 or (truth[face] == truth[query]).all()
            axes.set_xlabel(
                " ".join(shown) or "no AU",
                fontsize=8,
                labelpad=2,
                color=INK if same else MUTED,
                fontweight="bold" if same else "normal",
            )
            if column == 0:
                for spine in axes.spines.values():
                    spine.set(visible=True, color=SERIES[2], linewidth=3)
    return figure
