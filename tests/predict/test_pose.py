"""Head pose and expressions in prediction."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import prediction_kit as kit
import pytest
from flax import linen as nn

from jaxau.faces.align import alignment_matrix, transform_points
from jaxau.morphable.aligned import fit_aligned, openface_pose
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.linear_model import built_in
from jaxau.predict import Predictor


class WithExpression(nn.Module):
    """Logits: first coefficients of the expression, and whether there is one."""

    @nn.compact
    def __call__(
        self, image: jnp.ndarray, expression: jnp.ndarray, mask: jnp.ndarray, train: bool = False
    ) -> dict[str, jnp.ndarray]:
        nn.Dense(1, name="head")(image.astype(jnp.float32).mean((1, 2)))
        known = jnp.where(mask, 2.0, -2.0)
        return {"logits": jnp.stack([expression[:, 2], expression[:, 4], known], -1)}


def _face(yaw: float, pitch: float, roll: float, brow: float = 0.0) -> np.ndarray:
    model = built_in()
    points = model.mean + brow * model.expression[2]  # AU02, right
    return Camera(128, rotation(yaw, pitch, roll)).project(points)[0]


@pytest.mark.parametrize("angles", [(20.0, 0, 0), (0, 15.0, 0), (0, 0, 25.0), (-12, 9, -14)])
def test_pose_in_the_picture(angles: tuple[float, float, float]) -> None:
    """A turned head is turned by the alignment; the pose is that in the picture, in OpenFace's axes."""
    landmarks = _face(*angles)
    matrix = alignment_matrix(landmarks, "jaa256")
    found = fit_aligned(built_in(), transform_points(landmarks, matrix)[None], "jaa256")
    pose = np.array(openface_pose(found.rotation[0], matrix))
    flip = np.diag([1.0, -1.0, -1.0])
    expected = flip @ rotation(*angles) @ flip
    x, y, z = pose
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    error = np.array(about_x) @ about_y @ about_z @ expected.T
    assert np.rad2deg(np.arccos((np.trace(error) - 1) / 2)) < 6  # of another middle: the crop's


def test_signs_and_size_as_in_a_table_of_openface(shared: Path) -> None:
    with (shared / "media/OpenFace_Test.csv").open() as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)][:40]
    landmarks = np.array([[[float(row[f"{axis}_{i}"]) for axis in "xy"] for i in range(68)] for row in rows])
    matrices = [alignment_matrix(points, "jaa200") for points in landmarks]
    crops = np.stack([transform_points(p, m) for p, m in zip(landmarks, matrices, strict=True)])
    found = fit_aligned(built_in(), crops, "jaa200")
    pose = np.array([openface_pose(r, m) for r, m in zip(found.rotation, matrices, strict=True)])
    theirs = np.array([[float(row[f"pose_R{axis}"]) for axis in "xyz"] for row in rows])
    assert np.abs(pose - theirs)[:, 1:].max() < 0.06  # radians
    assert np.corrcoef(pose[:, 1], theirs[:, 1])[0, 1] > 0.9
    assert (pose[:, 0] > 0).all() and (theirs[:, 0] > 0).all()  # what level means is each model's own


def test_pose_columns_only_on_request_and_where_known() -> None:
    frames = [kit.picture(i) for i in range(3)]
    landmarks = np.stack([_face(10, 0, 0), np.full((68, 2), np.nan), _face(-10, 0, 0)])
    assert "pose_Ry" not in Predictor(kit.fake_model())(frames, landmarks)
    table = Predictor(kit.fake_model(), pose=True)(frames, landmarks)
    assert table["pose_Ry"][0] < -0.1 and table["pose_Ry"][2] > 0.1 and np.isnan(table["pose_Ry"][1])
    five = landmarks[:1, [36, 45, 30, 48, 54]]
    assert Predictor(kit.fake_model(), pose=True)(frames[:1], five)["pose_Ry"].isna().all()


def _model() -> kit.Model:
    model = kit.fake_model()
    network = WithExpression()
    empty = jnp.zeros((1, 8, 8, 3), jnp.uint8), jnp.zeros((1, 51)), jnp.zeros(1, bool)
    variables = network.init(jax.random.key(0), *empty)
    info = {**model.info, "inputs": ["image", "expression", "expression_mask"], "face_model": "built-in"}
    return model._replace(network=network, variables=variables, info=info)


def test_a_network_is_given_the_expression_of_each_face() -> None:
    frames = [kit.picture(i) for i in range(3)]
    landmarks = np.stack([_face(0, 0, 0, brow=0.0), _face(0, 0, 0, brow=1.0), _face(5, 0, 0, brow=0.5)])
    table = Predictor(_model(), batch_size=2)(frames, landmarks)
    right = np.log(table["AU01_p"] / (1 - table["AU01_p"]))
    np.testing.assert_allclose(right, [0, 1, 0.5], atol=0.15)
    assert (table["AU25_p"] > 0.5).all()
    without = Predictor(_model())(frames[:1], landmarks[:1, [36, 45, 30, 48, 54]])
    assert without["AU25_p"][0] < 0.5 and without["AU01_p"][0] == 0.5  # masked, and said to be


def test_another_face_model_is_refused() -> None:
    model = _model()
    with pytest.raises(ValueError, match="face model 'mine'"):
        Predictor(model._replace(info={**model.info, "face_model": "mine"}))
