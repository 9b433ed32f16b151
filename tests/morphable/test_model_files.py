"""Readers of face models: the built-in model in the layout of others comes back as itself."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxau.morphable.linear_model import FaceModel, built_in
from jaxau.morphable.model_files import read_model

MODEL = built_in()
ORDER = np.random.default_rng(0).permutation(80)[:68]  # where the landmarks lie among 80 vertices


def _spread(points: np.ndarray) -> np.ndarray:
    """(..., 68, 3) among 80 vertices."""
    whole = np.zeros((*points.shape[:-2], 80, 3))
    whole[..., ORDER, :] = points
    return whole


def _table(folder: Path) -> Path:
    path = folder / "landmarks.txt"
    path.write_text("\n".join(map(str, ORDER)))
    return path


def _same(model: FaceModel, shapes: int = 27, expressions: int = 51) -> None:
    np.testing.assert_allclose(model.mean, MODEL.mean, atol=1e-6)
    np.testing.assert_allclose(model.shape[:shapes], MODEL.shape[:shapes], atol=1e-6)
    np.testing.assert_allclose(model.expression[:expressions], MODEL.expression[:expressions], atol=1e-6)
    assert model.expression.shape == (51, 68, 3)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    arrays = {"mean": MODEL.mean, "shape": MODEL.shape, "expression": MODEL.expression[:20]}
    np.savez(path, **{name: _spread(array) for name, array in arrays.items()}, landmarks=ORDER)
    model = read_model(path)
    _same(model, expressions=20)
    assert not model.expression[20:].any() and len(model.expression_names) == 20
    np.savez(path, **arrays)  # 68 vertices are the landmarks
    _same(read_model(path), expressions=20)


def test_bfm_needs_a_table_and_scales_by_deviations(tmp_path: Path) -> None:
    path = tmp_path / "bfm.h5"
    with h5py.File(path, "w") as file:
        for part, mean, basis in (
            ("shape", MODEL.mean - 1, MODEL.shape),
            ("expression", np.ones((68, 3)), MODEL.expression),
        ):
            variance = np.linspace(1, 9, len(basis))
            rows = _spread(basis).reshape(len(basis), -1) / np.sqrt(variance)[:, None]
            file[f"{part}/model/mean"] = _spread(mean).ravel()
            file[f"{part}/model/pcaBasis"] = rows.T
            file[f"{part}/model/pcaVariance"] = variance
    with pytest.raises(ValueError, match="which vertices the 68 landmarks are"):
        read_model(path)
    model = read_model(path, _table(tmp_path))
    _same(model)
    assert model.landmarks_from == "a table that the user gave"
    (tmp_path / "wrong.txt").write_text(" ".join(map(str, ORDER[::-1])))
    with pytest.raises(ValueError, match="does not look along"):
        read_model(path, tmp_path / "wrong.txt")
    (tmp_path / "few.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match="3 landmarks"):
        read_model(path, tmp_path / "few.txt")


def test_flame_by_table_and_by_triangles(tmp_path: Path) -> None:
    path = tmp_path / "flame.npz"
    directions = np.zeros((80, 3, 350))
    directions[..., :27] = np.moveaxis(_spread(MODEL.shape), 0, -1)
    directions[..., 300:] = np.moveaxis(_spread(MODEL.expression[:50]), 0, -1)
    arrays = {"v_template": _spread(MODEL.mean), "shapedirs": directions}
    np.savez(path, **arrays)
    _same(read_model(path, _table(tmp_path)), expressions=50)
    corners = np.stack([ORDER, np.roll(ORDER, 1), np.roll(ORDER, 2)], 1)
    shares = np.tile([1.0, 0.0, 0.0], (68, 1))
    embedding = {
        "full_lmk_faces_idx": np.arange(68)[None],
        "full_lmk_bary_coords": shares[None],
        "f": corners,
    }
    np.savez(path, **arrays, **embedding)
    _same(read_model(path), expressions=50)


def test_ict_facekit(tmp_path: Path) -> None:
    names = [f"brow_{i}" for i in range(49)] + [
        "browInnerUp_L",
        "browInnerUp_R",
        "cheekPuff_L",
        "cheekPuff_R",
    ]
    halves = np.concatenate(
        [MODEL.expression[:49], *(MODEL.expression[[i, i]] * [[[0.25]], [[0.75]]] for i in (49, 50))]
    )

    def write(name: str, points: np.ndarray) -> None:
        lines = [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in _spread(points)]
        (tmp_path / f"{name}.obj").write_text("\n".join([*lines, "vt 0 0", "f 1/1 2/1 3/1"]))

    write("generic_neutral_mesh", MODEL.mean)
    for i, shape in enumerate(MODEL.shape):
        write(f"identity{i:03d}", MODEL.mean + shape)
    for name, half in zip(names, halves, strict=True):
        write(name, MODEL.mean + half)
    (tmp_path / "vertex_indices.json").write_text(
        json.dumps({"expressions": names, "idx_to_landmark_verts": ORDER.tolist()})
    )
    model = read_model(tmp_path)
    _same(model)
    assert model.expression_names[-2:] == ("browInnerUp", "cheekPuff")
    (tmp_path / "identity003.obj").write_text("v 0 0 0")
    with pytest.raises(ValueError, match="identity003"):
        read_model(tmp_path)


class _Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz"])
def test_a_pickle_is_refused_and_not_executed(tmp_path: Path, kind: str) -> None:
    trap = _Trap(tmp_path / "executed")
    path = tmp_path / f"model.{kind}"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"v_template": trap}))
    elif kind == "npy":
        np.save(path, np.array([trap], object), allow_pickle=True)
    else:
        np.savez(path, mean=np.array([trap], object))
    with pytest.raises(ValueError, match="can execute code and are not read"):
        read_model(path)
    assert not trap.path.exists()
