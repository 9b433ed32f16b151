"""Benchmarks of one device as a page for people and a file for programs, `<device>.md` and `<device>.json`.

A page has sections (a network in one precision, the loader, prediction), each with the command that measured
it. What is measured again replaces its section and leaves the others.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxau import files
from jaxau.report.tables import UNDEFINED

Record = dict[str, Any]

STEP_COLUMNS = {
    "what": "`inference`: pictures to probabilities; `training`: one whole update (forward, loss, gradients, "
    "optimizer). In brackets the stage of training whose network and input it is",
    "batch": "what one step works on: stills, or clips of so many frames",
    "parameters": "numbers that training can change; where the stage trains only a part, that after a slash",
    "GMAC / frame": "billions of multiply-accumulates (of convolutions and matrix products) for each frame, "
    "counted from the jaxpr; of training, from the jaxpr of loss and gradients",
    "compile": "seconds to trace, lower and compile the step, without the persistent cache",
    "first step": "seconds until a first step is done, caches off: compilation and one step, for training "
    "also making the first state. Starting Python and reading data are not in it",
    "step": "milliseconds of a step: median [quartiles] of n, after warm-up, each waited for to its end",
    "n": "steps timed",
    "samples/s": "stills or clips a second, from the median",
    "frames/s": "pictures a second, from the median",
    "roof": "2 x multiply-accumulates / step time, as a share of the roof (see above)",
    "memory": "planned by the compiler: arguments (parameters, optimizer, batch), results, temporaries",
    "peak": "most memory in use so far: of the device where it tells, else of the whole process on the host "
    "(resident set)",
}
AGAINST_COLUMNS = {
    "what": "as above; both run by turns (A B A B ...) in one process, with the same weights and batch",
    "jaxau": "milliseconds of a step of jaxau, median [quartiles] over rounds",
    "PyTorch": "milliseconds of a step of the PyTorch twin in the form that is named above the table",
    "ratio": "PyTorch's time / jaxau's in a round, median [quartiles] over rounds; **above 1, jaxau is "
    "faster**",
    "rounds": "number of rounds",
    "logits, loss": "largest difference before timing, in float32, as a share of the largest value",
}
LOADER_COLUMNS = {
    "stage": "stage of training that the batches are for",
    "pictures": "`jpeg`: decoded each time in threads; `raw`: once, into a file mapped into memory; "
    "`device`: once, and kept on the accelerator, which cuts and colours them",
    "frames/s": "pictures a second that come out of the pipeline, batched, with no network running",
    "one thread decodes": "JPEGs of this data set that one thread decodes a second, and does nothing else",
    "of all cores": "the first over the second times the cores, in rounds by turns: median [quartiles]",
    "processor time": "of decoding alone over that of the whole pipeline, for a picture: other work on the "
    "machine spoils this share less",
    "fed step": "milliseconds of a training step in a loop that draws its batches from the pipeline",
    "resident step": "the same with a batch that is already on the device",
    "stall": "1 - resident / fed, median [quartiles] over rounds: the share of training lost to waiting for "
    "batches, and to sharing cores with what makes them",
}
PREDICTION_COLUMNS = {
    "stage": "stage whose network predicts; untrained, because speed does not depend on weights",
    "faces": "where they come from, and how many were predicted in how many frames",
    "frames/s": "of the video, decoded, faces found, aligned, predicted, written: median [quartiles] of n",
    "n": "runs timed",
    "first run": "seconds of the run before these, which compiles or finds the program in the cache",
}
FIT_COLUMNS = {
    "noise": "pixels on the landmarks, in pictures of 256",
    "jaxau": "faces a second, all faces at once: median [quartiles] over turns",
    "SciPy": "method of `scipy.optimize.least_squares`, one face after another from the same start, on one "
    "thread, with residuals in NumPy arrays and its own numerical Jacobian",
    "its faces/s": "median [quartiles] over rounds",
    "ratio": "its seconds for a face over jaxau's: median [quartiles]; **above 1, jaxau is faster**",
    "as low": "faces on which jaxau's energy is at most 1.0001 times SciPy's, of all",
}
ACCURACY_COLUMNS = {
    "synthetic faces": "`linear`: of the built-in model itself, its 51 shapes each on their own; `rendered`: "
    "as the generator draws them, AUs of both sides; seen by a known camera",
    "landmarks": "of each face",
    "noise": "as above",
    "pose": "degrees by which the worst of yaw, pitch and roll is off: median [quartiles] over faces",
    "most": "degrees of the worst face",
    "within 1 degree": "share of the faces",
    "correlation": "of fitted coefficients with the truth: median [quartiles] over the shapes that move",
    "AU2, AU4, AU9": "correlations of these, the lower of both sides",
}


def write(folder: Path, device: str, sections: Record) -> tuple[Path, Path]:
    """Put ``sections`` into the device's two files; returns their paths (.md, .json)."""
    name = re.sub("[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", device.lower())).strip("-")
    data, page = folder / f"{name}.json", folder / f"{name}.md"
    old = files.read_json(data)["sections"] if data.is_file() else {}
    record = {"device": device, "sections": {**old, **sections}}
    files.write_json(data, record)
    page.write_text(markdown(record))
    return page, data


def markdown(record: Record) -> str:
    """The page: each section with how it was measured, its tables, and what their columns mean."""
    shapes = {"steps": _steps, "loader": _loader, "prediction": _prediction, "fit": _fit}
    parts = [f"# Speed on {record['device']}"]
    for section in record["sections"].values():
        parts += shapes[section["kind"]](section)
    return "\n\n".join(parts) + "\n"


def _steps(section: Record) -> list[str]:
    roof = section["roof"]
    rows = [
        [
            f"{row['mode']} ({row['stage']})",
            _batch(row),
            _parameters(row),
            f"{row['macs'] / row['frames'] / 1e9:.2f}",
            f"{row['compile_seconds']:.1f} s",
            f"{row['first_step_seconds']:.1f} s",
            _milliseconds(row["step_seconds"]),
            str(row["step_seconds"]["n"]),
            _number(row["samples_per_second"]),
            _number(row["frames_per_second"]),
            f"{row['share_of_roof']:.0%}",
            _bytes(row["planned_memory_bytes"]),
            _bytes(row["device_peak_bytes"] or row["host_peak_bytes"]),
        ]
        for row in section["rows"]
    ]
    parts = [
        f"## {section['network']}, {section['dtype']}",
        _environment(section),
        f"Roof, the rate of a jitted matrix product {roof['product']} in the same run: "
        f"{roof['flops_per_second'] / 1e9:,.0f} GFLOP/s for each device. Batches are noise of the paper's "
        "size, and already on the device.",
        _table(STEP_COLUMNS, rows),
        _legend(STEP_COLUMNS),
    ]
    if against := section.get("against"):
        rows = [
            [
                f"{row['mode']} ({row['stage']}), {_batch(row)}",
                _milliseconds(row["jaxau_seconds"]),
                _milliseconds(row["torch_seconds"]),
                _spread(row["speed_ratio"]),
                str(row["speed_ratio"]["n"]),
                f"{row['logit_difference']:.0e}, {row['loss_difference']:.0e}",
            ]
            for row in against
        ]
        parts += [
            f"### {section['network']} against PyTorch",
            f"PyTorch {section['versions']['torch']}: {against[0]['torch_form']}. jaxau: {section['dtype']}.",
            _table(AGAINST_COLUMNS, rows),
            _legend(AGAINST_COLUMNS),
        ]
    return parts


def _loader(section: Record) -> list[str]:
    rows = [
        [
            row["stage"],
            row["loader"],
            _spread(row["frames_per_second"]),
            _spread(row["decoded_per_second_and_thread"]),
            _spread(row["share_of_decoding"], 100, "%"),
            _spread(row["processor_share"], 100, "%"),
            _milliseconds(row["fed_seconds"]) if "fed_seconds" in row else UNDEFINED,
            _milliseconds(row["resident_seconds"]) if "resident_seconds" in row else UNDEFINED,
            _spread(row["stall_share"], 100, "%") if "stall_share" in row else UNDEFINED,
        ]
        for row in section["rows"]
    ]
    return [
        f"## Input pipeline, {section['network']} on {section['corpus']} faces",
        _environment(section),
        f"{section['threads']} loader threads, {section['cores']} cores; the network is the small one of the "
        f"configuration, {section['dtype']}.",
        _table(LOADER_COLUMNS, rows),
        _legend(LOADER_COLUMNS),
    ]


def _prediction(section: Record) -> list[str]:
    rows = [
        [
            row["stage"],
            f"{row['faces_from']}, {row['faces']} in {row['frames']}",
            _spread(row["frames_per_second"]),
            str(row["frames_per_second"]["n"]),
            f"{row['first_seconds']:.1f} s",
        ]
        for row in section["rows"]
    ]
    return [
        f"## Prediction of a video, {section['network']}, {section['dtype']}",
        _environment(section),
        f"{section['video']}: {section['width']} x {section['height']} pixels.",
        _table(PREDICTION_COLUMNS, rows),
        _legend(PREDICTION_COLUMNS),
    ]


def _fit(section: Record) -> list[str]:
    speeds = [
        [
            _number(row["noise"]),
            _spread(row["faces_per_second"]),
            method,
            _spread(row[method]["faces_per_second"]),
            _spread(row[method]["speed_ratio"]),
            f"{row[method]['as_low']} of {row['faces']}",
        ]
        for row in section["rows"]
        for method in ("trf", "lm")
    ]
    accuracies = [
        [
            f"{row['faces']} {'rendered' if row['rendered'] else 'linear'}",
            str(row["landmarks"]),
            _number(row["noise"]),
            _spread(row["pose_degrees"]),
            _number(row["most_degrees"]),
            f"{row['within_a_degree']:.1%}",
            _spread(row["correlation"]),
            ", ".join(f"{value:.3f}" for value in row["correlation_of"].values()),
        ]
        for row in section["accuracy"]
    ]
    return [
        "## Fit of the face model, synthetic faces",
        _environment(section),
        _table(FIT_COLUMNS, speeds),
        _legend(FIT_COLUMNS),
        _table(ACCURACY_COLUMNS, accuracies),
        _legend(ACCURACY_COLUMNS),
    ]


def _environment(section: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in section["versions"].items() if version)
    load = " ".join(f"{value:.2f}" for value in section["load_average"])
    return (
        f"    {section['command']}\n\n{section['date']}; {section['cores']} cores, load average at the start "
        f"{load}; {versions}."
    )


def _table(columns: dict[str, str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _legend(columns: dict[str, str]) -> str:
    return "\n".join(f"- **{name}**: {meaning}." for name, meaning in columns.items())


def _batch(row: Record) -> str:
    n, frames = row["batch_size"], row["frames"] // row["batch_size"]
    kind = "still" if frames == 1 else "clip"
    return f"{n} {kind}{'s' * (n > 1)}" + (f" x {frames}" if frames > 1 else "")


def _parameters(row: Record) -> str:
    both = [row["parameters"], row["trainable_parameters"]]
    texts = [f"{count / 1e6:.2f} M" for count in (both[:1] if both[0] == both[1] else both)]
    return " / ".join(texts)


def _spread(value: Record, scale: float = 1, unit: str = "") -> str:
    median, q1, q3 = (_number(value[key] * scale) for key in ("median", "q1", "q3"))
    return f"{median}{unit} [{q1}, {q3}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _milliseconds(seconds: Record) -> str:
    return _spread(seconds, 1e3)


def _bytes(count: int | None) -> str:
    return UNDEFINED if count is None else f"{count / 2**30:.2f} GiB"
