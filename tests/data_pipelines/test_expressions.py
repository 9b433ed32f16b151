"""Expression coefficients of a data set: fitted to its records once, and handed out with a mask."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines import records
from data_pipelines.expressions import FILE, Expressions, fit_records
from data_pipelines.parts import Part
from data_pipelines.preparation import Corpus, prepare
from jaxau.faces.align import align, transform_points
from jaxau.morphable.aligned import fit_aligned
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.expression import SHAPES
from jaxau.morphable.linear_model import built_in

FACES, MISSING, FLAT = 12, 3, 7


def _landmarks() -> tuple[np.ndarray, np.ndarray]:
    """Crops' landmarks (12, 68, 2) and coefficients (12, 51): a wink and a brow on one side."""
    model, rng, found = built_in(), np.random.default_rng(0), []
    expression = np.zeros((FACES, 51))
    expression[:, [SHAPES.index("AU02 right"), SHAPES.index("AU04 left")]] = rng.uniform(0, 1, (FACES, 2))
    for i in range(FACES):
        points = model.mean + np.tensordot(expression[i], model.expression, 1)
        seen = Camera(256, rotation(*rng.normal(0, 5, 3))).project(points)[0]
        _, matrix = align(np.zeros((256, 256, 3), np.uint8), seen, "jaa200")
        found.append(transform_points(seen, matrix))
    return np.stack(found), expression


def _part(request: dict, subject: int) -> Part:
    landmarks, _ = _landmarks()
    landmarks[MISSING] = np.nan
    landmarks[FLAT, :, 1] = landmarks[FLAT, :, 0]
    picture = records.encode(np.full((200, 200, 3), 90, np.uint8))
    return Part(
        [picture] * FACES,
        landmarks.astype(np.float32),
        np.zeros((FACES, 2), np.float32),
        np.zeros(FACES, np.int32),
        np.arange(FACES, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expressions")
    about = {
        "synthetic": True, "description": "points", "licence": "none", "generator": "test", "fps": 8,
        "aus": [1, 2], "label_rule": {"min_intensity": 1.5}, "landmarks": 68, "alignment": "jaa200",
        "folds": {},
    }  # fmt: skip
    corpus = Corpus(name="synthetic", request={}, subjects=["P0"], make=_part, manifest=about)
    prepare(corpus, folder, workers=1)
    return folder


def test_coefficients_reasons_and_mirror_images(data_dir: Path) -> None:
    with pytest.raises(ValueError, match="--fit_3dmm"):
        Expressions(records.Records(data_dir, "synthetic"))
    hashed = records.read_manifest(data_dir, "synthetic")["hash"]
    about = fit_records(data_dir, "synthetic")
    assert about["fitted"] == 10 and about["model"] == "built-in" and about["names"] == list(SHAPES)
    assert about["absent"] == {"68 of 68 landmarks missing": 1, "landmarks on one line": 1}
    manifest = records.read_manifest(data_dir, "synthetic")
    assert manifest["expression"] == about and manifest["hash"] == hashed
    given = Expressions(records.Records(data_dir, "synthetic"))
    rows = np.arange(FACES).reshape(6, 2)
    batch = given(rows, np.zeros(6, bool))
    assert batch["expression"].shape == (6, 2, 51) and batch["expression"].dtype == np.float32
    mask = batch["expression_mask"].ravel()
    assert sorted(np.flatnonzero(~mask)) == [MISSING, FLAT]
    expression = batch["expression"].reshape(FACES, 51)
    assert not expression[~mask].any() and np.isfinite(expression).all()
    _, truth = _landmarks()
    right, left = SHAPES.index("AU02 right"), SHAPES.index("AU02 left")
    assert np.abs(expression[mask, right] - truth[mask, right]).max() < 0.2
    other = given(rows, np.ones(6, bool))["expression"].reshape(FACES, 51)
    assert np.abs(other[mask, left] - truth[mask, right]).max() < 0.2  # left and right change places
    assert np.abs(other[mask, right]).max() < 0.2


def test_again_does_nothing_and_another_model_is_refused(data_dir: Path) -> None:
    fit_records(data_dir, "synthetic")
    path = data_dir / "synthetic" / FILE
    before = path.stat().st_mtime_ns
    fit_records(data_dir, "synthetic")
    assert path.stat().st_mtime_ns == before
    model = built_in()
    other = type(model)("mine", model.mean, model.shape, model.expression, model.expression_names, "test")
    with pytest.raises(ValueError, match="face model 'built-in', now asked is 'mine'"):
        fit_records(data_dir, "synthetic", other)


def test_the_same_face_has_the_same_coefficients_in_every_alignment() -> None:
    landmarks, _ = _landmarks()
    wide = (landmarks[:2] - 99.5) * (448 / 200 / 2.2) + 223.5
    found = [
        fit_aligned(built_in(), points, name) for points, name in ((landmarks[:2], "jaa200"), (wide, "wide"))
    ]
    np.testing.assert_allclose(found[0].expression, found[1].expression, atol=2e-2)
