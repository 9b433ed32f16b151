"""From nothing to a trained, scored detector that has read a video, on synthetic faces.

    python -m launch.demo --workdir=demo

Writes synthetic subjects, trains a small LAC through both stages, scores held-out subjects, predicts an
unseen synthetic video, and leaves one offline page. The same command again goes on where it was stopped.
"""

import contextlib
import csv
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags

from configs import lac
from data_pipelines.corpora import synthetic
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.synthetic import Person, SynthConfig, SynthFaces
from data_pipelines.synthetic.cli import contact_sheet
from jaxau import checkpoint, cli, evaluate, facs, files, train
from jaxau.config import from_dict
from jaxau.faces.video import write_video
from jaxau.report import html, tables
from jaxau.report.examples import choose_records, read_examples
from launch import command

_WORKDIR = flags.DEFINE_string("workdir", "demo", "Folder for data, run and page.")

# 96 people, of whom 32 are tested; 8 frames a second, because expressions change slowly.
CORPUS = SynthConfig(
    tier="small", subjects=96, clips=6, frames=24, fps=8.0, size=128, nuisance=0.75, profile="balanced"
)
# Other people, seen by nobody before, at the frame rate and size of a video.
VIDEO = SynthConfig(tier="small", subjects=1, clips=1, frames=150, fps=25.0, size=256, nuisance=0.75, seed=1)


def main() -> None:
    """Run all phases, print the scores, and the path of the page last."""
    workdir = Path(_WORKDIR.value)
    data_dir, run_dir = workdir / "data", workdir / "run"
    config = from_dict(lac.get_config("synthetic").to_dict())
    corpus = config.data.corpus
    # Over all calls: a resumed demo tells what it took altogether.
    seconds = _History(workdir / "seconds.json")
    speeds = _History(workdir / "speeds.json")

    with _phase("synthetic subjects", seconds):
        prepare(synthetic.corpus(CORPUS, config.data.alignment), data_dir)
    with _phase("training", seconds):
        speed = train.run(config, partial(make_data, data_dir=data_dir), run_dir)
    speeds.keep({stage: round(measured["frames_per_second"]) for stage, measured in speed.items()})
    with _phase("evaluation", seconds):
        folder = evaluate.run(run_dir, partial(make_data, data_dir=data_dir))
        scores = evaluate.read_scores(folder)
        tables.write_tables(scores, folder)
    with _phase("unseen video", seconds):
        video, landmarks = _write_video(workdir / "video")
        arguments = [
            "predict",
            str(video),
            "--checkpoint",
            str(run_dir),
            "--out",
            str(workdir / "prediction"),
        ]
        arguments += ["--landmarks", str(landmarks)]
        print("$ jaxau " + " ".join(arguments))
        if status := cli.main(arguments):
            raise SystemExit(status)
    with _phase("page", seconds):
        still = checkpoint.load_model(run_dir / "frames")
        batches = make_data(config, data_dir).evaluate("frames", "test", batch_size=64)
        records = choose_records(dict(np.load(folder / "frames_predictions.npz")))
        maps = read_examples(still, batches, records)
        examples: html.Examples = {
            "localisation": maps["localisation"],
            "sequence": maps["sequence"],
            "failures": maps["failures"],
            "video": _predicted_video(workdir / "prediction" / "unseen_synthetic.mp4.csv", config.data.aus),
            "contact_sheet": contact_sheet([Person(seed) for seed in range(4)], size=112),
            "wall_time": seconds.values,
            "facts": {f"Training speed, {s}": f"{rate} frames/s" for s, rate in speeds.values.items()},
        }
        page = html.write_run_page(run_dir, corpus, examples, workdir / "index.html")
    print(tables.print_summary(scores))
    print("  ".join(f"{phase} {value:.0f} s" for phase, value in seconds.values.items()))
    print(page)


class _History:
    """Numbers by name, kept in a file from call to call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, float] = files.read_json(path) if path.is_file() else {}

    def keep(self, values: dict[str, float]) -> None:
        self.values |= values
        files.write_json(self._path, self.values)


@contextlib.contextmanager
def _phase(name: str, seconds: _History) -> Iterator[None]:
    print(f"--- {name}")
    started = time.perf_counter()
    yield
    seconds.keep({name: seconds.values.get(name, 0.0) + time.perf_counter() - started})


def _write_video(folder: Path) -> tuple[Path, Path]:
    """An unseen synthetic person on video, and the generator's landmarks as the CSV that predict reads."""
    video, landmarks = folder / "unseen_synthetic.mp4", folder / "unseen_synthetic.landmarks.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if not landmarks.is_file():
        frames = SynthFaces(VIDEO).clip(0, 0)
        write_video(video, (frame.image for frame in frames), VIDEO.shape.fps)
        partial_file = landmarks.with_suffix(".tmp")
        with partial_file.open("w", newline="") as file:
            writer = csv.writer(file)
            names = [f"{axis}_{point}" for axis in "xy" for point in range(68)]
            writer.writerow(["video", "frame", "face_id", *names])
            for frame in frames:
                writer.writerow([video.name, frame.t, 0, *frame.lm68.T.round(3).ravel()])
        partial_file.rename(landmarks)  # last: with it, both are whole
    return video, landmarks


def _predicted_video(path: Path, aus: tuple[int, ...]) -> html.Video:
    """The predictions of the unseen video beside what the generator did."""
    rows = pd.read_csv(path)
    columns = [facs.SYNTHETIC_AUS.index(au) for au in aus]
    faces = SynthFaces(VIDEO)
    shown = np.linspace(0, len(rows) - 1, 8).astype(int)
    return {
        "title": "A synthetic person whom the network never saw. The landmarks that cut out the face are the "
        "generator's own, not a detector's.",
        "timestamp": rows["timestamp"].to_numpy(),
        "probability": rows[[f"{facs.column(au)}_p" for au in aus]].to_numpy(),
        "truth": (faces.labels(0, 0)[:, columns] >= 1.5).astype(np.int32),
        "aus": list(aus),
        "frames": np.stack([faces.frame(0, 0, int(t)).image for t in shown]),
        "frame_timestamp": rows["timestamp"].to_numpy()[shown],
    }


if __name__ == "__main__":
    command.run(main)
