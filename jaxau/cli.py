"""The ``jaxau`` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxau import models


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if all was done."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    try:
        if options.command == "predict":
            return _predict(options, arguments)
        return _COMMANDS[options.command](options)
    except (ValueError, OSError) as error:
        print(f"jaxau {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("jaxau: interrupted; the same command goes on with the next file", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxau", description="Facial Action Unit detection.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser(
        "info", help="the size of a network, or what a checkpoint is", description=_info.__doc__
    )
    info.add_argument("what", metavar="NETWORK|CHECKPOINT", help=f"{', '.join(models.MODELS)}, or a folder")
    info.add_argument("--aus", type=int, default=12, help="number of AUs of the network (default 12)")
    info.add_argument("--json", action="store_true", help="one JSON object on standard output")

    predict = commands.add_parser(
        "predict",
        help="Action Units of pictures and videos",
        description="Writes NAME.csv, NAME.parquet and NAME.json for each input: one row for each decoded "
        "frame and face, and one with a reason where there is no face. Nothing leaves this machine and no "
        "picture is stored, unless --overlay asks for it. What is done already is skipped.",
    )
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, videos, or folders of them")
    predict.add_argument("--checkpoint", required=True, metavar="DIR", help="a run, or a stage's model")
    predict.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    predict.add_argument("--detector", choices=["yunet"], help="finds faces and five landmarks")
    predict.add_argument("--detector_weights", type=Path, metavar="FILE", help="the detector's ONNX file")
    predict.add_argument(
        "--landmarks",
        type=Path,
        metavar="CSV",
        help="landmarks instead of a detector: video, frame (from 0), face_id, x_0.., y_0.. with 5, 49, 66, "
        "68 or 98 points; or a table of OpenFace 2 for one video",
    )
    predict.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="rows for each N-th frame only; saves space, and time too "
        "unless the network sees neighbouring frames: it is given all of them",
    )
    predict.add_argument("--save_landmarks", action="store_true", help="columns x_0.. y_0.. in the tables")
    predict.add_argument(
        "--pose",
        action="store_true",
        help="columns pose_Rx, pose_Ry, pose_Rz of the head, radians as of OpenFace 2; 5 points are too few",
    )
    predict.add_argument(
        "--face_model",
        type=Path,
        metavar="FILE",
        help="that the training data was fitted with, not the built-in",
    )
    predict.add_argument(
        "--face_model_landmarks",
        type=Path,
        metavar="FILE",
        help="68 vertices, where the model does not say them",
    )
    predict.add_argument(
        "--format",
        choices=["jaxau", "openface"],
        default="jaxau",
        help="columns of the CSV file; openface: those of OpenFace 2 that exist here, frames from 1",
    )
    predict.add_argument(
        "--alignment", metavar="NAME", help="refuse a checkpoint that was trained with another alignment"
    )
    predict.add_argument("--batch_size", type=int, metavar="N", help="stills or clips at once")
    predict.add_argument(
        "--overlay",
        action="store_true",
        help="also write NAME.overlay.mp4 or .jpg with boxes, landmarks and AU bars; this stores the faces",
    )
    _add_score(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_import_weights(commands)
    return parser


def _add_score(commands: Any) -> None:
    score = commands.add_parser(
        "score",
        help="score a table of predictions, of this or another tool, against codes",
        description="Joins two CSV files on video and frame (or time stamp), says what does not join, and "
        "prints F1 with 95 % intervals over subjects, event F1, AUC, ICC and more per AU.",
    )
    score.add_argument(
        "--truth",
        required=True,
        type=Path,
        metavar="CSV",
        help="codes: frame or timestamp (seconds), AU columns AU12 or AU12_c (0 or 1; empty, -1 or 9: not "
        "coded) or AU12_r (0 to 5), and video and subject where there are several",
    )
    score.add_argument(
        "--pred",
        required=True,
        nargs="+",
        type=Path,
        metavar="CSV",
        help="predictions of jaxau, OpenFace 2, py-feat or LibreFace: one file, or one for each video, then "
        "named like the video unless a column says it",
    )
    score.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="an AU is present from this probability on (default: as the tool itself says, else .5)",
    )
    score.add_argument(
        "--occurs_from",
        type=float,
        default=2,
        metavar="R",
        help="it is present from this intensity on, where there are only intensities (default 2)",
    )
    score.add_argument(
        "--unpredicted",
        choices=["excluded", "absent"],
        default="excluded",
        help="coded frames without prediction: leave out (default), or count as predicted absent",
    )
    score.add_argument(
        "--frame_offset",
        type=int,
        default=0,
        metavar="N",
        help="add N to the frames of the predictions, where the tables count from different numbers",
    )
    _add_output(score, "score")


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="one HTML page of a scored run",
        description="Writes one self-contained page, to read offline and to mail: scores with intervals, "
        "curves, calibration, relations, provenance. It shows no faces.",
    )
    report.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run that launch.evaluate has scored"
    )
    report.add_argument("--corpus", metavar="C", help="scored on it; needed if the run is scored on several")
    report.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run's folder")


def _add_import_weights(commands: Any) -> None:
    weights = commands.add_parser(
        "import-weights",
        help="weights of a public PyTorch network as a checkpoint to begin with",
        description="Reads .safetensors, .pth, .pt and .tar files without running the program that a pickle "
        "is; every name and shape must fit. Use the folder as --config.weights.PREFIX=DIR.",
    )
    weights.add_argument(
        "kind", metavar="KIND", help="the network: resnet50, fan ...; an unknown one is answered with all"
    )
    weights.add_argument("file", type=Path, metavar="FILE", help="of torch.save, or safetensors")
    weights.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder")
    weights.add_argument("--licence", metavar="TEXT", help="of the weights; kept in all that is made of them")


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two scored runs on the frames that both tested",
        description="Prints the F1 of both per AU and the difference with 95 % intervals over subjects, "
        "each run at its own thresholds and both at .5, and says whether a difference is shown.",
    )
    compare.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folders of two runs: A and B")
    compare.add_argument("--corpus", metavar="C", help="scored on it; needed if a run is scored on several")
    compare.add_argument("--stage", metavar="S", help="of both (default: the last of each)")
    _add_output(compare, "comparison")


def _add_output(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="draws for the intervals (default 1000)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"also write {name}.json, {name}.md and {name}.csv"
    )


def _info(options: argparse.Namespace) -> int:
    """Without allocating it, the size of a network; or what a checkpoint is and was trained on."""
    if options.what in models.MODELS:
        info = models.describe(options.what, options.aus)
    elif Path(options.what).exists():
        from jaxau.checkpoint import read_info

        info = read_info(options.what)
    else:
        raise ValueError(
            f"{options.what!r}: neither a network ({', '.join(models.MODELS)}) nor a folder; check the name"
        )
    if options.json:
        print(json.dumps(info))
        return 0
    for key, value in info.items():
        if key == "config":
            value = "see --json"
        print(f"{key:22}{_readable(value)}")
    return 0


def _score(options: argparse.Namespace) -> int:
    from jaxau import au_tables, referee
    from jaxau.report import referee as text

    report = referee.score(
        au_tables.read_truth(options.truth),
        au_tables.read_predictions(options.pred),
        options.threshold,
        options.unpredicted,
        options.occurs_from,
        options.frame_offset,
        options.bootstrap,
    )
    contents = text.score_markdown(report), text.score_csv(report)
    return _tell(options, "score", report, text.print_score(report), contents)


def _compare(options: argparse.Namespace) -> int:
    from jaxau import compare
    from jaxau.report import comparison as text

    run_a, run_b = options.runs
    result = compare.compare(run_a, run_b, options.corpus, options.stage, options.bootstrap)
    contents = text.markdown(result), text.long_csv(result)
    return _tell(options, "comparison", result, text.print_comparison(result), contents)


def _import_weights(options: argparse.Namespace) -> int:
    from jaxau import pretrained

    info = pretrained.import_weights(options.kind, options.file, options.out, options.licence)
    print(f"{options.out}: {info['statement']}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from jaxau.report import html

    scored = sorted(path.parent.name for path in (options.run / "eval").glob("*/scores.json"))
    if options.corpus is None and len(scored) != 1:
        known = f"scored on {', '.join(scored)}; choose one with --corpus" if scored else "not scored yet"
        raise ValueError(f"{options.run}: {known} (python -m launch.evaluate scores a run)")
    corpus = options.corpus or scored[0]
    print(html.write_run_page(options.run, corpus, {}, options.out or options.run / "report.html"))
    return 0


def _tell(
    options: argparse.Namespace, name: str, report: dict[str, Any], said: str, contents: tuple[str, str]
) -> int:
    """Print a report, and write it where it is wanted."""
    from jaxau import files

    if options.out:
        files.write_json(options.out / f"{name}.json", report)
        for ending, content in zip(("md", "csv"), contents, strict=True):
            (options.out / f"{name}.{ending}").write_text(content, encoding="utf-8")
    print(json.dumps(report) if options.json else said)
    return 0


def _readable(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _predict(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    # Arrow's own memory pool keeps growing a little; this is read when pyarrow is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Imported here, because `info` needs none of it.
    from tqdm import tqdm

    from jaxau import predict
    from jaxau.faces.detect import YuNet
    from jaxau.faces.landmark_file import LandmarkFile
    from jaxau.morphable.model_files import read_model
    from jaxau.prediction_files import Job, Options, file_hash

    def say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    detector, about = None, None
    if options.detector and options.landmarks:
        raise ValueError("--detector and --landmarks: faces come from one of the two; leave one out")
    if options.detector:
        if options.detector_weights is None:
            raise ValueError("--detector yunet without --detector_weights: give its ONNX file")
        detector = YuNet(options.detector_weights)
        name, sha256 = options.detector_weights.name, file_hash(options.detector_weights)
        about = {"name": options.detector, "weights": name, "sha256": sha256}
    landmarks = LandmarkFile(options.landmarks) if options.landmarks else None
    model = None
    if options.face_model is not None:
        model = read_model(options.face_model, options.face_model_landmarks)
    predictor = predict.load(options.checkpoint, detector, options.batch_size, options.pose, model)
    trained = predictor.info["alignment"]
    if options.alignment not in (None, trained):
        raise ValueError(
            f"--alignment {options.alignment}: the checkpoint was trained with {trained} and can only be "
            "used with it; leave --alignment out, or take another checkpoint"
        )
    job = Job(
        predictor,
        Options(about, landmarks, options.every, options.save_landmarks, options.format, options.overlay),
        options.out,
        ["jaxau", *arguments],
        say,
    )
    say(f"checkpoint {predictor.statement}")
    problems = job.run(options.inputs)
    if problems:
        say(f"{problems} not done, see above; results are in {options.out}")
    return 1 if problems else 0


_COMMANDS = {
    "info": _info,
    "score": _score,
    "compare": _compare,
    "report": _report,
    "import-weights": _import_weights,
}


if __name__ == "__main__":
    sys.exit(main())
