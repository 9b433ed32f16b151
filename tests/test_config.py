"""The schema refuses what it does not know, with the path, the rule and the remedy."""

import json

import pytest
from small_run import small_aar_config, small_config

from configs import lac
from jaxau import facs
from jaxau.config import Config, from_dict, parse_argument, to_config_dict, to_dict


def _changed(path: str, value: object, config: Config | None = None) -> dict:
    values = to_dict(config or small_config())
    *parents, name = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return values


def test_round_trip_keeps_everything_and_the_order_of_stages():
    config = lac.get_config("disfa,fold=2")
    assert list(config.stages) == ["frames", "clips"]
    built = from_dict(config.to_dict())
    assert from_dict(to_config_dict(built).to_dict()) == built
    assert from_dict(json.loads(json.dumps(to_dict(built)))) == built  # as stored beside checkpoints
    assert built.data.fold == 2 and built.data.aus == facs.CORPUS_AUS["disfa"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.clips.optim.lrr", 1, r"config.stages.clips.optim.lrr: unknown field, did you mean 'lr'\?"),
        ("nonsense", 1, r"config.nonsense: unknown field, known fields: name, data"),
        ("data.aus", (1, 3), r"AU \[3\]: not among the known AUs \[1, 2, 4"),
        ("data.aus", (1, 1), r"name at least one AU, and each only once"),
        ("stages.clips.epochs", 1.5, r"config.stages.clips.epochs: expected int, got 1.5"),
        ("stages.clips.epochs", True, r"config.stages.clips.epochs: expected int, got True"),
        ("stages.clips.epochs", 0, r"config.stages.clips.epochs: 0 breaks the rule: at least 1"),
        ("stages.clips.start_from", "clip", r"start_from: .clip. breaks the rule: .*earlier stage"),
        ("stages.frames.view", "frame", r"stages.frames.view: 'frame' is not one of \['frames', 'clips', "),
        ("stages.frames.accumulate", 0, r"config.stages.frames.accumulate: 0 breaks the rule: at least 1"),
        ("stages.frames.accumulate", 3, r"accumulate: 3 breaks the rule: a divisor of .*batch_size \(16\)"),
        ("stages.frames.augment.resize_to", 16, r"resize_to: 16 breaks the rule: 0 or .* \(32\)"),
        ("stages.frames.augment.rotation", 200.0, r"rotation: 200.0 breaks the rule: in \[0, 180\)"),
        ("stages.frames.augment.holes", 1.5, r"augment.holes: 1.5 breaks the rule: a probability"),
        ("stages.frames.flow", True, r"stages.frames.flow: True breaks the rule: only of view .tuples."),
        ("data.neighbor_distance", 0, r"data.neighbor_distance: 0 breaks the rule: at least 1"),
        ("data.fold", 0, r"config.data.fold: 0 breaks the rule: folds are counted from 1"),
        ("stages", {}, r"config.stages: \{\} breaks the rule: name at least one stage"),
        ("stages.frames.optim.clip_norm", -1.0, r"stages.frames.optim.clip_norm: -1.0 breaks the rule"),
        ("stages.frames.optim.b1", 1.5, r"config.stages.frames.optim.b1: 1.5 breaks the rule: in \[0, 1\)"),
        ("stages.frames.optim.lr", float("inf"), r"optim.lr: inf breaks the rule: above 0 and finite"),
        ("data.fold_seed", -1, r"config.data.fold_seed: -1 breaks the rule: 0 for the protocol's folds"),
        ("selection", "best", r"config.selection: 'best' is not one of \['honest', 'conventional', 'opti"),
        ("seed", -1, r"config.seed: -1 breaks the rule: not negative"),
        ("stages.frames", 3, r"config.stages.frames: expected fields, got 3"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        from_dict(_changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.cache.cache", 11, r"config.stages.cache.cache: 11 breaks the rule: 0 to 10 variants"),
        ("stages.cache.view", "clips", r"stages.cache.view: 'clips' breaks the rule: .frames., where cache"),
        (
            "stages.cache.start_from",
            "",
            r"stages.cache.start_from: '' breaks the rule: a stage of frames that",
        ),
        (
            "stages.cache.augment.resize_to",
            40,
            r"resize_to: 40 breaks the rule: that of stages.frames \(36\)",
        ),
        (
            "stages.features.augment.resize_to",
            0,
            r"resize_to: 0 breaks the rule: that of stages.cache \(36\)",
        ),
        (
            "stages.features.start_from",
            "frames",
            r"start_from: 'frames' breaks the rule: a stage with cache, if",
        ),
        (
            "stages.features.view",
            "clips",
            r"start_from: 'cache' breaks the rule: a stage with cache, if and only",
        ),
        ("stages.cache.cache", 0, r"stages.features.start_from: 'cache' breaks the rule: a stage with cache"),
    ],
)
def test_rules_of_stages_that_cache(path, value, message):
    with pytest.raises(ValueError, match=message):
        from_dict(_changed(path, value, small_aar_config()))


def test_corners_need_a_picture_larger_than_the_input():
    values = to_dict(small_aar_config())
    for stage in values["stages"].values():
        stage["augment"]["resize_to"] = 0
    with pytest.raises(ValueError, match=r"cache.augment.resize_to: 0 breaks the rule: above .* \(32\)"):
        from_dict(values)
    values["stages"]["cache"]["cache"] = 2
    assert from_dict(values).parameters_from("features") == "frames"


def test_integers_stand_for_floats():
    assert from_dict(_changed("stages.clips.optim.lr", 1)).stages["clips"].optim.lr == 1.0


def test_missing_fields_are_named():
    values = to_dict(small_config())
    del values["data"]["corpus"]
    with pytest.raises(ValueError, match=r"config.data: give a value for corpus"):
        from_dict(values)


def test_arguments_after_the_colon():
    assert parse_argument("disfa,fold=1", "synthetic") == ("disfa", {"fold": "1"})
    assert parse_argument("fold=2", "synthetic") == ("synthetic", {"fold": "2"})
    with pytest.raises(ValueError, match=r"\['2'\] is not of the form name=value"):
        parse_argument("disfa,2", "synthetic")
    with pytest.raises(
        ValueError, match=r"give one of \['bp4d', 'disfa', 'synthetic'\], fold=N and stages=A"
    ):
        lac.get_config("gft")
