"""What a run on synthetic faces leans on that is not the AU: AUs that occur together, pose, skin, glasses.

Only drawn faces can tell: the same people can be drawn once more with every AU on its own, and everything
about them is known.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxau import checkpoint, evaluate, files, metrics, models, sharding
from jaxau import config as config_lib
from jaxau.config import Config
from jaxau.evaluate import Predictions

REPORT = "shortcuts.json"


def examine(
    workdir: Path,
    make_data: Callable[[Config], Any],
    make_factorial: Callable[[Config], Any],
    find_yaw: Callable[[Predictions], np.ndarray],
) -> Path:
    """Score a run by group of its test frames, and on the same people where every AU comes on its own.

    The run is scored first, unless it is (`evaluate.run`). All scores are of its last stage at the thresholds
    that it stands for. Writes ``shortcuts.json`` beside its scores:

    - ``usual`` and ``independent``: ``metrics.score`` on the test subjects as the run was trained on such
      people, and where AUs are independent; ``drop``: ``metrics.shortcut_drop`` of the two;
    - ``groups``: ``metrics.scores_by_group`` of the usual frames by each attribute of the subjects, and by
      "pose" (``metrics.pose_bins``).

    Args:
      workdir: of the run.
      make_data: as for ``train.run``.
      make_factorial: the same for the other drawing of the same people.
      find_yaw: (n,) degrees of yaw of predictions on what the run was trained on.

    Returns:
      The path of the file.

    Raises:
      ValueError: as `evaluate.run`; no stage detects AUs; or the other drawing shows other people.
    """
    folder = evaluate.run(workdir, make_data)
    scores = evaluate.read_scores(folder)
    config = config_lib.from_dict(checkpoint.read_info(workdir)["config"])
    if not scores["stages"]:
        raise ValueError(f"{workdir}: none of its stages detects AUs; there is nothing to lean on others for")
    stage, numbers = list(scores["stages"].items())[-1]
    rule, aus = evaluate.rules(numbers)[-1], scores["aus"]
    threshold = np.array([row["threshold"] for row in numbers[rule]["per_au"]])
    data = make_factorial(dataclasses.replace(config, data=dataclasses.replace(config.data, mixture={})))
    if list(data.split.test) != scores["subjects"]["test"]:
        raise ValueError(
            f"{workdir} was tested on the subjects {scores['subjects']['test']}, the other drawing tests "
            f"{list(data.split.test)}: draw the same people, with the seed and the number of the first"
        )
    alone = _predict(workdir, config, stage, data)
    independent = metrics.score(
        alone["probability"], alone["truth"], alone["mask"], threshold, alone["subject"], aus
    )
    usual = evaluate.read_predictions(folder, stage)
    arguments = (usual["probability"], usual["truth"], usual["mask"], threshold, usual["subject"], aus)
    named = {
        attribute: _names(usual["subject"], values) for attribute, values in scores["attributes"].items()
    }
    named["pose"] = metrics.pose_bins(find_yaw(usual))
    told = ("corpus", "synthetic", "protocol", "fold", "trained_on", "aus", "manifest_hash")
    report = {
        **{key: scores[key] for key in told},
        "subjects": scores["subjects"]["test"],
        "stage": stage,
        "selection": rule,
        "independent_on": data.manifest["description"],
        "usual": numbers[rule],
        "independent": independent,
        "drop": metrics.shortcut_drop(numbers[rule], independent, aus),
        "groups": {
            attribute: metrics.scores_by_group(*arguments, group) for attribute, group in named.items()
        },
    }
    files.write_json(folder / REPORT, report)
    return folder / REPORT


def _names(subject: np.ndarray, values: dict[str, list[int]]) -> np.ndarray:
    """(n,) which value of an attribute the subject of each frame has."""
    of = {number: value for value, numbers in values.items() for number in numbers}
    return np.array([of[int(number)] for number in subject])


def _predict(workdir: Path, config: Config, stage: str, data: Any) -> Predictions:
    mesh, model = sharding.make_mesh(config.mesh.fsdp), checkpoint.load_model(workdir / stage)
    variables = jax.device_put(model.variables, NamedSharding(mesh, PartitionSpec()))
    batches = evaluate.test_batches(workdir, config, stage, data, workdir / "eval" / "factorial", mesh)
    step, shown = evaluate.make_eval_step(model.network), tqdm(batches, f"test {stage}")
    return evaluate.predict(step, variables, shown, mesh, models.role(config, stage).inputs)
