"""One self-contained HTML page for a run: scores, curves, pictures and how to go on.

Everything is inside the file (pictures as data URIs, no script, no request), so that it can be
mailed, archived and read offline.
"""

import base64
import io
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from jaxau import facs, metrics
from jaxau.report import figures, tables


class Localisation(TypedDict):
    """Faces and where the network looked for each AU."""

    images: NDArray[np.uint8]  # (n, s, s, 3) RGB
    attention: NDArray[np.floating]  # (n, h, w, k) in [-1, 1]
    aus: list[int]  # k
    probability: NDArray[np.floating]  # (n, k)
    truth: NDArray[np.integer]  # (n, k)


class Video(TypedDict):
    """Predictions on an unseen video."""

    title: str  # what it shows and where the landmarks came from
    timestamp: NDArray[np.floating]  # (t,) seconds
    probability: NDArray[np.floating]  # (t, k), nan where no face
    truth: NDArray[np.integer] | None  # (t, k)
    aus: list[int]  # k
    frames: NDArray[np.uint8]  # (n, h, w, 3) RGB
    frame_timestamp: NDArray[np.floating]  # (n,) seconds


class Examples(TypedDict, total=False):
    """What a caller may show beside the numbers; a part that is absent is left out of the page."""

    localisation: Localisation
    sequence: Localisation  # frames of one video, in order
    failures: Localisation
    video: Video
    contact_sheet: NDArray[np.uint8]  # (h, w, 3) RGB
    wall_time: dict[str, float]  # phase -> seconds
    facts: dict[str, str]  # label -> sentence, beside what the checkpoint says of its training
    commands: dict[str, str]  # what it does -> shell command, after the commands for this run


class Picture(NamedTuple):
    """An embedded picture: data URI, text for who cannot see it, width at which it is legible."""

    uri: str
    alt: str
    width: int  # CSS pixels


def write_run_page(workdir: Path, corpus: str, examples: Examples, out: Path) -> Path:
    """Write the page of the run in ``workdir`` on ``corpus`` to ``out`` and return ``out``.

    Reads ``metrics.jsonl``, ``eval/<corpus>/scores.json``, ``eval/<corpus>/<stage>_predictions.npz``
    and ``<stage>/model/model.json``. If any of them says synthetic, so do the title and each score.

    Raises:
      ValueError: the run is not scored on ``corpus``, or ``examples`` has an unknown key or shapes
        that do not belong together.
    """
    _check_examples(examples)
    evaluation = workdir / "eval" / corpus
    needed = [workdir / "metrics.jsonl", evaluation / "scores.json"]
    if missing := [str(path) for path in needed if not path.is_file()]:
        raise ValueError(
            f"{', '.join(missing)}: not found; train in {workdir} and score it on {corpus} first "
            "(python -m launch.evaluate)"
        )
    scores = json.loads(needed[1].read_text())
    stages = list(scores["stages"])
    models = {s: json.loads((workdir / s / "model" / "model.json").read_text()) for s in stages}
    history = [json.loads(line) for line in needed[0].read_text().splitlines()]
    predictions = {s: dict(np.load(evaluation / f"{s}_predictions.npz")) for s in stages}
    scores["synthetic"] = scores["synthetic"] or any(m["synthetic"] for m in models.values())

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("jaxau.report").joinpath("templates/run.html.j2").read_text("utf-8")
    last = models[stages[-1]]
    page = environment.from_string(template).render(
        scores=scores,
        network=str(last["network"]).upper(),
        synthetic=scores["synthetic"],
        subjects={part: names for part, names in scores["subjects"].items()},
        stages=[_stage(scores, stage, models[stage]) for stage in stages],
        baselines=[
            (tables.BASELINES.get(name, name), score["mean"], tables.interval(score["mean"]))
            for name, score in scores["baselines"].items()
        ],
        notes=tables.notes(scores),
        choice=_choice(scores, last["selection"]),
        unseen=_unseen(scores),
        fold=tables.fold_name(scores["fold"]),
        facts=_facts(scores, models, predictions) | examples.get("facts", {}),
        further=tables.events_and_relations(scores),
        groups=tables.group_table(scores),
        groups_of=tables.of_last_stage(scores),
        number=tables.number,
        interval=tables.interval,
        intervals=_intervals(scores),
        spread=_spread(scores, predictions),
        curves=[
            (s, _curves(history, s, scores["stages"][s]["epoch"]), _epochs(history, s, scores["aus"]))
            for s in stages
        ],
        localisation=_localisation(examples.get("localisation")),
        sequence=_localisation(examples.get("sequence")),
        failures=_localisation(examples.get("failures")),
        video=_video(examples.get("video"), last),
        video_title=examples["video"]["title"] if "video" in examples else "",
        sheet=_sheet(examples.get("contact_sheet")),
        wall_time=examples.get("wall_time", {}),
        commands=_commands(workdir) | examples.get("commands", {}),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def _check_examples(examples: Examples) -> None:
    known = list(Examples.__annotations__)
    if unknown := [key for key in examples if key not in known]:
        raise ValueError(f"examples {unknown}: unknown; the page shows {known}")
    maps = {"images": "n...", "attention": "n..k", "probability": "nk", "truth": "nk"}
    for part, axes in (
        ("localisation", maps),
        ("sequence", maps),
        ("failures", maps),
        ("video", {"timestamp": "t", "probability": "tk", "truth": "tk", "frames": "m...",
                   "frame_timestamp": "m"}),
    ):  # fmt: skip
        if part in examples:
            _check_axes(part, examples[part], axes)  # type: ignore[literal-required]


def _check_axes(part: str, arrays: Mapping[str, Any], axes: dict[str, str]) -> None:
    """Axes with the same letter must have the same length; a dot is any length."""
    facs.check_aus(arrays["aus"])
    lengths = {"k": (len(arrays["aus"]), "aus")}
    for name, letters in axes.items():
        if arrays[name] is None and name == "truth":
            continue
        shape = np.shape(arrays[name])
        if len(shape) != len(letters):
            raise ValueError(f"{part}.{name} has shape {shape}: {len(letters)} axes are needed")
        for letter, length in zip(letters, shape, strict=True):
            expected, first = lengths.setdefault(letter, (length, name))
            if letter != "." and length != expected:
                raise ValueError(
                    f"{part}.{name} has shape {shape}, but {part}.{first} counts {expected}: "
                    "the arrays must describe the same frames and AUs"
                )


def _stage(scores: tables.Scores, stage: str, model: dict[str, Any]) -> dict[str, Any]:
    table = tables.stage_table(scores, stage)
    half = scores["stages"][stage]["at_half"]
    rule = tables.rules(scores["stages"][stage])[-1]
    floor = scores["baselines"]["always_on"]["mean"]["f1"]
    gain = None if half["mean"]["f1"] is None or floor is None else half["mean"]["f1"] - floor
    return {
        "name": stage,
        "epoch": scores["stages"][stage]["epoch"],
        "columns": list(table),
        "rows": table.to_numpy().tolist(),
        "aus": len(half["per_au"]),
        "half": half["mean"],
        "chosen": None if rule == "at_half" else scores["stages"][stage][rule]["mean"],
        "chosen_name": tables.SELECTIONS[rule],
        "gain": None if gain is None else f"{gain:+.3f}".replace("+0", "+").replace("-0", "−"),
        "clip_length": model["clip_length"],
    }


def _facts(
    scores: tables.Scores, models: dict[str, dict[str, Any]], predictions: dict[str, Any]
) -> dict[str, str]:
    """What was trained on what, as label -> sentence."""
    last = list(models.values())[-1]
    subjects = {part: len(names) for part, names in scores["subjects"].items()}
    first = next(iter(predictions.values()))
    epochs = ", ".join(f"{stage}: {m['epoch']}" for stage, m in models.items())
    clip = f", clips of {last['clip_length']} frames" if last["clip_length"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    return {
        "Trained on": str(last["trained_on"]),
        "Training subjects": f"{subjects['train']}; {_choice(scores, last['selection'])}",
        "Test subjects": f"{subjects['test']}, {_unseen(scores)}; {len(first['record']):,} frames",
        "Protocol": f"{scores['protocol']}, {tables.fold_name(scores['fold'])} of corpus {scores['corpus']}",
        "Selection": f"{scores['selection']}; epochs: {epochs}",
        "Input": f"alignment {last['alignment']}, {last['image_size']} px{clip}",
        "Manifest": scores["manifest_hash"],
        "Parameters": last["hash"],
        "Licence": str(last["licence"]),
        "Versions": versions,
    }


def _choice(scores: tables.Scores, selection: str) -> str:
    """How epoch and thresholds of the model came about."""
    return {
        "honest": f"epoch and thresholds chosen on {len(scores['subjects']['inner'])} other, inner subjects",
        "conventional": "the last epoch and threshold .5, nothing was chosen",
        "optimistic": "epoch and thresholds chosen on the test subjects (optimistic)",
    }[selection]


def _unseen(scores: tables.Scores) -> str:
    return "not trained on, but read to choose" if scores["selection"] == "optimistic" else "unseen"


def _intervals(scores: tables.Scores) -> Picture:
    first = next(iter(scores["stages"].values()))["at_half"]
    means = [key for key in tables.MEANS if key in first]
    labels = [tables.au_name(row["au"]) for row in first["per_au"]]
    labels += [tables.mean_name(key, first[key]) for key in means]

    def values(score: dict[str, Any], key: str) -> list[float]:
        rows = score["per_au"] + [score[mean] for mean in means]
        return [np.nan if row[key] is None else row[key] for row in rows]

    systems = {
        f"stage {stage}": tuple(values(s["at_half"], key) for key in ("f1", "f1_low", "f1_high"))
        for stage, s in scores["stages"].items()
    }
    baselines = {tables.BASELINES.get(n, n): values(s, "f1") for n, s in scores["baselines"].items()}
    figure = figures.f1_intervals(labels, systems, baselines, len(means))  # type: ignore[arg-type]
    summary = "; ".join(
        f"stage {stage} {tables.interval(s['at_half']['mean'])}" for stage, s in scores["stages"].items()
    )
    floor = tables.number(scores["baselines"]["always_on"]["mean"]["f1"])
    alt = f"F1 of each AU with 95 % intervals. Mean: {summary}; always on {floor}. The table has all numbers."
    return svg(figure, alt)


def _spread(scores: tables.Scores, predictions: dict[str, dict[str, Any]]) -> Picture:
    """Mean F1 at .5 of each subject, over the AUs of which the subject has a positive."""
    f1: dict[str, NDArray[np.float64]] = {}
    names: list[str] = []
    for stage, p in predictions.items():
        truth, mask = p["truth"].astype(bool), p["mask"].astype(bool)
        subjects, counts = metrics.subject_counts(p["probability"], truth, mask, 0.5, p["subject"])
        per_au = metrics.f1_from_counts(counts)
        held = ~np.isnan(per_au)
        number = held.sum(axis=1)
        mean = np.where(held, per_au, 0).sum(axis=1) / np.maximum(number, 1)
        f1[f"stage {stage}"] = np.where(number > 0, mean, np.nan)
        names = [str(subject) for subject in subjects]
    first = next(iter(f1.values()))
    alt = f"Mean F1 of {len(names)} test subjects, from {np.nanmin(first):.2f} to {np.nanmax(first):.2f}."
    return svg(figures.subject_spread(names, f1), alt)


def _curves(history: list[dict[str, Any]], stage: str, chosen_epoch: int) -> Picture:
    rows = [row for row in history if row["stage"] == stage]
    key = next((key for row in rows for key in ("inner/f1", "test/f1") if key in row), "")
    scored = [row for row in rows if key in row]
    training = [row for row in rows if "loss" in row]
    names = dict.fromkeys(key for row in training for key in row)
    terms = {
        name: np.array([row.get(name, np.nan) for row in training], dtype=float)
        for name in names
        if name not in ("stage", "step", "epoch", "lr", "examples_per_s")
    }
    terms = {"loss": terms.pop("loss", np.array([]))} | terms
    figure = figures.loss_curves(
        np.array([row["step"] for row in training], dtype=float),
        terms,
        np.array([row["step"] for row in scored], dtype=float),
        np.array([row[key] for row in scored], dtype=float),
        next((float(row["step"]) for row in scored if row["epoch"] == chosen_epoch), None),
        key.removesuffix("/f1"),
    )
    ends = terms["loss"][[0, -1]] if len(training) else [np.nan, np.nan]
    shown = [*terms, f"F1 of {key.removesuffix('/f1')} subjects"] if key else terms
    alt = (
        f"Curves of stage {stage}: {', '.join(shown)} over {len(training)} logged steps. "
        f"The loss goes from {ends[0]:.3g} to {ends[1]:.3g}."
    )
    return svg(figure, alt)


def _epochs(history: list[dict[str, Any]], stage: str, aus: list[int]) -> Picture | None:
    """Class distribution and recall per AU over epochs, where the network's loss logs them."""
    rows = [row for row in history if row["stage"] == stage and "loss" not in row]
    if not rows or any(f"recall/{facs.column(au)}" not in rows[0] for au in aus):
        return None
    panels = {
        title: np.array([[row[f"{key}/{facs.column(au)}"] for au in aus] for row in rows])
        for title, key in (
            ("share of positive labels in the epoch's sample", "distribution"),
            ("recall on the training frames", "recall"),
            ("weight in the loss", "weight"),
        )
        if f"{key}/{facs.column(aus[0])}" in rows[0]
    }
    figure = figures.epoch_lines(np.array([row["epoch"] for row in rows], float), panels, aus)
    return svg(figure, f"{', '.join(panels)} of {len(aus)} AUs over {len(rows)} epochs of stage {stage}.")


def _localisation(shown: Localisation | None) -> Picture | None:
    if shown is None:
        return None
    figure = figures.attention_overlay(
        shown["images"], shown["attention"], shown["aus"], shown["probability"], shown["truth"]
    )
    listed = ", ".join(facs.column(au) for au in shown["aus"])
    alt = f"{len(shown['images'])} faces, each with a map of where the network looks for {listed}."
    return webp(figure, alt)


def _video(video: Video | None, model: dict[str, Any]) -> Picture | None:
    if video is None:
        return None
    threshold = dict(zip(model["aus"], model["thresholds"], strict=True))
    figure = figures.timeline(
        video["timestamp"],
        video["probability"],
        video["truth"],
        video["aus"],
        [threshold[au] for au in video["aus"]],
        video["frames"],
        video["frame_timestamp"],
    )
    against = "" if video["truth"] is None else " against the true occurrence"
    seconds = video["timestamp"][-1] - video["timestamp"][0]
    alt = f"Probability of {len(video['aus'])} AUs{against} over {seconds:.1f} seconds of video."
    return webp(figure, alt)


def _sheet(image: NDArray[np.uint8] | None) -> Picture | None:
    if image is None:
        return None
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "webp", quality=88)
    return Picture(_uri("image/webp", stream.getvalue()), "Contact sheet of faces of the corpus.", 960)


def _commands(workdir: Path) -> dict[str, str]:
    detector = "--detector yunet --detector_weights YUNET.onnx"
    return {
        "Run this detector on a video or picture": f"jaxau predict VIDEO --checkpoint {workdir} "
        f"--out predictions {detector}",
        "Say what this checkpoint is and was trained on": f"jaxau info {workdir}",
    }


def svg(figure: Figure, alt: str) -> Picture:
    """Embed a figure as SVG: sharp at any size. Text is drawn as outlines, so no font is needed."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "jaxau"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(_uri("image/svg+xml", stream.getvalue()), alt, round(96 * figure.get_figwidth()))


def webp(figure: Figure, alt: str, dpi: int = 180) -> Picture:
    """Embed a figure that holds photographs as WebP: a tenth of the size of PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="webp", dpi=dpi, pil_kwargs={"quality": 86, "method": 6})
    return Picture(_uri("image/webp", stream.getvalue()), alt, round(96 * figure.get_figwidth()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
