"""Pictures decoded each time, once into a file, or once onto the device: the same batches."""

import dataclasses
from itertools import islice

import jax
import numpy as np
import pytest
import simplejpeg

from data_pipelines.loader import make_data
from data_pipelines.records import Records
from jaxau import sharding


def with_loader(config, loader, **changes):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, loader=loader, **changes))


def first(data, stage):
    return [*islice(data.train(stage), 3), *islice(data.evaluate(stage, "test", 4), 2)]


@pytest.mark.parametrize("loader", ["raw", "device"])
@pytest.mark.parametrize("stage", ["stills", "sequences"])
def test_batches_are_the_same(new_flat_faces, flat_config, loader, stage):
    # Faces with edges, so that where a picture is cut and whether it is mirrored can be seen.
    expected = first(make_data(flat_config, new_flat_faces), stage)
    found = first(make_data(with_loader(flat_config, loader), new_flat_faces), stage)
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            if key == "image" and loader == "device":
                assert isinstance(b[key], jax.Array) and b[key].dtype == np.uint8
                assert np.abs(a[key].astype(int) - np.asarray(b[key]).astype(int)).max() <= 1
            else:
                np.testing.assert_array_equal(a[key], b[key])


def test_real_edges_cut_mirrored_and_coloured_on_the_device(tiny_faces, flat_config):
    config = dataclasses.replace(flat_config, data=dataclasses.replace(flat_config.data, aus=(12, 1)))
    expected = first(make_data(config, tiny_faces), "stills")
    found = first(make_data(with_loader(config, "device"), tiny_faces), "stills")
    for a, b in zip(expected, found, strict=True):
        difference = np.abs(a["image"].astype(int) - np.asarray(b["image"]).astype(int))
        assert difference.max() <= 1 and difference.mean() < 0.05
        assert a["image"].std() > 20


def test_raw_decodes_once(new_flat_faces, flat_config, monkeypatch):
    next(make_data(with_loader(flat_config, "raw"), new_flat_faces).train("stills"))
    (path,) = (new_flat_faces / "synthetic").glob("decoded-*.npy")
    decoded = np.load(path)
    np.testing.assert_array_equal(decoded[77], Records(new_flat_faces, "synthetic").frame(77).image)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    next(make_data(with_loader(flat_config, "raw"), new_flat_faces, threads=0).train("stills"))


def test_what_the_device_cannot_do(flat_faces, flat_config):
    stage = dataclasses.replace(flat_config.stages["stills"], view="tuples")
    config = dataclasses.replace(with_loader(flat_config, "device"), stages={"pairs": stage})
    with pytest.raises(
        ValueError, match=r"loader='device': only for stills and clips .*not for the stages \['pairs'\]"
    ):
        make_data(config, flat_faces)


def test_a_batch_on_the_device_is_placed_from_there(flat_faces, flat_config):
    batch = next(make_data(with_loader(flat_config, "device"), flat_faces).train("stills"))
    placed = sharding.shard_batch(batch, sharding.make_mesh(1))
    np.testing.assert_array_equal(placed["image"], batch["image"])
