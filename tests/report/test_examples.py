"""Which faces the page shows, chosen by hand-made predictions."""

import numpy as np
import pytest

from jaxau.checkpoint import Model
from jaxau.report.examples import choose_records, read_examples


@pytest.fixture
def predictions():
    """Three subjects with two videos of four frames; records are 100, 101, ... in disorder."""
    subject = np.repeat([0, 1, 2], 8)
    video = np.tile(np.repeat([0, 1], 4), 3)
    frame = np.tile(np.arange(4), 6)
    truth = np.zeros((24, 2), int)
    truth[9:11] = [[1, 1], [1, 0]]  # subject 1, video 0: most comes and goes
    truth[16, 0] = 1
    probability = np.where(truth == 1, 0.9, 0.1).astype(float)
    probability[20] = [0.99, 0.2]  # subject 2's worst mistake, the worst of all
    probability[3] = [0.6, 0.1]
    mask = np.ones((24, 2), bool)
    probability[5, 1], mask[5, 1] = 1.0, False  # not coded: no mistake
    order = np.random.default_rng(0).permutation(24)
    fields = dict(
        subject=subject, video=video, frame=frame, truth=truth, probability=probability, mask=mask,
        record=np.arange(100, 124),
    )  # fmt: skip
    return {name: value[order] for name, value in fields.items()}


def test_choice(predictions):
    records = choose_records(predictions)
    assert records["localisation"].tolist()[:2] == [109, 116]  # two AUs, then one
    assert records["failures"].tolist()[:2] == [120, 103]
    assert records["sequence"].tolist() == [108, 109, 110, 111]  # in the order of time


class _Maps:
    """Outputs whose values name the picture they came from."""

    def apply(self, variables, images, train):
        level = images[:, 0, 0, :1] / 255.0
        return {
            "attention": np.broadcast_to(level[:, None, None], (len(images), 2, 2, 1)),
            "logits": level * 0,
        }


def test_reading_finds_each_record_and_skips_padding():
    model = Model(_Maps(), {}, {"aus": [12]})
    image = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    batch = {
        "image": image,
        "au": np.arange(6)[:, None] % 2,
        "record": np.array([7, 8, 9, 10, 11, 8]),
        "mask": np.array([1, 1, 1, 1, 1, 0], bool),
    }
    shown = read_examples(model, [batch], {"failures": np.array([10, 8])})
    np.testing.assert_array_equal(shown["failures"]["images"][:, 0, 0, 0], [3, 1])
    np.testing.assert_allclose(shown["failures"]["attention"][:, 0, 0, 0] * 255, [3, 1])
    assert shown["failures"]["truth"].tolist() == [[1], [1]] and shown["failures"]["probability"][0, 0] == 0.5
    with pytest.raises(ValueError, match=r"records \[99\] are not among the test frames"):
        read_examples(model, [batch], {"failures": np.array([99])})
