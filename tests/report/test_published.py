"""The published numbers are whole, belong to known columns, and add up, row by row."""

import math
from collections import Counter

import pytest

from jaxau import facs
from jaxau.report import published

CELLS = [cell for paper in published.PAPERS for cell in published.read(paper)]
CORPORA = {"bp4d", "disfa", "bp4d_plus", "bp4dplus", "gft", "aff_wild2", "raf_au", "fec", "mixture"}


def _rows_of_aus():
    """Key, values of the AUs (as printed where no value is held to be right), and the printed mean."""
    rows = {}
    for cell in CELLS:
        if cell.au is not None:
            key = (cell.paper, cell.table, cell.corpus, cell.metric, cell.method)
            value = cell.value if cell.value is not None else float(cell.printed.strip("[]"))
            rows.setdefault(key, {})[cell.au] = value
    for key, row in rows.items():
        mean = row.pop("mean", None)
        if row and mean is not None:
            yield key, list(row.values()), mean


def test_all_cells_are_there():
    counts = Counter(cell.paper for cell in CELLS)
    assert counts == {"gtle_net": 983, "aunet": 497, "aar": 660, "glee_net": 615, "lac": 362}
    assert len(CELLS) == 3117


def test_each_mean_is_that_of_its_cells_but_for_the_listed_rows():
    listed = {(row.paper, row.table, row.metric, row.method): row for row in published.not_the_mean()}
    checked, off = 0, set()
    for (paper, table, _, metric, method), values, mean in _rows_of_aus():
        checked += 1
        found = math.fsum(values) / len(values)
        if abs(found - mean) > published.TOLERANCE + 1e-9:
            key = (paper, table, metric, method)
            off.add(key)
            assert key in listed, f"{key}: mean of the cells {found:.2f}, printed {mean}"
            row = listed[key]
            assert row.mean_of_cells == pytest.approx(found, abs=0.0051) and row.printed_mean == mean
            assert row.reason
    assert set(listed) - off == set(), "listed, but their mean is right"
    assert (checked, len(off)) == (263, 23)


def test_columns_hold_what_they_may():
    for cell in CELLS:
        assert cell.metric in published.METRICS, cell
        assert isinstance(cell.au, str) or cell.au is None or cell.au in facs.ACTION_UNITS, cell
        assert set(cell.corpus.split("_to_")) <= CORPORA | {""}, cell
        assert cell.method and cell.table and cell.method == cell.method.strip(), cell
    assert {cell.metric for cell in CELLS} == set(published.METRICS)


def test_percentages_are_between_0_and_100():
    for cell in CELLS:
        if cell.metric in ("f1", "accuracy", "auc", "occurrence_rate") and cell.value is not None:
            assert 0 <= cell.value <= 100, cell


def test_no_cell_stands_twice():
    keys = Counter((c.paper, c.table, c.corpus, c.metric, c.method, c.au) for c in CELLS)
    assert [key for key, count in keys.items() if count > 1] == []


def test_a_value_that_is_not_as_printed_says_why():
    for cell in CELLS:
        if cell.printed:
            assert cell.note, cell
        if cell.note.startswith("repaired"):
            assert cell.printed.strip("[]") not in ("", str(cell.value)), cell
        if cell.value is None:
            assert cell.printed and cell.note, cell


def test_corrupt_print_is_repaired():
    """Read by hand in the papers' texts."""

    def cell(paper, table, method, au):
        (found,) = (c for c in published.read_table(paper, table) if (c.method, c.au) == (method, au))
        return found.value, found.printed

    assert cell("aunet", "XIV", "ResNet18", 1) == (41.4, "4104")
    assert cell("glee_net", "IV", "EAC-Net", 1) == (38.0, "380")
    assert cell("lac", "II", "LAC", 24)[0] == 57.0
    assert cell("lac", "III", "LAC", "mean") == (67.8, "")


def test_an_unknown_paper_is_named():
    with pytest.raises(ValueError, match=r"paper 'lack'.*choose from \['gtle_net'"):
        published.read("lack")
