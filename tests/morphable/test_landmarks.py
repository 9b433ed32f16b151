"""Order, number and place of the landmarks."""

import numpy as np
import pytest

from jaxau.faces.landmarks import au_centers, mirror_order
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.camera import Camera, rotation
from jaxau.morphable.grid import EYE_LOWER, EYE_UPPER, LIP_LOWER, LIP_UPPER, Floats, sample
from jaxau.morphable.head import EYEBALL_CENTER, REFERENCE_X
from jaxau.morphable.identity import LIMIT, MODES
from jaxau.morphable.landmarks import FROM_68_TO_49, LANDMARKS_68, LANDMARKS_98
from jaxau.morphable.shape import HeadShape


def _on_skin(places: Floats, identity: Floats | None = None, **aus: float) -> Floats:
    shape = HeadShape(np.zeros(len(MODES)) if identity is None else identity)
    weights = np.zeros(len(SYNTHETIC_AUS))
    for name, weight in aus.items():
        weights[SYNTHETIC_AUS.index(int(name[2:]))] = weight
    return sample(shape.vertices(weights), places).astype(float)


def _with_pupils(points: Floats) -> Floats:
    x, y, z = EYEBALL_CENTER
    return np.concatenate([points, [[-x, y, z + 12], [x, y, z + 12]]])


def test_counts_and_the_49_among_the_68() -> None:
    assert LANDMARKS_68.shape == (68, 2)
    assert LANDMARKS_98.shape == (96, 2)  # the pupils are not on the skin
    np.testing.assert_array_equal(FROM_68_TO_49, [*range(17, 60), 61, 62, 63, 65, 66, 67])


@pytest.mark.parametrize("points", [68, 98])
def test_faces_are_symmetric_under_the_mirror_order(points: int) -> None:
    places = LANDMARKS_68 if points == 68 else LANDMARKS_98
    xyz = _on_skin(places)
    xyz = _with_pupils(xyz) if points == 98 else xyz
    np.testing.assert_allclose(xyz, xyz[mirror_order(points)] * [-1, 1, 1], atol=1e-3)


def test_order_of_the_68() -> None:
    p = _on_skin(LANDMARKS_68, AU25=1.0)
    x, y = p[:, 0], p[:, 1]
    assert (np.diff(x[1:16]) > 0).all() and y[8] == y[:17].min()  # jaw: right ear, chin, left ear
    assert (np.diff(x[17:27]) > 0).all() and y[17:27].min() > y[36:48].max()  # brows over eyes
    assert (np.diff(y[27:31]) < 0).all() and (np.diff(p[27:31, 2]) > 0).all()  # ridge, down and out
    assert p[30, 2] == p[:, 2].max()  # nothing stands out further than the tip of the nose
    assert (np.diff(x[31:36]) > 0).all() and y[33] < y[31]
    for eye in (p[36:42], p[42:48]):  # clockwise in the picture from its left corner
        assert eye[0, 0] < eye[1, 0] < eye[2, 0] < eye[3, 0]
        assert eye[5, 0] < eye[4, 0] and eye[1, 1] > eye[5, 1] and eye[2, 1] > eye[4, 1]
    assert x[48] == x[48:60].min() and x[54] == x[48:60].max()
    assert y[51] > y[62] > y[66] > y[57]  # upper border, lips apart, lower border
    assert x[60] < x[61] < x[62] < x[63] < x[64] and x[65] > x[66] > x[67]


def test_order_of_the_98() -> None:
    p = _on_skin(LANDMARKS_98, AU25=1.0)
    x, y = p[:, 0], p[:, 1]
    assert (np.diff(x[1:32]) > 0).all() and y[16] == y[:33].min()
    assert (np.diff(x[33:38]) > 0).all() and (np.diff(x[38:42]) < 0).all()  # up out, back below
    assert (np.diff(x[42:47]) > 0).all() and (np.diff(x[47:51]) < 0).all()
    assert y[35] > y[39] and y[44] > y[48]  # upper edge over lower edge
    assert (np.diff(y[51:55]) < 0).all() and (np.diff(x[55:60]) > 0).all()
    for first in (60, 68):
        assert (np.diff(x[first : first + 5]) > 0).all()
        assert x[first + 5] > x[first + 6] > x[first + 7]
        assert (y[first + 1 : first + 4] > y[first + 5 : first + 8][::-1]).all()
    assert x[76] == x[76:88].min() and x[82] == x[76:88].max()
    assert y[79] > y[90] > y[94] > y[85]
    assert x[88] < x[89] < x[90] < x[91] < x[92] and x[93] > x[94] > x[95]


def test_lid_and_lip_points_stay_on_their_side_of_the_slit() -> None:
    for index, row in ((37, EYE_UPPER), (41, EYE_LOWER), (62, LIP_UPPER), (66, LIP_LOWER)):
        assert LANDMARKS_68[index, 0] == row
        column = int(np.floor(LANDMARKS_68[index, 1]))
        low, high = REFERENCE_X[row, column], REFERENCE_X[row, column + 1]
        shape = HeadShape(np.zeros(len(MODES)))
        weights = np.full(len(SYNTHETIC_AUS), 0.5)
        vertices = shape.vertices(weights)
        share = LANDMARKS_68[index, 1] - column
        expected = vertices[row, column] * (1 - share) + vertices[row, column + 1] * share
        np.testing.assert_allclose(sample(vertices, LANDMARKS_68)[index], expected, atol=1e-4)
        assert low < high


@pytest.mark.parametrize("points", [49, 68, 98])
def test_au_centers_lie_inside_the_face(points: int) -> None:
    rng = np.random.default_rng(0)
    aus = (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)
    for _ in range(30):
        identity = np.clip(rng.normal(0, 1, len(MODES)), -LIMIT, LIMIT)
        camera = Camera(256, rotation(*rng.normal(0, [8, 5, 5])))
        jaw = camera.project(_on_skin(LANDMARKS_68[:17], identity))[0]
        top = camera.project(_on_skin(LANDMARKS_68[17:27], identity))[0][:, 1].min() - 25
        xyz = _on_skin(LANDMARKS_98 if points == 98 else LANDMARKS_68, identity)
        xyz = _with_pupils(xyz) if points == 98 else xyz
        pixels = camera.project(xyz[FROM_68_TO_49] if points == 49 else xyz)[0]
        centers, mask = au_centers(pixels, aus)
        assert mask.all()
        x, y = centers[..., 0], centers[..., 1]
        assert (x > jaw[:, 0].min()).all() and (x < jaw[:, 0].max()).all()
        assert (y < jaw[:, 1].max()).all() and (y > top).all()
