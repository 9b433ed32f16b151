import re
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_kit import (
    AUS,
    FACE,
    expected_logits,
    fake_model,
    landmark_rows,
    picture,
    sigmoid,
    write_landmarks,
)

import jaxau.predict
from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkFile, LandmarkRow
from jaxau.faces.video import Frame, open_video, read_image, write_video
from jaxau.find_faces import faces_of_landmarks
from jaxau.predict import Predictor, in_background
from jaxau.result_table import FrameFaces


def test_numbers_are_the_networks(tmp_path):
    predictor = Predictor(fake_model())
    images = [picture(i) for i in range(40)]
    table = predictor(images, landmarks=np.stack([FACE + i % 5 for i in range(40)]))
    expected = np.stack([sigmoid(expected_logits(im, FACE + i % 5)) for i, im in enumerate(images)])
    got = table[[f"AU{au:02d}_p" for au in AUS]].to_numpy()
    np.testing.assert_allclose(got, expected, atol=2e-6)
    occurs = table[[f"AU{au:02d}_c" for au in AUS]].to_numpy()
    np.testing.assert_array_equal(occurs, expected >= [0.5, 0.4, 0.6])
    assert ((expected > 0.4) & (expected < 0.5))[:, 1].any()  # the second threshold is .4


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_windows_of_a_track(batch_size):
    """Frame t of a window adds up its frames 0..t (the fake network is a cumulative sum): windows
    are cut every 4 frames and at the gap, and neither padding nor batch size changes a number."""
    predictor = Predictor(fake_model(clip_length=4), batch_size=batch_size)
    images = [picture(i) for i in range(13)]
    landmarks = np.stack([FACE] * 13)
    landmarks[6] = np.nan
    table = predictor(images, landmarks)
    logits = [expected_logits(image, FACE) for image in images]
    windows = [[0, 1, 2, 3], [4, 5], [7, 8, 9, 10], [11, 12]]
    for window in windows:
        for i, frame in enumerate(window):
            expected = sigmoid(sum(logits[j] for j in window[: i + 1]))
            row = table.iloc[frame]
            np.testing.assert_allclose(
                [row[f"AU{au:02d}_p"] for au in AUS], expected, atol=1e-5, err_msg=f"frame {frame}"
            )
    assert table.success.tolist() == [1] * 6 + [0] + [1] * 6
    assert table.reason[6] == "bad_landmarks" and np.isnan(table.AU01_p[6])


def test_each_face_has_windows_of_its_own():
    predictor = Predictor(fake_model(clip_length=3), batch_size=2)

    def frames():
        for i in range(7):
            image, faces = picture(i), faces_of_landmarks([])
            if i != 3:
                faces = faces_of_landmarks([LandmarkRow(0, FACE, None)])
            faces += faces_of_landmarks([LandmarkRow(1, FACE + 5, None)])
            yield predictor.prepare(Frame(i, i / 25, image), faces)

    done = list(predictor.stream(frames()))
    other = [sigmoid(sum(expected_logits(picture(j), FACE + 5) for j in w)) for w in ([3], [3, 4])]
    np.testing.assert_allclose(done[3].faces[1].probability, other[0], atol=1e-5)
    np.testing.assert_allclose(done[4].faces[1].probability, other[1], atol=1e-5)
    alone = sigmoid(expected_logits(picture(4), FACE))
    np.testing.assert_allclose(done[4].faces[0].probability, alone, atol=1e-5)
    assert [frame.index for frame in done] == list(range(7))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_network_with_a_state_remembers_each_track_from_window_to_window(batch_size):
    """The fake network adds up all frames since the track began; faces 0 and 1 come and go."""
    predictor = Predictor(fake_model(clip_length=3, remembers=True), batch_size=batch_size)
    present = {0: [i for i in range(11) if i != 7], 1: range(2, 10)}

    def frames():
        for i in range(11):
            here = [LandmarkRow(f, FACE + 5 * f, None) for f in (0, 1) if i in present[f]]
            yield predictor.prepare(Frame(i, i / 25, picture(i)), faces_of_landmarks(here))

    done = list(predictor.stream(frames()))
    assert [frame.index for frame in done] == list(range(11))
    for face_id, tracks in {0: [range(7), range(8, 11)], 1: [range(2, 10)]}.items():
        for track in tracks:
            total = np.zeros(len(AUS))
            for i in track:
                total = total + expected_logits(picture(i), FACE + 5 * face_id)
                (face,) = [face for face in done[i].faces if face.face_id == face_id]
                np.testing.assert_allclose(face.probability, sigmoid(total), atol=1e-5, err_msg=f"frame {i}")


@pytest.mark.parametrize("remembers", [False, True])
def test_a_new_file_begins_a_new_window(remembers):
    predictor = Predictor(fake_model(clip_length=4, remembers=remembers))

    def items():
        for file in range(2):
            faces = faces_of_landmarks([LandmarkRow(0, FACE, None)])
            yield predictor.prepare(Frame(0, 0.0, picture(0)), faces)
            yield f"end {file}"

    first, _, second, end = predictor.stream(items())
    assert end == "end 1"
    np.testing.assert_array_equal(first.faces[0].probability, second.faces[0].probability)


def test_nothing_is_recompiled_for_the_last_batch():
    predictor = Predictor(fake_model(), batch_size=4)
    for count in (9, 1, 4):
        predictor([picture(i) for i in range(count)], np.stack([FACE] * count))
    assert predictor._network.step._cache_size() == 1


def test_frames_do_not_wait_forever_for_a_full_batch():
    """One face, then an endless scene without: its row must come out, and memory stay small."""
    predictor = Predictor(fake_model(), batch_size=8)
    read = 0

    def frames():
        nonlocal read
        faces = faces_of_landmarks([LandmarkRow(0, FACE, None)])
        yield predictor.prepare(Frame(0, 0.0, picture(0)), faces)
        while read < 5000:
            read += 1
            yield FrameFaces(read, 0.0, faces_of_landmarks([]), 64)

    first = next(predictor.stream(frames()))
    assert first.index == 0 and first.is_done() and read < 1000


def test_api_errors():
    predictor = Predictor(fake_model())
    with pytest.raises(ValueError, match="2 landmarks for 3 frames: give one set"):
        predictor([picture(0)] * 3, np.stack([FACE] * 2))
    with pytest.raises(ValueError, match="no landmarks and no detector"):
        predictor([picture(0)])
    with pytest.raises(ValueError, match="batch_size 0: must be at least 1"):
        Predictor(fake_model(), batch_size=0)
    model = fake_model()
    model.info["alignment"] = "tight"
    with pytest.raises(ValueError, match="'tight': not one of"):
        Predictor(model)
    model = fake_model()
    model.variables["params"]["head"]["bias"][1] = np.nan
    with pytest.raises(ValueError, match="must be finite; the checkpoint is damaged"):
        Predictor(model)([picture(0)], [FACE])


def test_thresholds_are_one_for_each_au():
    model = fake_model()
    model.info["thresholds"] = [0.5, 0.5]
    with pytest.raises(ValueError, match=r"thresholds \[0.5, 0.5\] for the AUs \[1, 12, 25\].*one for each"):
        Predictor(model)


def test_landmarks_of_another_shape():
    predictor = Predictor(fake_model())
    for wrong in (FACE, FACE.T[None], np.zeros((1, 7, 2)), [FACE, FACE[:3]]):
        with pytest.raises(ValueError, match="landmarks .*(must be|give) .frames, points, 2"):
            predictor([picture(0)], wrong)


def test_video_with_landmarks(small_video):
    """An array or a file of landmarks gives what `predictor(frames, landmarks)` gives."""
    path, table = small_video
    predictor = Predictor(fake_model(clip_length=4))
    frames = [frame.image for frame in open_video(path)]
    points = np.full((20, 5, 2), np.nan)
    for i, (face,) in LandmarkFile(table).frames("a.mp4"):
        points[i] = face.landmarks
    expected = predictor(frames, points, fps=10).drop(columns=["video", "reason"])
    given = predictor.video(path, points)
    assert (given.video == "a.mp4").all() and given.success.sum() == 17
    pd.testing.assert_frame_equal(given.drop(columns=["video", "reason"]), expected)
    of_file = predictor.video(str(path), LandmarkFile(table))
    assert of_file.reason[6] == "no_landmarks"
    ids = ["face_id", "video", "reason"]
    pd.testing.assert_frame_equal(of_file.drop(columns=ids), expected.drop(columns="face_id"))
    with pytest.raises(ValueError, match="19 landmarks for 20 frames"):
        predictor.video(path, points[1:])
    with pytest.raises(ValueError, match="22 landmarks for 20 frames"):
        predictor.video(path, np.concatenate([points, points[:2]]))
    path.rename(path.with_name("b.mp4"))
    with pytest.raises(ValueError, match=r"name the videos \['a.mp4'\], not 'b.mp4'"):
        predictor.video(path.with_name("b.mp4"), LandmarkFile(table))
    write_landmarks(table, landmark_rows("b.mp4", [3, 24]))
    with pytest.warns(UserWarning, match="b.mp4: landmarks of 1 frames that were not"):
        predictor.video(path.with_name("b.mp4"), LandmarkFile(table))


def test_python_of_the_readme_runs_as_written(shared, tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = re.search(r"^    import jaxau\n(?:    .*\n|\n)*", readme, re.MULTILINE)
    assert block, "README.md has no Python that imports jaxau"
    snippet = textwrap.dedent(block.group())
    assert snippet.count("predictor") == 4
    frames = [picture(i) for i in range(6)]
    write_video(tmp_path / "talk.mp4", frames, fps=25)
    weights = shared / "weights" / "yunet_n_640_640.onnx"
    (tmp_path / "face_detection_yunet.onnx").symlink_to(weights)
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(jaxau.predict, "load_model", lambda path: opened.append(path) or fake_model())
    names = {"frames": frames, "landmarks": np.stack([FACE] * 6)}
    exec(snippet, names)
    assert opened == ["demo/run"]
    assert names["rows"].success.tolist() == [1] * 6
    np.testing.assert_allclose(names["rows"].timestamp, np.arange(6) / 25)


def test_background_hands_over_items_and_errors():
    def numbers():
        yield from range(5)
        raise KeyError("broken")

    got = []
    with pytest.raises(KeyError, match="broken"):
        for number in in_background(numbers(), 2):
            got.append(number)
    assert got == [0, 1, 2, 3, 4]
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    stream = in_background(endless(), 2)
    next(stream)
    stream.close()
    assert closed == [True]


def test_detection_aligns_as_training_does(shared):
    """The row of a picture is what the network says about the crop of the one alignment function."""
    yunet = YuNet(shared / "weights" / "yunet_n_640_640.onnx")
    image = read_image(shared / "media" / "single_face.jpg")
    table = Predictor(fake_model(), yunet)([image])
    (face,) = yunet.detect(image)
    expected = sigmoid(expected_logits(image, face.landmarks))
    np.testing.assert_allclose([table.AU01_p[0], table.AU12_p[0]], expected[:2], atol=2e-6)
