"""Face models that others publish, read without executing anything.

===============  =========================================================================================
npz              ``mean`` (n, 3), ``shape`` (s, n, 3), ``expression`` (e, n, 3) and ``landmarks`` (68,) vertex
                 numbers, which may be left away where n is 68; ``names`` (e,) of the expressions on request
BFM 2017 (.h5)   Basel Face Model; the first 60 shapes and 51 expressions, 1 is a standard deviation
FLAME (.npz)     ``v_template`` (n, 3), ``shapedirs`` (n, 3, 300 + e), as in its pickle, which must be
                 converted; it turns the jaw by a joint, which is not fitted
ICT-FaceKit      its folder ``FaceXModel``; brows' inner halves and puffed cheeks of both sides together,
                 which makes 51 expressions of its 53
===============  =========================================================================================

Which vertices the 68 landmarks are: ICT-FaceKit says it itself (``vertex_indices.json``). BFM and FLAME do
not in these files, so the user gives a table: a text file of 68 vertex numbers from 0 in iBUG's order, or the
arrays ``landmarks``, or ``full_lmk_faces_idx`` and ``full_lmk_bary_coords`` with ``f`` in FLAME's npz. No
table is built in: a wrong one would not be noticed. Models without points on the jaw can be given no
landmarks.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from jaxau.morphable.grid import Floats
from jaxau.morphable.linear_model import EXPRESSIONS, POINTS, SHAPES_USED, FaceModel, make_model

_ICT_PAIRS = ("browInnerUp", "cheekPuff")  # in ICT-FaceKit one for each side
_FLAME_SHAPES = 300


def read_model(path: Path | str, landmarks: Path | str | None = None) -> FaceModel:
    """Read a face model.

    Args:
      path: an .npz or .h5 file, or ICT-FaceKit's folder.
      landmarks: text file of the 68 landmarks' vertex numbers, where the model does not say them.

    Raises:
      ValueError: it is none of these, a pickle, incomplete, or its landmarks are not those of a face.
    """
    path = Path(path)
    given = None if landmarks is None else _read_table(Path(landmarks))
    if path.is_dir():
        return _read_ict(path, given)
    if not path.is_file():
        raise ValueError(f"face model {path}: no such file; give an .npz, BFM's .h5, or ICT-FaceKit's folder")
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == b"\x89HDF\r\n\x1a\n":
        return _read_bfm(path, given)
    if not magic.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"face model {path}: neither an .npz nor an HDF5 file; pickles can execute code and are not "
            "read: convert it with its owner's tools to an .npz of plain arrays"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        raise ValueError(
            f"face model {path}: holds pickled objects, which can execute code and are not read ({error}); "
            "save plain arrays"
        ) from error
    return _read_flame(path, arrays, given) if "v_template" in arrays else _read_npz(path, arrays, given)


def _read_table(path: Path) -> Floats:
    try:
        numbers = np.array(path.read_text().replace(",", " ").split(), np.int64)
    except (OSError, ValueError) as error:
        raise ValueError(f"landmark table {path}: cannot be read as vertex numbers ({error})") from error
    return numbers


def _need(path: Path, arrays: Mapping[str, Floats], *names: str) -> list[Floats]:
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(
            f"face model {path}: lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}"
        )
    return [np.asarray(arrays[name]) for name in names]


def _vertices(path: Path, numbers: Floats | None, count: int) -> Floats:
    """Vertex numbers (68,), checked."""
    if numbers is None:
        raise ValueError(
            f"face model {path}: does not say which vertices the 68 landmarks are; give a text file "
            "of their numbers"
        )
    numbers = np.asarray(numbers).astype(np.int64).ravel()
    if len(numbers) != POINTS or numbers.min() < 0 or numbers.max() >= count:
        raise ValueError(
            f"face model {path}: {len(numbers)} landmarks with vertices {numbers.min(initial=0)} to "
            f"{numbers.max(initial=0)}; must be {POINTS} of 0 to {count - 1}"
        )
    return numbers


def _source(path: Path, given: Floats | None, own: str) -> str:
    return f"{own} of {path.name}" if given is None else "a table that the user gave"


def _read_npz(path: Path, arrays: Mapping[str, Floats], given: Floats | None) -> FaceModel:
    mean, shape, expression = _need(path, arrays, "mean", "shape", "expression")
    if mean.ndim != 2 or shape.shape[1:] != mean.shape or expression.shape[1:] != mean.shape:
        raise ValueError(
            f"face model {path}: mean {mean.shape}, shape {shape.shape}, expression {expression.shape}; must "
            "be (n, 3), (s, n, 3) and (e, n, 3)"
        )
    own = arrays.get("landmarks", np.arange(POINTS) if len(mean) == POINTS else None)
    kept = _vertices(path, own if given is None else given, len(mean))
    names = tuple(map(str, arrays.get("names", [f"expression {i}" for i in range(len(expression))])))
    return make_model(
        path.stem, mean[kept], shape[:, kept], expression[:, kept], names, _source(path, given, "landmarks")
    )


def _read_bfm(path: Path, given: Floats | None) -> FaceModel:
    def basis(file: h5py.File, part: str, most: int) -> tuple[Floats, Floats]:
        """Mean (n, 3), and the first components (c, n, 3) times their standard deviations."""
        found = {name: f"{part}/model/{name}" for name in ("mean", "pcaBasis", "pcaVariance")}
        if missing := [where for where in found.values() if where not in file]:
            raise ValueError(
                f"face model {path}: lacks {', '.join(missing)}; it must be laid out as BFM 2017"
            )
        mean = np.asarray(file[found["mean"]], np.float64).reshape(-1, 3)
        deviations = np.sqrt(np.asarray(file[found["pcaVariance"]], np.float64)[:most])
        components = np.asarray(file[found["pcaBasis"]][:, :most], np.float64).T.reshape(-1, *mean.shape)
        return mean, components * deviations[:, None, None]

    with h5py.File(path, "r") as file:
        mean, shape = basis(file, "shape", SHAPES_USED)
        expression_mean, expression = basis(file, "expression", EXPRESSIONS)
    kept = _vertices(path, given, len(mean))
    names = tuple(f"expression {i}" for i in range(len(expression)))
    mean = mean + expression_mean
    return make_model(
        path.stem, mean[kept], shape[:, kept], expression[:, kept], names, _source(path, given, "landmarks")
    )


def _read_flame(path: Path, arrays: Mapping[str, Floats], given: Floats | None) -> FaceModel:
    mean, directions = _need(path, arrays, "v_template", "shapedirs")
    if directions.ndim != 3 or directions.shape[:2] != mean.shape or directions.shape[2] <= _FLAME_SHAPES:
        raise ValueError(
            f"face model {path}: shapedirs {directions.shape} must be (n, 3, {_FLAME_SHAPES} shapes and then "
            f"expressions), of v_template {mean.shape}"
        )
    whole = np.concatenate([mean[None], np.moveaxis(directions, 2, 0)]).astype(np.float64)
    if given is None and "full_lmk_faces_idx" in arrays:
        triangles, corners, shares = _need(path, arrays, "full_lmk_faces_idx", "f", "full_lmk_bary_coords")
        of_landmarks = corners[triangles.ravel().astype(np.int64)].astype(np.int64)
        points = np.einsum("bpck,pc->bpk", whole[:, of_landmarks], shares.reshape(-1, 3))
        source = f"full_lmk_faces_idx of {path.name}"
    else:
        kept = _vertices(path, arrays.get("landmarks") if given is None else given, len(mean))
        points, source = whole[:, kept], _source(path, given, "landmarks")
    shape, expression = points[1 : 1 + SHAPES_USED], points[1 + _FLAME_SHAPES :]
    names = tuple(f"expression {i}" for i in range(len(expression)))
    return make_model(path.stem, points[0], shape, expression, names, source)


def _read_ict(folder: Path, given: Floats | None) -> FaceModel:
    about = folder / "vertex_indices.json"
    if not about.is_file():
        raise ValueError(f"face model {folder}: no vertex_indices.json; give ICT-FaceKit's folder FaceXModel")
    facts = json.loads(about.read_text())
    if missing := [name for name in ("expressions", "idx_to_landmark_verts") if name not in facts]:
        raise ValueError(
            f"face model {about}: lacks {', '.join(missing)}; take the file of the model's owner"
        )
    neutral = _read_obj(folder / "generic_neutral_mesh.obj")
    kept = _vertices(
        folder, np.array(facts["idx_to_landmark_verts"]) if given is None else given, len(neutral)
    )

    def moved(name: str) -> Floats:
        vertices = _read_obj(folder / f"{name}.obj")
        if vertices.shape != neutral.shape:
            raise ValueError(
                f"face model {folder}: {name}.obj has {len(vertices)} vertices, not {len(neutral)}"
            )
        return (vertices - neutral)[kept]

    identities = sorted(path.stem for path in folder.glob("identity[0-9][0-9][0-9].obj"))[:SHAPES_USED]
    if not identities:
        raise ValueError(f"face model {folder}: no identity000.obj; copy the whole folder")
    expressions: dict[str, Floats] = {}
    for name in facts["expressions"]:
        both = name.rpartition("_")[0]
        together = both if both in _ICT_PAIRS else name
        expressions[together] = expressions.get(together, 0.0) + moved(name)
    return make_model(
        "ICT-FaceKit",
        neutral[kept],
        np.stack([moved(name) for name in identities]),
        np.stack(list(expressions.values())),
        tuple(expressions),
        _source(about, given, "idx_to_landmark_verts"),
    )


def _read_obj(path: Path) -> Floats:
    """The vertices (n, 3) of a Wavefront OBJ file."""
    if not path.is_file():
        raise ValueError(f"face model {path.parent}: no {path.name}; copy the whole folder")
    with path.open() as lines:
        vertices = [line.split()[1:4] for line in lines if line.startswith("v ")]
    return np.array(vertices, np.float64).reshape(-1, 3)
