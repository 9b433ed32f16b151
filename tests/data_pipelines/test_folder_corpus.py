"""Anybody's videos and pictures with a table of labels."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from corpus_folders import faces, parts, remarks, shows, which, write_landmarks, write_picture, write_video

from data_pipelines.corpora import folder
from data_pipelines.face_source import FaceSource
from data_pipelines.records import ABSENT, OCCURS
from jaxau.faces.align import align, transform_points
from jaxau.faces.landmarks import five_points
from jaxau.faces.video import read_image

pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")

TABLE = """video,frame,subject,AU12_c,AU06_r,AU12_r,AU1
visit/anna.mp4,5,anna,1,,3,0
visit/anna.mp4,0,anna,0,2.5,,1
visit/anna.mp4,2,anna,1,0,1.5,
visit/anna.mp4,3,anna,,,,
visit/anna.mp4,9,anna,1,,,1
ben.jpg,,ben,1,0,,9
ben2.jpg,0,ben,2,5,,x
carla.avi,7,carla,0,7,0,1
gone.mp4,0,dora,1,,,
"""


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "labels.csv").write_text(TABLE)
    write_video(tmp_path / "visit/anna.mp4", [face.image for face in faces(0)])
    write_video(tmp_path / "carla.avi", [face.image for face in faces(1)])
    write_picture(tmp_path / "ben.jpg", faces(2)[0].image)
    write_picture(tmp_path / "ben2.jpg", faces(2)[1].image)
    videos = [(name, faces(i)) for i, name in enumerate(("visit/anna.mp4", "carla.avi"))]
    table = [(name, i, face.lm68) for name, clip in videos for i, face in enumerate(clip)]
    table += [("ben.jpg", 0, faces(2)[0].lm68), ("ben2.jpg", 0, faces(2)[1].lm68)]
    return tmp_path, FaceSource("file", write_landmarks(tmp_path / "landmarks.csv", table))


def test_frames_labels_and_remarks(raw):
    corpus = folder.corpus(raw[0], "jaa256", raw[1])
    assert corpus.subjects == ["anna", "ben", "carla", "dora"] and corpus.manifest["aus"] == [1, 6, 12]
    found, nan = parts(corpus), np.nan
    anna = found["visit/anna.mp4"]
    assert anna.frame.tolist() == [0, 2, 5]
    assert [which(image, 0) for image in anna.images] == [0, 2, 5]
    expected = [[OCCURS, 2.5, ABSENT], [nan, 0, nan], [ABSENT, nan, 3]]
    np.testing.assert_array_equal(anna.intensity, np.float32(expected))
    _, matrix = align(faces(0)[5].image, faces(0)[5].lm68, "jaa256")
    np.testing.assert_allclose(anna.landmarks[2], transform_points(faces(0)[5].lm68, matrix), atol=5e-3)
    assert remarks(anna) == {
        ("label", (12,), (2,)): "occurrence and intensity contradict each other (it occurs from 2 on)",
        ("uncoded", (), (3,)): "no label in its row",
        ("frame", (), (9,)): "no picture: the video has 8 frames",
    }
    np.testing.assert_array_equal(found["ben.jpg"].intensity, np.float32([[nan, 0, OCCURS]]))
    assert shows(found["ben.jpg"].images[0], faces(2)[0])
    np.testing.assert_array_equal(found["ben2.jpg"].intensity, np.float32([[nan, 5, nan]]))
    assert remarks(found["ben2.jpg"]) == {
        ("label", (1,), (0,)): "value 'x' in labels.csv, must be 0, 1 or 9",
        ("label", (12,), (0,)): "value '2' in labels.csv, must be 0, 1 or 9",
    }
    carla = found["carla.avi"]
    np.testing.assert_array_equal(carla.intensity, np.float32([[OCCURS, nan, 0]]))
    assert remarks(carla) == {("label", (6,), (7,)): "intensity '7' in labels.csv, must be 0 to 5"}
    assert remarks(found["gone.mp4"]) == {("frame", (), (0,)): "no picture"}


def test_everybody_is_tested_once(raw):
    for_all = folder.corpus(raw[0], "jaa256", raw[1])
    drawn = for_all.manifest["folds"]["folder"]
    assert sorted(name for fold in drawn for name in fold) == ["anna", "ben", "carla", "dora"]
    assert sorted(map(len, drawn)) == [1, 1, 2]
    rows = TABLE.splitlines()
    given = {"anna": 2, "ben": 1, "carla": 2, "dora": 1}
    lines = [rows[0] + ",fold", *(f"{row},{given[row.split(',')[2]]}" for row in rows[1:])]
    (raw[0] / "labels.csv").write_text("\n".join(lines))
    folder._read_table.cache_clear()
    assert folder.corpus(raw[0], "jaa256", raw[1]).manifest["folds"]["folder"] == [
        ["ben", "dora"],
        ["anna", "carla"],
    ]
    (raw[0] / "labels.csv").write_text("\n".join([*lines, "ben.jpg,1,ben,1,,,,2"]))
    folder._read_table.cache_clear()
    with pytest.raises(ValueError, match=r"subjects \['ben'\]: each must have one fold"):
        folder.corpus(raw[0], "jaa256", raw[1])


def test_without_a_subject_column_each_file_is_one(tmp_path):
    (tmp_path / "labels.csv").write_text("video,frame,AU12\na.mp4,0,1\nb.mp4,0,0\n")
    source = FaceSource("file", write_landmarks(tmp_path / "l.csv", [("a.mp4", 0, faces(0)[0].lm68)]))
    corpus = folder.corpus(tmp_path, "jaa256", source)
    assert (
        corpus.subjects == ["a.mp4", "b.mp4"] and "each file counts as one" in corpus.manifest["description"]
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("video,frame,subject,AU3_c\na.mp4,0,a,1\n", r"remove \['AU3_c'\]"),
        ("video,frame,AU12,AU12_c\na.mp4,0,1,1\n", "what is there twice"),
        ("video,frame,AU12_c,smile\na.mp4,0,1,1\n", r"remove \['smile'\]"),
        ("frame,AU12_c\n0,1\n", "needed are video, frame"),
        ("video,frame\na.mp4,0\n", "needed are video, frame and each AU"),
        ("", "cannot be read"),
        ("video,frame,AU12\na.mp4,0,1\n,1,1\n", "line 3: no video"),
        ("video,frame,subject,AU12\na.mp4,0,a,1\na.mp4,1,b,1\n", "a.mp4 has rows of 2 subjects"),
        ("video,frame,AU12\na.mp4,zero,1\n", "frame 'zero' of a.mp4"),
        ("video,frame,AU12\na.mp4,,1\n", "frame '' of a.mp4"),
        ("video,frame,AU12\na.mp4,3,1\na.mp4,3,0\n", "frame 3 of a.mp4 has several rows"),
        ("video,frame,AU12\na.txt,3,1\n", r"a.txt: .txt is no known kind"),
    ],
)
def test_tables_that_are_refused(tmp_path, table, message):
    (tmp_path / "labels.csv").write_text(table)
    source = FaceSource("file", write_landmarks(tmp_path / "l.csv", [("a.mp4", 0, faces(0)[0].lm68)]))
    with pytest.raises(ValueError, match=message):
        parts(folder.corpus(tmp_path, "jaa256", source))


def test_a_detector_finds_five_points(raw, shared):
    weights = shared / "weights/yunet_n_640_640.onnx"
    corpus = folder.corpus(raw[0], "jaa256", FaceSource("yunet", weights))
    assert corpus.manifest["landmarks"] == 5 and str(shared) not in str(corpus.request)
    part = parts(corpus)["visit/anna.mp4"]
    found = dict(zip(part.frame.tolist(), part.landmarks, strict=True))
    lost = [frames for (what, _, frames), reason in remarks(part).items() if reason == "no face found"]
    assert len(found) + sum(map(len, lost)) == 3 and found
    for number, points in found.items():
        truth = five_points(faces(0)[number].lm68)
        crop, matrix = align(faces(0)[number].image, truth, "jaa256")
        # Eyes are some 70 pixels apart in the crop.
        assert np.abs(points - transform_points(truth, matrix)).max() < 25


def test_threads_do_not_share_a_detector(shared):
    """Beam's workers have threads; a detector works on the picture and the size that it was given last."""
    source = FaceSource("yunet", shared / "weights/yunet_n_640_640.onnx")
    whole = read_image(shared / "media/multi_face.jpg")
    sizes = [whole, np.ascontiguousarray(whole[: len(whole) * 2 // 3]), np.ascontiguousarray(whole[::2, ::2])]
    expected = [source.find(picture, "", 0)[0] for picture in sizes]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            found = list(pool.map(lambda picture: source.find(picture, "", 0)[0], sizes * 4))
            for i, points in enumerate(found):
                np.testing.assert_array_equal(points, expected[i % 3])


def test_a_picture_of_several_faces_takes_the_largest_and_says_so(tmp_path, shared):
    picture = (shared / "media/multi_face.jpg").read_bytes()
    (tmp_path / "group.jpg").write_bytes(picture)
    (tmp_path / "labels.csv").write_text("video,AU12\ngroup.jpg,1\n")
    source = FaceSource("yunet", shared / "weights/yunet_n_640_640.onnx")
    ((key, reason),) = remarks(parts(folder.corpus(tmp_path, "jaa256", source))["group.jpg"]).items()
    assert key == ("landmarks", (), (0,)) and reason.endswith("faces in the picture: the largest is taken")


def test_dlibs_68_points(tmp_path, shared):
    """With a shape predictor that was trained here, on synthetic faces; dlib itself is the reference."""
    dlib = pytest.importorskip("dlib", reason="pip install jaxau[dlib]")
    examples = []
    for face in faces(0)[:4]:
        low, high = face.lm68.min(0), face.lm68.max(0)
        box = dlib.rectangle(*np.round([*low, *high]).astype(int).tolist())
        points = [dlib.point(*map(int, point)) for point in np.round(face.lm68)]
        examples.append(dlib.full_object_detection(box, points))
    options = dlib.shape_predictor_training_options()
    options.tree_depth, options.cascade_depth, options.num_trees_per_cascade_level = 2, 2, 5
    predictor = dlib.train_shape_predictor([f.image for f in faces(0)[:4]], [[e] for e in examples], options)
    weights = tmp_path / "points.dat"
    predictor.save(str(weights))
    (tmp_path / "labels.csv").write_text("video,AU12\nmulti.jpg,1\n")
    (tmp_path / "multi.jpg").write_bytes((shared / "media/multi_face.jpg").read_bytes())
    corpus = folder.corpus(tmp_path, "jaa256", FaceSource("dlib", weights))
    assert corpus.manifest["landmarks"] == 68
    part = parts(corpus)["multi.jpg"]
    picture = read_image(tmp_path / "multi.jpg")
    boxes = dlib.get_frontal_face_detector()(picture, 1)
    largest = max(boxes, key=lambda box: box.width())
    expected = np.array([(p.x, p.y) for p in predictor(picture, largest).parts()], float)
    _, matrix = align(picture, expected, "jaa256")
    np.testing.assert_allclose(part.landmarks[0], transform_points(expected, matrix), atol=1e-3)
    assert f"{len(boxes)} faces in the picture" in next(iter(remarks(part).values()))


def test_shape_predictors_that_are_none(tmp_path):
    pytest.importorskip("dlib", reason="pip install jaxau[dlib]")
    (tmp_path / "labels.csv").write_text("video,AU12\na.jpg,1\n")
    (tmp_path / "bad.dat").write_bytes(b"none")
    for name, message in (("no.dat", "no such file"), ("bad.dat", "dlib cannot read it")):
        with pytest.raises(ValueError, match=f"shape predictor .*{name}: {message}"):
            folder.corpus(tmp_path, "jaa256", FaceSource("dlib", tmp_path / name))
