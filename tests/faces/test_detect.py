import cv2
import numpy as np
import pytest

from jaxau.faces.detect import YuNet
from jaxau.faces.landmarks import five_points
from jaxau.faces.video import read_image


@pytest.fixture(scope="module")
def yunet(shared):
    return YuNet(shared / "weights" / "yunet_n_640_640.onnx")


def test_one_face_with_points_in_our_order(shared, yunet):
    image = read_image(shared / "media" / "single_face.jpg")
    (face,) = yunet.detect(image)
    assert face.score > 0.9
    right_eye, left_eye, nose, right_mouth, left_mouth = five_points(face.landmarks)
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    x, y, width, height = face.box
    assert ((face.landmarks > (x, y)) & (face.landmarks < (x + width, y + height))).all()
    # Seen in the picture, by eye: pupils and mouth corners to about 8 pixels.
    np.testing.assert_allclose(right_eye, (228, 239), atol=8)
    np.testing.assert_allclose(left_mouth, (319, 325), atol=8)


def test_a_mirrored_picture_gives_mirrored_points(shared, yunet):
    image = read_image(shared / "media" / "single_face.jpg")
    (face,) = yunet.detect(image)
    (mirrored,) = yunet.detect(np.ascontiguousarray(image[:, ::-1]))
    expected = face.landmarks[[1, 0, 2, 4, 3]]
    expected[:, 0] = image.shape[1] - 1 - expected[:, 0]
    np.testing.assert_allclose(mirrored.landmarks, expected, atol=6)


def test_as_opencv_finds_it_in_the_file(shared, yunet):
    """A picture that is not reduced: the same numbers as OpenCV gives for its own (BGR) picture."""
    detector = cv2.FaceDetectorYN.create(
        str(shared / "weights" / "yunet_n_640_640.onnx"), "", (572, 562), 0.6
    )
    found = detector.detect(cv2.imread(str(shared / "media" / "single_face.jpg")))[1]
    (face,) = yunet.detect(read_image(shared / "media" / "single_face.jpg"))
    np.testing.assert_allclose(face.landmarks.ravel(), found[0, 4:14], atol=1e-3)
    assert face.score == pytest.approx(found[0, 14], abs=1e-5)


def test_points_do_not_depend_on_the_picture_size(shared, yunet):
    image = read_image(shared / "media" / "single_face.jpg")
    (face,) = yunet.detect(image)
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    (in_large,) = yunet.detect(large)
    np.testing.assert_allclose((in_large.landmarks + 0.5) / 3 - 0.5, face.landmarks, atol=5)
    np.testing.assert_allclose(in_large.box / 3, face.box, atol=8)


def test_faces_come_largest_first(shared, yunet):
    faces = yunet.detect(read_image(shared / "media" / "multi_face.jpg"))
    areas = [face.box[2] * face.box[3] for face in faces]
    assert len(faces) == 5 and areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (300, 200)])
def test_no_face(yunet, shape):
    assert yunet.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_unusable_weights_are_refused(tmp_path, shared):
    with pytest.raises(ValueError, match="none.onnx: no such file; give YuNet's ONNX file"):
        YuNet(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="text.onnx: OpenCV cannot read or run them as a YuNet"):
        YuNet(tmp_path / "text.onnx")
