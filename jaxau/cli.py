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
        if options.command == "info":
            return _info(options)
        return _predict(options, arguments)
    except ValueError as error:
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
    return parser


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
    predictor = predict.load(options.checkpoint, detector, options.batch_size)
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


if __name__ == "__main__":
    sys.exit(main())
