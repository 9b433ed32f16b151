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

from jaxau import complexity, crossval, evaluate, facs, models, train
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.report import paper_figures, paper_tables, published, tables
from jaxau.report.paper_tables import Result, corpus_name

Budget = Literal["smoke", "short", "paper"]
BUDGETS: dict[str, str] = {
    "smoke": "to see that all runs: one fold, a tiny network, 20 steps a stage",
    "short": "one fold, one seed, a small network for a few hundred steps",
    "paper": "as printed, all folds",
}


class Row(NamedTuple):
    """One row of a table: its label, the stages that it trains, and path -> value of what it changes.

    ``published`` is its method among the published numbers, "" where these lack it.
    """

    label: str
    stages: tuple[str, ...]
    overrides: Mapping[str, Any]
    published: str = ""


class Table(NamedTuple):
    """A table of a paper.

    Attributes:
      title: what it shows.
      corpus: on which the paper measured it, as in the published numbers; "" if on none.
      rows: the rows that are networks of the paper.
      shape: "settings": a mean F1 per row; "methods": F1 per AU, beside the published rows; "sizes":
        parameters and multiply-accumulates, for which nothing is trained.
      note: why there is nothing to run, where that is not for lack of the network.
    """

    title: str
    corpus: str
    rows: tuple[Row, ...] = ()
    shape: Literal["settings", "methods", "sizes"] = "settings"
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
    """What to make from which data: the flags of the command."""

    paper: Paper
    corpus: str
    budget: str
    make_data: Callable[[Config], Any]
    folds: Callable[[Config], int]  # how many the protocol has
    workdir: Path
    seed: int = 0  # of all rows


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
    """``runnable here``, or why not."""
    if entry.note:
        return entry.note
    if paper.name not in models.MODELS:
        return f"not yet: network {paper.name} is not here"
    return "runnable here" if entry.rows else "not yet: its rows are not written"


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
    own = paper.get_config(corpus)
    values = paper.get_config(f"{corpus if budget == 'paper' else 'synthetic'},stages={'+'.join(row.stages)}")
    for name in ("corpus", "aus", "protocol", "alignment"):
        values.data[name] = own.data[name]
    if corpus == "synthetic" and printed in facs.CORPUS_AUS:
        values.data.aus = facs.CORPUS_AUS[printed]
    for path, value in paper.budgets.get(budget, {}).items():
        room, _, stage = path.partition(".")
        if room != "stages" or stage.split(".")[0] in row.stages:
            values.update_from_flattened_dict({path: value})
    values.update_from_flattened_dict(row.overrides)
    return config_lib.from_dict(values.to_dict())


def run_name(config: Config) -> str:
    """Twelve hexadecimal digits that stand for every value of the configuration."""
    text = json.dumps(config_lib.to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def score_run(
    config: Config, folds: int, make_data: Callable[[Config], Any], directory: Path
) -> tuple[tables.Scores, tables.Scores | None]:
    """Train and score what is not done yet: fold 1, or all folds.

    Returns:
      The scores of fold 1 and None, or the mean of folds and the scores of the pooled predictions.
    """
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
        shape = paper_tables.setting_table if table.shape == "settings" else paper_tables.method_table
        shown = shape(results, cells, printed, request.corpus)
    failed = {result.label: result.error for result in results if result.error}
    lines = _sizes_lines() if sizes else _lines(request, configs, results)
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
    scores = evaluate.read_scores(next(iter(runs.values())) / "eval" / request.corpus)
    text = [f"# {paper.title}, Fig. {number}: {figure.title} ({_on(request)})", ""]
    files = [folder / f"{stem}.md"]
    folder.mkdir(parents=True, exist_ok=True)
    for i, (caption, picture) in enumerate(drawn.items(), 1):
        files.append(folder / (f"{stem}.png" if len(drawn) == 1 else f"{stem}_{i}.png"))
        picture.savefig(files[-1], dpi=150)
        text += [f"{caption}:", "", f"![{caption}]({files[-1].name})", ""]
    text += [f"{line}\n" for line in (tables.provenance(scores), *_steps(request, configs, scores))]
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
    return dataclasses.replace(config, seed=request.seed)


def _stem(request: Request, what: str) -> str:
    return f"{what}_{request.corpus}_{request.budget}" + (f"_seed{request.seed}" if request.seed else "")


def _of_occurring(request: Request, config: Config) -> Config:
    """For the budget "smoke", the AUs that occur on the training subjects: of few people, some never do."""
    if request.budget != "smoke":
        return config
    counts = request.make_data(config).statistics["n_occ"]
    aus = tuple(au for au, count in zip(config.data.aus, counts, strict=True) if count)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, aus=aus))


def _directory(request: Request, config: Config) -> Path:
    return request.workdir / request.paper.name / f"{request.corpus}-{request.budget}" / run_name(config)


def _score(request: Request, row: Row, config: Config, score: Callable[..., Any]) -> Result:
    config = _of_occurring(request, config)
    folds = request.folds(config) if request.budget == "paper" else 1
    scores, pooled = score(config, folds, request.make_data, _directory(request, config))
    about = {
        "run": run_name(config),
        "corpus": request.corpus,
        "synthetic": scores["synthetic"],
        "budget": request.budget,
        **{key: scores[key] for key in ("protocol", "fold", "frames", "manifest_hash")},
        "seed": config.seed,
    }
    return Result(row.label, row.published, about, scores, pooled, row.stages[-1])


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


def _sizes_lines() -> list[str]:
    return [
        "Counted here from the shapes of the paper's full-size network; nothing is trained, so corpus and "
        "budget change nothing. Multiply-accumulates of convolutions and matrix products, which papers call "
        "FLOPs; those of BatchNorm do not count. Numbers of others' networks are the printed ones alone."
    ]


def _lines(request: Request, configs: list[Config], results: list[Result]) -> list[str]:
    """What the numbers stand on."""
    scored = [result for result in results if result.scores]
    lines = [tables.provenance(result.scores) for result in scored[:1] if result.scores]
    lines += _steps(request, configs, scored[0].scores if scored else None)
    if scored and scored[0].pooled:
        lines.append(
            "F1 here: mean of the folds; interval: 95 % over subjects, of the folds' predictions pooled."
        )
    else:
        lines.append("F1 here: one fold; interval: 95 % over its test subjects.")
    lines.append("Printed numbers are the paper's own, on the corpus named with them.")
    return lines + list(dict.fromkeys(note for result in scored for note in _notes(result)))


def _notes(result: Result) -> list[str]:
    """What a reader must know of the row's F1: too narrow intervals, AUs without F1."""
    score = result.score("honest")
    assert score is not None, "only scored rows have notes"
    width = (result.pooled or result.scores or {})["stages"][result.stage]["honest"]["interval_note"]
    absent = ", ".join(facs.column(au) for au in score["mean"]["undefined"])
    undefined = (
        f"{absent}: no positive test frame, so F1 is undefined and not in the mean." if absent else None
    )
    return [note for note in (width, undefined) if note]


def _steps(request: Request, configs: list[Config], scores: tables.Scores | None) -> list[str]:
    """Budget, seed and steps of all rows in a line; in another, the AUs that ``scores`` lack."""
    stages = dict.fromkeys(
        f"{name}: {stage.epochs} epochs"
        + (f" or {stage.max_steps} steps, whichever end first" if stage.max_steps else "")
        + f", batches of {stage.batch_size}"
        for config in configs
        for name, stage in config.stages.items()
    )
    seeds = ", ".join(dict.fromkeys(str(config.seed) for config in configs))
    pixels = ", ".join(dict.fromkeys(str(config.data.image_size) for config in configs))
    about = f"Budget {request.budget} ({BUDGETS[request.budget]}) | seed {seeds} | {pixels} px"
    lines = [" | ".join([about, *stages])]
    if scores and (absent := [facs.column(au) for au in configs[0].data.aus if au not in scores["aus"]]):
        lines.append(
            f"{', '.join(absent)}: left out, no training subject shows them in a data set this small."
        )
    return lines


def _on(request: Request) -> str:
    return f"on {corpus_name(request.corpus)}, budget {request.budget}"


def _reason(error: Exception) -> str:
    """The first line of a user's mistake; of anything else also its kind."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
