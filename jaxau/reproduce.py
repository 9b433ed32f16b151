"""The papers' tables and figures as data, and what makes them: each row is a run of its own.

A paper's file of tables holds a `Paper`. Its rows are overrides of the paper's configuration; `make_table`
trains and scores those that are not done yet and sets them beside the published numbers, `make_figure`
draws from the same runs. A run lies in ``<workdir>/<paper>/<corpus>-<budget>/<hash of its configuration>``,
so rows that tables share are trained once, and the same command again goes on where it was stopped.
"""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from tqdm import tqdm

from jaxau import compare, complexity, crossval, evaluate, facs, models, train, weights
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.report import paper_figures, paper_tables, published, tables
from jaxau.report.paper_lines import SIZES_LINES, steps, table_lines
from jaxau.report.paper_tables import Result, corpus_name

Budget = Literal["smoke", "short", "paper"]
BUDGETS: dict[str, str] = {
    "smoke": "to see that all runs: one fold, a tiny network, 20 steps a stage",
    "short": "one fold, one seed, a small network for a few hundred steps",
    "paper": "as printed, all folds",
}


class Row(NamedTuple):
    """One row of a table: its label, the stages that it trains, and path -> value of what it changes.

    ``published`` is its method among the published numbers, "" where these lack it. ``weights`` are its
    ``config.weights`` in the budget "paper", None those of the configuration: small networks have no imported
    ones.
    """

    label: str
    stages: tuple[str, ...]
    overrides: Mapping[str, Any]
    published: str = ""
    weights: Mapping[str, str] | None = None


class Table(NamedTuple):
    """A table of a paper.

    Attributes:
      title: what it shows.
      corpus: on which the paper measured it, as in the published numbers; "" if on none.
      rows: the rows that are networks of the paper.
      shape: "settings": a mean F1 per row; "methods": F1 per AU, beside the published rows; "sizes":
        parameters and multiply-accumulates, for which nothing is trained; "relations": what each row has
        learned of the relations between AUs; "paired": each row against the first, on the same frames;
        "triplets": how many triplets of expressions each row puts in the right order.
      note: why there is nothing to run, where that is not for lack of the network.
    """

    title: str
    corpus: str
    rows: tuple[Row, ...] = ()
    shape: Literal["settings", "methods", "sizes", "relations", "paired", "triplets"] = "settings"
    note: str = ""


class Figure(NamedTuple):
    """A figure of a paper, drawn from the runs of ``rows`` as ``draws`` (see `paper_figures.DRAW`) says."""

    title: str
    corpus: str
    rows: tuple[Row, ...] = ()
    draws: str = ""
    note: str = ""


class Paper(NamedTuple):
    """What a paper shows, by number.

    Attributes:
      name: of the network, as in `models.MODELS`, and of the published numbers.
      title: for readers.
      roman: whether its tables are numbered in Roman numerals.
      get_config: of ``configs/<name>.py``: "VARIANT,stages=A+B" -> configuration. A small budget changes its
        variant "synthetic"; otherwise the variant is the corpus. None where the network is not here yet.
      budgets: "smoke" and "short" -> path -> value of what the budget changes before the row does; stages
        that a row has not are passed over.
    """

    name: str
    title: str
    roman: bool
    tables: Mapping[int, Table]
    figures: Mapping[int, Figure]
    get_config: Callable[[str], ml_collections.ConfigDict] | None = None
    budgets: Mapping[str, Mapping[str, Any]] = {}


class Request(NamedTuple):
    """What to make from which data: the flags of the command.

    ``corpus`` may be A_to_B, to train on A and to test on all of B. ``weights`` stand over those of each row
    whose network has such parameters.
    """

    paper: Paper
    corpus: str
    budget: str
    make_data: Callable[[Config], Any]
    folds: Callable[[Config], int]  # how many the protocol has
    workdir: Path
    seed: int = 0  # of all rows
    weights: Mapping[str, str] = {}


RUNNABLE = "runnable here"


class Made(NamedTuple):
    """The files that were written, and the rows that failed with the reason."""

    files: list[Path]
    failed: dict[str, str]


def table_name(paper: Paper, number: int) -> str:
    """The number as the paper prints it: ``IV`` or ``4``."""
    return roman(number) if paper.roman else str(number)


def roman(number: int) -> str:
    """1 to 39 in Roman numerals."""
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    return "X" * (number // 10) + ones[number % 10]


def find(entries: Mapping[int, Any], number: str, what: str) -> int:
    """The key of table or figure ``number``, given as "4" or "IV".

    Raises:
      ValueError: there is none; names those that there are.
    """
    for key in entries:
        if number.strip().upper() in (str(key), roman(key)):
            return key
    raise ValueError(f"--{what}={number}: not in the paper's list {list(entries)}; give one of these")


def status(paper: Paper, entry: Table | Figure) -> str:
    """`RUNNABLE`, or why not."""
    if entry.note:
        return entry.note
    if paper.name not in models.MODELS:
        return f"not yet: network {paper.name} is not here"
    return RUNNABLE if entry.rows else "not yet: its rows are not written"


def catalogue(papers: Mapping[str, Paper]) -> list[dict[str, Any]]:
    """A dict for each table and figure: paper, kind, number, title, corpus and status.

    Tables also have ``others``: how many methods stand in them with their published numbers only.
    """
    listed: list[dict[str, Any]] = []
    for paper in papers.values():
        for number, table in paper.tables.items():
            name = table_name(paper, number)
            methods = {cell.method for cell in published.read_table(paper.name, name)}
            others = len(methods - {row.published for row in table.rows}) if table.rows else 0
            listed.append(_entry(paper, "table", name, table) | {"others": others})
        for number, figure in paper.figures.items():
            listed.append(_entry(paper, "figure", str(number), figure))
    return listed


def _entry(paper: Paper, kind: str, number: str, entry: Table | Figure) -> dict[str, Any]:
    of = {"paper": paper.name, "kind": kind, "number": number, "title": entry.title, "corpus": entry.corpus}
    return of | {"status": status(paper, entry)}


def configure(paper: Paper, row: Row, printed: str, corpus: str, budget: str) -> Config:
    """The configuration of a row.

    The small budgets train the variant "synthetic" of the paper's configuration, a small network, on any
    corpus; the budget "paper" trains the corpus's own variant. Synthetic faces show every AU, so the AUs are
    those of the paper's corpus there.

    Args:
      paper: that the row belongs to.
      row: what to change, after the budget has.
      printed: the corpus on which the paper has the row.
      corpus: on which to train it.
      budget: key of `BUDGETS`.

    Raises:
      ValueError: unknown corpus or budget, or the configuration breaks a rule.
    """
    if budget not in BUDGETS:
        raise ValueError(f"--budget={budget}: give one of {list(BUDGETS)}")
    assert paper.get_config is not None, "runnable papers have a configuration"
    variant, _ = _parts(corpus)
    own = paper.get_config(variant)
    values = paper.get_config(
        f"{variant if budget == 'paper' else 'synthetic'},stages={'+'.join(row.stages)}"
    )
    for name in ("corpus", "aus", "protocol", "alignment", "mixture"):
        values.data[name] = own.data[name]
    trained_on, _ = _parts(printed)
    if variant == "synthetic" and trained_on in facs.CORPUS_AUS:
        values.data.aus = facs.CORPUS_AUS[trained_on]
    if budget == "paper" and row.weights is not None:
        values.weights = dict(row.weights)
    for path, value in paper.budgets.get(budget, {}).items():
        room, _, stage = path.partition(".")
        if room != "stages" or stage.split(".")[0] in row.stages:
            values.update_from_flattened_dict({path: value})
    values.update_from_flattened_dict(row.overrides)
    return config_lib.from_dict(values.to_dict())


def _parts(corpus: str) -> tuple[str, str]:
    """Of "A_to_B" A and B, of others the corpus and ""; tests on a corpus of a mixture are not on another."""
    trained, _, tested = corpus.partition("_to_")
    return (trained, tested) if tested and trained != "mixture" else (corpus, "")


def run_name(config: Config) -> str:
    """Twelve hexadecimal digits that stand for every value of the configuration."""
    text = json.dumps(config_lib.to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def score_run(
    config: Config, folds: int, make_data: Callable[[Config], Any], directory: Path, tested: str = ""
) -> tuple[tables.Scores, tables.Scores | None]:
    """Train and score what is not done yet: fold 1, or all folds; or fold 1 on all subjects of ``tested``.

    Returns:
      The scores of fold 1 and None, or the mean of folds and the scores of the pooled predictions.

    Raises:
      ValueError: no paper scores the corpus ``tested``.
    """
    if tested:
        if tested not in facs.CORPUS_AUS:
            raise ValueError(f"--corpus=..._to_{tested}: test on one of {list(facs.CORPUS_AUS)}")
        train.run(config, make_data, directory / "fold1")
        coded = facs.CORPUS_AUS[tested]
        scores = evaluate.read_scores(evaluate.cross_corpus(directory / "fold1", make_data, tested, coded))
        for stage in scores["stages"].values():  # inner subjects of the training corpus chose them
            stage["honest"] = stage["model"]
        return scores, None
    if folds > 1:
        merged = evaluate.read_scores(crossval.run(config, folds, make_data, directory))
        return merged["mean_of_folds"], merged["pooled"]
    train.run(config, make_data, directory / "fold1")
    return evaluate.read_scores(evaluate.run(directory / "fold1", make_data)), None


def make_table(request: Request, number: int, score: Callable[..., Any] = score_run) -> Made:
    """Write ``<workdir>/<paper>/table_<number>_<corpus>_<budget>`` .md .csv .tex, training what it needs.

    A row that fails is named in the table and in the result, and does not keep the others from being made.

    Args:
      request: what to make.
      number: key of ``request.paper.tables``.
      score: what trains and scores a row, as `score_run`.

    Raises:
      ValueError: the table cannot be made here, or an unknown corpus or budget.
    """
    paper, table = request.paper, request.paper.tables[number]
    _check_runnable(paper, table)
    printed, name = table.corpus, table_name(paper, number)
    sizes = table.shape == "sizes"
    configs = [_configure(request, row, table) for row in table.rows]
    results = []
    for i, (row, config) in enumerate(zip(table.rows, configs, strict=True), 1):
        _say(f"row {i} of {len(configs)}: {row.label}")
        began = time.perf_counter()
        try:
            results.append(_count(row, config) if sizes else _score(request, row, config, score))
            _say(f"  {time.perf_counter() - began:.0f} s")
        except Exception as error:  # whatever it is, it must not lose the other rows
            results.append(Result(row.label, row.published, error=_reason(error)))
            _say(f"  failed: {_reason(error)}")
    cells = published.read_table(paper.name, name)
    if sizes:
        shown = paper_tables.size_table(results, cells)
    else:
        if table.shape in ("relations", "paired"):
            results = _compared(request, configs, results)
        shown = paper_tables.SHAPES[table.shape](results, cells, printed, request.corpus)
    failed = {result.label: result.error for result in results if result.error}
    lines = SIZES_LINES if sizes else table_lines(_budget(request), configs, results)
    lines = [*lines, *_other_data(printed, request.corpus)]
    if request.budget != "paper" and not sizes:
        lines += [
            f"{row.label}: begins at random here, without weights." for row in table.rows if row.weights
        ]
    lines += [f"{label} failed: {reason}" for label, reason in failed.items()]
    on = "" if sizes else f" ({_on(request)})"
    title = f"{paper.title}, Table {name}: {table.title}{on}"
    markdown, latex = paper_tables.document(title, lines, shown)
    long = paper_tables.long_table(results, cells, printed).to_csv(index=False)
    stem = _stem(request, f"table_{name}")
    files = tables.write_files(request.workdir / paper.name, stem, (markdown, long, latex))
    return Made(files, failed)


def make_figure(request: Request, number: int) -> Made:
    """Write ``<workdir>/<paper>/figure_<number>_<corpus>_<budget>`` .png .md, drawn from fold 1 of its runs.

    Raises:
      ValueError: the figure cannot be made here, an unknown corpus or budget, or a run failed.
    """
    paper, figure = request.paper, request.paper.figures[number]
    _check_runnable(paper, figure)
    runs: dict[str, Path] = {}
    configs = [_configure(request, row, figure) for row in figure.rows]
    for i, (row, config) in enumerate(zip(figure.rows, configs, strict=True), 1):
        _say(f"run {i} of {len(figure.rows)}: {row.label}")
        config = _of_occurring(request, config)
        runs[row.label] = _directory(request, config) / "fold1"
        score_run(config, 1, request.make_data, runs[row.label].parent)
    drawn = paper_figures.DRAW[figure.draws](runs, request.make_data)
    folder, stem = request.workdir / paper.name, _stem(request, f"figure_{number}")
    scores = evaluate.read_scores(next(iter(runs.values())) / "eval" / configs[0].data.corpus)
    text = [f"# {paper.title}, Fig. {number}: {figure.title} ({_on(request)})", ""]
    files = [folder / f"{stem}.md"]
    folder.mkdir(parents=True, exist_ok=True)
    for i, (caption, picture) in enumerate(drawn.items(), 1):
        files.append(folder / (f"{stem}.png" if len(drawn) == 1 else f"{stem}_{i}.png"))
        picture.savefig(files[-1], dpi=150)
        text += [f"{caption}:", "", f"![{caption}]({files[-1].name})", ""]
    text += [f"{line}\n" for line in (tables.provenance(scores), *steps(_budget(request), configs, scores))]
    files[0].write_text("\n".join(text) + "\n", encoding="utf-8")
    return Made(files, {})


def _check_runnable(paper: Paper, entry: Table | Figure) -> None:
    found = status(paper, entry)
    if found != "runnable here":
        raise ValueError(f"{paper.title}, {entry.title!r}: {found}; --list says what can be made")


def _configure(request: Request, row: Row, entry: Table | Figure) -> Config:
    sizes = isinstance(entry, Table) and entry.shape == "sizes"
    corpus, budget = (entry.corpus, "paper") if sizes else (request.corpus, request.budget)
    config = configure(request.paper, row, entry.corpus, corpus, budget)
    given = {} if sizes else weights.fitting(config, request.weights)
    return dataclasses.replace(config, seed=request.seed, weights={**config.weights, **given})


def _stem(request: Request, what: str) -> str:
    return f"{what}_{request.corpus}_{request.budget}" + (f"_seed{request.seed}" if request.seed else "")


def _of_occurring(request: Request, config: Config) -> Config:
    """For the budget "smoke", the AUs that occur on the training subjects: of few people, some never do.

    And no less than a tenth of the frames: of so few, the hundredth part may show no AU at all.
    """
    if request.budget != "smoke":
        return config
    data = dataclasses.replace(config.data, fraction=max(config.data.fraction, 0.1))
    config = dataclasses.replace(config, data=data)
    counts = request.make_data(config).statistics["n_occ"]
    aus = tuple(au for au, count in zip(config.data.aus, counts, strict=True) if count)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, aus=aus))


def _directory(request: Request, config: Config) -> Path:
    variant, _ = _parts(request.corpus)
    return request.workdir / request.paper.name / f"{variant}-{request.budget}" / run_name(config)


def _score(request: Request, row: Row, config: Config, score: Callable[..., Any]) -> Result:
    config = _of_occurring(request, config)
    folds, (_, tested) = request.folds(config) if request.budget == "paper" else 1, _parts(request.corpus)
    other = {"tested": tested} if tested else {}
    scores, pooled = score(config, folds, request.make_data, _directory(request, config), **other)
    about = {
        "run": run_name(config),
        "corpus": request.corpus,
        "synthetic": scores["synthetic"],
        "budget": request.budget,
        **{key: scores[key] for key in ("protocol", "fold", "frames", "manifest_hash")},
        "seed": config.seed,
    }
    return Result(row.label, row.published, about, scores, pooled, row.stages[-1])


def _compared(request: Request, configs: list[Config], results: list[Result]) -> list[Result]:
    """The results with what each row is against the first, on the frames that both were tested on."""
    runs = [_directory(request, _of_occurring(request, config)) for config in configs]
    runs = [run if result.pooled else run / "fold1" for run, result in zip(runs, results, strict=True)]
    if results[0].scores is None:
        return results
    corpus = results[0].scores["corpus"]
    return [
        result._replace(compared=compare.compare(run, runs[0], corpus)) if result.scores else result
        for run, result in zip(runs, results, strict=True)
    ]


def _other_data(printed: str, ours: str) -> list[str]:
    """What is to be said where the paper trains on other data than it tests on, and this table does not."""
    trained, _, tested = printed.partition("_to_")
    if not tested or "_to_" in ours:
        return []
    return [
        f"The paper trains on {corpus_name(trained)} and tests on {corpus_name(tested)}; here the training "
        f"and the test subjects are all of {corpus_name(ours)}."
    ]


def _count(row: Row, config: Config) -> Result:
    """Parameters, and multiply-accumulates of as many pictures as a clip has, from shapes alone."""
    stage = row.stages[-1]
    network, side, frames = models.create(config, stage), config.data.image_size, config.data.clip_length
    lead = (1, frames) if config.stages[stage].view == "clips" else (frames,)
    image = jax.ShapeDtypeStruct((*lead, side, side, 3), jnp.uint8)
    variables = models.abstract_variables(config, stage)
    size = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "macs": complexity.count_macs(network.apply, variables, image),
    }
    return Result(row.label, row.published, {"frames": frames, "side": side}, size=size)


def _budget(request: Request) -> str:
    return f"Budget {request.budget} ({BUDGETS[request.budget]})"


def _on(request: Request) -> str:
    return f"on {corpus_name(request.corpus)}, budget {request.budget}"


def _reason(error: Exception) -> str:
    """The first line of a user's mistake; of anything else also its kind."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
