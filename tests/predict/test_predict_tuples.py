"""Networks that look at the frames t - T and t + T: true neighbours, each frame seen once, bounded memory."""

import jax
import numpy as np
import pytest
from prediction_kit import AUS, FACE, expected_logits, fake_model, picture, sigmoid, tuple_model

from jaxau.checkpoint import Model
from jaxau.faces.align import align, to_network_input
from jaxau.faces.flow import tuple_flow
from jaxau.faces.landmark_file import LandmarkRow
from jaxau.faces.video import Frame
from jaxau.find_faces import faces_of_landmarks
from jaxau.predict import Predictor

PRESENT = {0: [*range(0, 9), *range(12, 20)], 1: [*range(4, 17)]}  # face 0 is away from 9 to 11


def frames(predictor, count=20, present=PRESENT):
    for i in range(count):
        here = [LandmarkRow(f, FACE + 5 * f, None) for f in present if i in present[f]]
        yield predictor.prepare(Frame(i, i / 25, picture(i)), faces_of_landmarks(here))


def expected(face_id, t, distance, present):
    def logits(i):
        return expected_logits(picture(i), FACE + 5 * face_id)

    before, after = (i if i in present[face_id] else t for i in (t - distance, t + distance))
    return logits(t) + 0.5 * (logits(after) - logits(t)) - 0.25 * (logits(t) - logits(before))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_true_neighbours_of_the_same_face(batch_size, whole):
    distance = 3
    predictor = Predictor(tuple_model(distance, whole), batch_size=batch_size)
    done = list(predictor.stream(frames(predictor)))
    assert [frame.index for frame in done] == list(range(20))
    for face_id, present in PRESENT.items():
        for t in present:
            (face,) = [face for face in done[t].faces if face.face_id == face_id]
            wanted = sigmoid(expected(face_id, t, distance, PRESENT))
            np.testing.assert_allclose(face.probability, wanted, atol=1e-5, err_msg=f"{face_id} at {t}")


def test_each_frame_is_seen_once(monkeypatch):
    seen = []
    monkeypatch.setattr(jax, "jit", lambda f: f)  # so that each call can be counted
    predictor = Predictor(tuple_model(2), batch_size=4)
    found = predictor._network.features
    predictor._network.features = lambda v, image: seen.extend(image) or found(v, image)
    list(predictor.stream(frames(predictor)))
    pictures = [image for image in seen if image.any()]  # what fills a batch up is black
    assert len(pictures) == sum(map(len, PRESENT.values()))


def test_videos_do_not_see_each_other():
    predictor = Predictor(tuple_model(2), batch_size=8)

    def items():
        for file in range(3):
            yield from frames(predictor, 4, {0: range(4)})
            yield f"end {file}"

    done = list(predictor.stream(items()))
    assert [item for item in done if isinstance(item, str)] == ["end 0", "end 1", "end 2"]
    found = [item.faces[0].probability for item in done if not isinstance(item, str)]
    for i, probability in enumerate(found):
        wanted = sigmoid(expected(0, i % 4, 2, {0: range(4)}))
        np.testing.assert_allclose(probability, wanted, atol=1e-5)


def test_what_is_kept_does_not_grow():
    predictor = Predictor(tuple_model(5), batch_size=4)
    queue, most = predictor._network.queue(), 0
    for frame in frames(predictor, 80, {0: range(80), 1: range(0, 80, 2)}):
        queue.add(frame)
        queue.run(whole=False)
        most = max(most, len(queue._kept))
    assert most <= 2 * (2 * 5 + 1) + 2 * 4
    queue.end()
    queue.run(whole=True)
    assert not queue._kept and not queue._open and not queue._new


def test_a_long_scene_without_faces_does_not_hold_rows_back():
    predictor, read = Predictor(tuple_model(3), batch_size=8), 0

    def scene():
        nonlocal read
        for frame in frames(predictor, 2000, {0: [0]}):
            read += 1
            yield frame

    first = next(predictor.stream(scene()))
    np.testing.assert_allclose(
        first.faces[0].probability, sigmoid(expected_logits(picture(0), FACE)), atol=1e-5
    )
    assert read < 400


def test_neighbor_and_flow_are_given_as_in_training():
    distance, images = 2, [picture(i) for i in range(6)]
    crops = [to_network_input(align(image, FACE, "jaa256")[0], FACE, "jaa256", 32, 36) for image in images]
    names = [f"AU{au:02d}_p" for au in AUS]
    for inputs in (("neighbor",), ("flow",), ("flow", "neighbor")):
        predictor = Predictor(tuple_model(distance, inputs=("image", *inputs)))
        found = predictor(images, np.stack([FACE] * 6))[names].to_numpy()
        for t in range(6):
            there = [t >= distance, True, t < 6 - distance]
            steps = zip((-2, 0, 2), there, strict=True)
            trio = np.stack([crops[t + step] if ok else crops[t] for step, ok in steps])
            means = {"neighbor": np.mean(there), "flow": tuple_flow(trio).mean()}
            assert means["flow"] != 0
            wanted = expected(0, t, distance, {0: range(6)}) + sum(means[name] for name in inputs)
            np.testing.assert_allclose(found[t], sigmoid(wanted), atol=1e-5)


def test_nothing_is_recompiled():
    predictor = Predictor(tuple_model(2), batch_size=4)
    for count in (9, 1, 4):
        predictor([picture(i) for i in range(count)], np.stack([FACE] * count))
    network = predictor._network
    assert network.features._cache_size() == network.detect._cache_size() == 1


def test_stages_without_aus_are_refused():
    model = fake_model()
    info = {**model.info, "network": "aunet", "stage": "labels", "detects_aus": False}
    with pytest.raises(ValueError, match="stage 'labels' of aunet: it detects no AUs; give the folder of a"):
        Predictor(Model(model.network, model.variables, info))


def test_frames_between_are_read_though_every_few_are_wanted():
    assert Predictor(tuple_model(2)).needs_every_frame and not Predictor(fake_model()).needs_every_frame
