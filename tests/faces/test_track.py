import numpy as np
import pytest

from jaxau.faces.track import FaceTracker, overlap

SHOT = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
OTHER_SHOT = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)


def boxes(*corners: tuple[float, float]) -> np.ndarray:
    return np.array([(x, y, 20, 24) for x, y in corners], float).reshape(-1, 4)


def test_overlap_by_hand():
    a = np.array([0, 0, 10, 10.0])
    assert overlap(a, np.array([5, 0, 10, 10.0])) == pytest.approx(50 / 150)
    assert overlap(a, np.array([20, 0, 10, 10.0])) == 0


def test_ids_do_not_depend_on_the_order_of_detections():
    tracker = FaceTracker()
    assert tracker.update(boxes((0, 0), (100, 40)), 0.0, SHOT) == [0, 1]
    assert tracker.update(boxes((101, 41), (2, 1)), 0.04, SHOT) == [1, 0]
    assert tracker.update(boxes((102, 42), (50, 50), (3, 2)), 0.08, SHOT) == [1, 2, 0]


def test_crossing_faces_keep_their_ids():
    """Just behind the crossing each face is nearer to where the other one was: motion tells."""
    tracker = FaceTracker()
    for t in range(11):
        left, right = (13.0 * t, 10.0), (134 - 13.0 * t, 10.0)
        assert tracker.update(boxes(left, right), t / 25, SHOT) == [0, 1]


def test_a_lost_face_returns_within_a_second_only():
    tracker = FaceTracker()
    assert tracker.update(boxes((10, 10)), 0.0, SHOT) == [0]
    assert tracker.update(boxes(), 0.5, SHOT) == []
    assert tracker.update(boxes((11, 10)), 0.9, SHOT) == [0]
    assert tracker.update(boxes(), 1.5, SHOT) == []
    assert tracker.update(boxes((11, 10)), 1.95, SHOT) == [1]


def test_faces_of_the_frame_before_are_known_however_long_ago_it_was():
    tracker = FaceTracker()
    for t in range(4):
        assert tracker.update(boxes((10 + t, 10)), 2.0 * t, SHOT) == [0]
    assert tracker.update(boxes(), 8.0, SHOT) == []
    assert tracker.update(boxes((14, 10)), 8.5, SHOT) == [1]  # 2.5 s, though the last step is short


def test_time_always_goes_on():
    """Frames without a time, or with one that goes back, come one step after the one before."""
    tracker = FaceTracker(step=0.5)
    assert tracker.update(boxes((10, 10)), 5.0, SHOT) == [0]
    for timestamp in (None, 1.0):
        assert tracker.update(boxes(), timestamp, SHOT) == []
    assert tracker.update(boxes((10, 10)), None, SHOT) == [1]  # 1.5 s
    steps = FaceTracker()
    for t in range(20):
        ids = steps.update(boxes((10 + 8 * t, 10)), None, SHOT)  # only motion tells where it is
        assert ids == [0]


def test_a_new_shot_begins_new_ids():
    tracker = FaceTracker()
    assert tracker.update(boxes((10, 10)), 0.0, SHOT) == [0]
    brighter = np.clip(SHOT.astype(int) + 60, 0, 255).astype(np.uint8)  # a flash is no new shot
    assert tracker.update(boxes((10, 10)), 0.04, brighter) == [0]
    assert tracker.update(boxes((10, 10)), 0.08, OTHER_SHOT) == [1]
    assert tracker.update(boxes((10, 10)), 0.12, np.zeros_like(SHOT)) == [2]
    assert tracker.update(boxes((10, 10)), 0.16, np.zeros_like(SHOT)) == [2]
    assert tracker.update(boxes((10, 10)), 0.20, SHOT) == [3]


def test_one_face_keeps_its_id_over_a_real_video(shared):
    from jaxau.faces.detect import YuNet
    from jaxau.faces.video import open_video

    yunet = YuNet(shared / "weights" / "yunet_n_640_640.onnx")
    tracker = FaceTracker()
    for frame in open_video(shared / "media" / "WolfgangLanger_Pexels.mp4"):
        if frame.index % 8 == 0:
            found = np.array([d.box for d in yunet.detect(frame.image)])
            assert tracker.update(found, frame.timestamp or 0.0, frame.image) == [0]
