"""Expression coefficients of a prepared data set: a face model fitted to the landmarks of all its records.

They lie beside the shards in ``expression.npy``, (n, 2, 51) float32 of n records and of their mirror images,
NaN where a face could not be fitted. The manifest says with which model, and why faces are without:
``expression``: ``{"model", "landmarks_from", "names", "fitted", "absent": {reason: count}}``.
"""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipelines.parts import write_whole
from data_pipelines.records import MANIFEST, Records
from jaxau.morphable.aligned import fit_aligned, mirrored, model_for
from jaxau.morphable.linear_model import EXPRESSIONS, FaceModel

FILE = "expression.npy"
_AT_ONCE = 256


def fit_records(data_dir: Path | str, corpus: str, model: FaceModel | None = None) -> dict[str, Any]:
    """Fit a face model to a data set, unless that is done.

    Args:
      data_dir: folder of all data sets.
      corpus: one that is prepared.
      model: None = the built-in one.

    Returns:
      The manifest's ``expression``.

    Raises:
      ValueError: no such data set, too few landmarks, or coefficients of another model.
    """
    records = Records(data_dir, corpus)
    manifest = records.manifest
    model = model_for(manifest["landmarks"], model)
    done = manifest.get("expression")
    if done is not None and (records.folder / FILE).is_file():
        if (done["model"], done["names"]) != (model.name, list(model.expression_names)):
            raise ValueError(
                f"{records.folder} holds expressions of the face model {done['model']!r}, now asked is "
                f"{model.name!r}: take that one, or delete {FILE} there"
            )
        return dict(done)
    expression = np.full((len(records), 2, EXPRESSIONS), np.nan, np.float32)
    absent: Counter[str] = Counter()
    for first in tqdm(range(0, len(records), _AT_ONCE), desc=f"{corpus}: expressions"):
        rows = range(first, min(first + _AT_ONCE, len(records)))
        landmarks = np.stack([records.raw(row)["landmarks"] for row in rows]).astype(np.float64)
        both = [landmarks, mirrored(landmarks, manifest["alignment"])]
        fits = [fit_aligned(model, faces, manifest["alignment"]) for faces in both]
        ok = fits[0].ok & fits[1].ok
        for side, found in enumerate(fits):
            expression[rows.start : rows.stop, side][ok] = found.expression[ok]
        absent.update(a or b for a, b in zip(*(found.reasons for found in fits), strict=True) if a or b)
    content = io.BytesIO()
    np.save(content, expression)
    write_whole(records.folder / FILE, content.getvalue())
    about = {
        "model": model.name,
        "landmarks_from": model.landmarks_from,
        "names": list(model.expression_names),
        "fitted": int(len(records) - absent.total()),
        "absent": dict(absent),
    }
    write_whole(records.folder / MANIFEST, json.dumps({**manifest, "expression": about}).encode())
    return about


class Expressions:
    """Records -> the fields ``expression`` and ``expression_mask`` of a batch.

    Raises:
      ValueError: the data set has none.
    """

    def __init__(self, records: Records):
        path = records.folder / FILE
        if "expression" not in records.manifest or not path.is_file():
            raise ValueError(
                f"{records.folder}: the network asks for expression coefficients, and there are none; fit "
                f"them with `python -m launch.prepare --corpus={records.folder.name} "
                f"--data_dir={records.data_dir} --fit_3dmm`"
            )
        self._expression = np.load(path, mmap_mode="r")

    def __call__(self, records: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray]:
        """(b, t, 51) and (b, t) of records (b, t), of examples (b,) that are mirrored; 0 where masked."""
        found = np.array(self._expression[records, mirrored.astype(int)[:, None]])
        mask = np.isfinite(found).all(-1)
        return {"expression": np.where(mask[..., None], found, 0), "expression_mask": mask}
