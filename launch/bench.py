"""How fast and how large the networks are on this machine.

    python -m launch.bench                                            # the paper's networks, step by step
    python -m launch.bench --against=torch                            # and PyTorch's, by turns
    python -m launch.bench --nosteps --loader --data_dir=data         # the input pipeline
    python -m launch.bench --nosteps --fit                            # the face model's fit, and SciPy's
    python -m launch.bench --nosteps --predict --video=talk.mp4 --landmarks=talk.csv

Writes ``docs/benchmarks/<device>.md`` and ``.json``; sections that are not measured anew stay in them. Other
work on the machine spoils the times, less so those of ``--against``, which are compared round by round.
"""

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from configs.tables import PAPERS
from jaxau.benchmark import machine, steps
from jaxau.config import LOADERS, Config, from_dict
from jaxau.report import speed
from launch import command

TWINS = ("lac",)
SMALL_BATCH = {"frames": 4, "clips": 1, "tuples": 1}
"""For CPUs, by view: there a step of the paper's batch takes a minute."""

_NETWORKS = flags.DEFINE_list(
    "networks", None, f"Which of {sorted(PAPERS)}; default all, with --against or --predict {list(TWINS)}."
)
_STEPS = flags.DEFINE_bool(
    "steps", True, "Time the steps of the networks; --nosteps for other sections alone."
)
_AGAINST = flags.DEFINE_enum("against", None, ["torch"], "Also time the PyTorch twins, by turns.")
_LOADER = flags.DEFINE_bool("loader", False, "Also time the input pipeline of --config (needs --data_dir).")
_PREDICT = flags.DEFINE_bool(
    "predict", False, "Also time prediction of --video, with --landmarks or --detector_weights."
)
_FIT = flags.DEFINE_bool("fit", False, "Also time the fit of the face model, by turns with SciPy's.")
_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/lac.py:synthetic", accept_new_attributes=True, lock_config=False
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared data sets.")
_VIDEO = flags.DEFINE_string("video", None, "Video with a face.")
_LANDMARKS = flags.DEFINE_string("landmarks", None, "Its landmarks, as jaxau predict reads them.")
_DETECTOR = flags.DEFINE_string("detector_weights", None, "YuNet's ONNX file, instead of landmarks.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Of the trunk; default bfloat16, on a CPU float32."
)
_STILLS = flags.DEFINE_integer(
    "stills", None, "Stills or tuples in a batch; default the paper's, on a CPU 4, 1.", 1
)
_CLIPS = flags.DEFINE_integer("clips", None, "Clips in a batch; default the paper's, on a CPU 1.", 1)
_WARMUP = flags.DEFINE_integer("warmup", None, "Untimed steps before; default 20, on a CPU 2.", 0)
_REPEATS = flags.DEFINE_integer("repeats", None, "Timed steps, or rounds; default 30, on a CPU 10.", 1)
_THREADS = flags.DEFINE_integer("threads", 2, "Loader threads; launch.train uses 2.", 0)
_SECONDS = flags.DEFINE_float(
    "seconds", 2, "For how long --loader decodes, and draws the batches of a stage, in a round."
)
_STALL = flags.DEFINE_bool("stall", True, "--loader also trains, to see what waiting for batches costs.")
_LOADER_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of --loader.", 1)
_JSON = flags.DEFINE_bool("json", False, "One JSON object on standard output instead of the page.")
_OUT = flags.DEFINE_string("out", "docs/benchmarks", "Folder of the results.")


def main() -> None:
    """Measure the sections asked for, write them, print them."""
    if _AGAINST.value:  # JAX would take most of a GPU's memory for itself
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    networks = _NETWORKS.value or (TWINS if _AGAINST.value or _PREDICT.value else sorted(PAPERS))
    if unknown := sorted(set(networks) - set(PAPERS)):
        raise ValueError(f"--networks {unknown}: choose from {sorted(PAPERS)}")
    make_twin = _twins(networks) if _AGAINST.value else None
    about = {"command": _command(), **machine.environment()}
    sections: dict[str, Any] = {}
    for name in networks if _STEPS.value else ():
        found = _measure_steps(_paper(name), make_twin)
        sections[f"{name} {found['dtype']}"] = {**about, **found}
    if _LOADER.value:
        sections["loader"] = {**about, **_measure_loader()}
    for name in networks if _PREDICT.value else ():
        sections[f"predict {name}"] = {**about, **_measure_prediction(_paper(name))}
    if _FIT.value:
        sections["fit"] = {**about, **_measure_fit()}
    if not sections:
        raise ValueError("nothing to measure: give --networks, --loader, --predict or --fit")
    device = machine.device_name()
    page, _ = speed.write(Path(_OUT.value), device, sections)
    if _JSON.value:
        print(json.dumps({"device": device, "sections": sections}))
    else:
        print(speed.markdown({"device": device, "sections": sections}))
        print(f"written: {page}")


def _paper(network: str) -> Config:
    """The configuration of the paper, in the precision that is timed."""
    get_config = PAPERS[network].get_config
    assert get_config is not None, "every paper has a configuration"
    values = get_config("bp4d")
    values.dtype = _DTYPE.value or ("float32" if _on_cpu() else "bfloat16")
    return from_dict(values.to_dict())


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _counts() -> tuple[int, int]:
    """(warm-up, repeats)."""
    warmup, repeats = (2, 10) if _on_cpu() else (20, 30)
    warmup = warmup if _WARMUP.value is None else _WARMUP.value
    return warmup, _REPEATS.value or repeats


def _measure_steps(config: Config, make_twin: steps.MakeTwin | None) -> dict[str, Any]:
    warmup, repeats = _counts()
    given = {"frames": _STILLS.value, "tuples": _STILLS.value, "clips": _CLIPS.value}
    sizes = {}
    for name in steps.timed_stages(config):
        stage = config.stages[name]
        usual = SMALL_BATCH[stage.view] if _on_cpu() else stage.batch_size
        sizes[name] = given[stage.view] or usual
    return steps.measure_network(
        config, sizes, warmup, repeats, make_twin, turn=1 if _on_cpu() else 5, say=_say
    )


def _twins(networks: Iterable[str]) -> steps.MakeTwin:
    """What makes a network's PyTorch twin; it is part of the tests."""
    if lacking := sorted(set(networks) - set(TWINS)):
        raise ValueError(f"--against=torch: {lacking} have no PyTorch twin; there are {list(TWINS)}")
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    try:
        from torch_reference import lac_speed
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ValueError(
            "--against=torch: PyTorch is not installed; it is in the extra parity: pip install -e '.[parity]'"
        ) from None
    return lac_speed.Twin


def _measure_loader() -> dict[str, Any]:
    # Here, because the steps need none of it.
    from data_pipelines.loader import make_data
    from data_pipelines.records import Records
    from jaxau.benchmark import pipelines

    if not _DATA_DIR.value:
        raise ValueError("--loader without --data_dir: give the folder of the prepared data sets")
    config = from_dict(_CONFIG.value.to_dict())
    records = Records(_DATA_DIR.value, config.data.corpus)
    jpegs = [records.raw(i)["image"] for i in range(min(256, len(records)))]
    warmup, repeats = _counts()
    rows = []
    for loader in LOADERS:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, loader=loader))
        data = make_data(config, _DATA_DIR.value, _THREADS.value)
        for name in config.stages:
            _say(f"loader {loader}, {name}")
            alone = pipelines.measure_loader(
                data, config, name, jpegs, _SECONDS.value, _LOADER_ROUNDS.value, machine.cores()
            )
            stall = (
                pipelines.measure_stall(data, config, name, warmup, repeats, turn=5) if _STALL.value else {}
            )
            rows.append({"loader": loader, **alone, **stall})
    about = {"network": config.name, "corpus": config.data.corpus, "dtype": config.dtype}
    return {"kind": "loader", **about, "threads": _THREADS.value, "rows": rows}


def _measure_prediction(config: Config) -> dict[str, Any]:
    from jaxau.benchmark import pipelines
    from jaxau.faces.detect import YuNet
    from jaxau.faces.landmark_file import LandmarkFile
    from jaxau.faces.video import open_video

    faces: YuNet | LandmarkFile
    if _VIDEO.value and _DETECTOR.value and not _LANDMARKS.value:
        faces = YuNet(_DETECTOR.value)
    elif _VIDEO.value and _LANDMARKS.value and not _DETECTOR.value:
        faces = LandmarkFile(_LANDMARKS.value)
    else:
        raise ValueError("--predict: give --video, and one of --landmarks and --detector_weights")
    height, width = next(iter(open_video(_VIDEO.value))).image.shape[:2]
    video, repeats = Path(_VIDEO.value), min(5, _counts()[1])
    rows = []
    for name in config.stages:
        _say(f"{config.name}, {name}: prediction of {video.name}")
        rows.append(pipelines.measure_prediction(config, name, video, faces, repeats))
    about = {"network": config.name, "dtype": config.dtype, "video": video.name}
    return {"kind": "prediction", **about, "width": width, "height": height, "rows": rows}


def _measure_fit() -> dict[str, Any]:
    from jaxau.benchmark import face_fit

    rows, accuracy = [], []
    for noise in (0.0, 1.0):
        _say(f"fit, {noise:g} pixels of noise")
        rows.append(face_fit.measure_fit(50, noise, rounds=5))
        linear = face_fit.known_faces(200, noise)
        accuracy.append(face_fit.measure_accuracy(linear, rendered=False, noise=noise))
        for points in (68, 98):
            drawn = face_fit.rendered_faces(200, points, noise)
            accuracy.append(face_fit.measure_accuracy(drawn, rendered=True, noise=noise))
    return {"kind": "fit", "rows": rows, "accuracy": accuracy}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _command() -> str:
    """What was typed; of folders outside the checkout, only the last name."""
    words = [f"{flag}={Path(value).name}" if value.startswith("/") else word for word in sys.argv[1:]
             for flag, _, value in [word.partition("=")]]  # fmt: skip
    return shlex.join(["python", "-m", "launch.bench", *words])


if __name__ == "__main__":
    command.run(main)
