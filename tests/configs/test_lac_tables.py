"""Every row of LAC's ablations is what it says, builds, and takes a step."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import random_batch

from configs.lac import get_config
from configs.tables import PAPERS
from jaxau import models, optim, reproduce, train
from jaxau.config import from_dict
from jaxau.report import published

LAC = PAPERS["lac"]
TABLES = {n: table for n, table in LAC.tables.items() if table.rows}
ROWS = [pytest.param(n, i, id=f"{n}-{row.label}") for n, t in TABLES.items() for i, row in enumerate(t.rows)]
TINY = {"block": "basic", "stage_sizes": (1,), "widths": (4,), "stem": "3x3", "features": 4}

# The paper's eta 1 to 5.
ETA = {"localization": 0.5, "activation": 0.5, "consistency": 0.01, "lock": 0.5, "check": 1.0}
LOCATED = {"localization", "activation"}
TRUNK = {"trunk", "au_weights"}
CLASSIFIER = {"reduce", "classifier_weight", "classifier_bias"}
ST = {"relations", "lstm"}

# Table IV by hand: sampling, parameters of the last stage, terms of the loss, kind of the loss.
TABLE_4 = [
    ("all", TRUNK, {"check"}, "ce"),
    ("temporal", TRUNK, {"check"}, "ce"),
    ("temporal", TRUNK | CLASSIFIER | ST, {"lock", "check"}, "ce"),
    ("temporal", TRUNK | CLASSIFIER, LOCATED | {"lock", "check"}, "ce"),
    ("temporal", TRUNK | CLASSIFIER, LOCATED | {"consistency", "lock", "check"}, "ce"),
    ("temporal", TRUNK | CLASSIFIER | ST, LOCATED | {"consistency", "lock", "check"}, "ce"),
    ("temporal", TRUNK | CLASSIFIER | ST, LOCATED | {"consistency", "lock", "check"}, "dwa"),
]


def _config(number, row, corpus=None, budget="paper"):
    table = TABLES[number]
    return reproduce.configure(LAC, table.rows[row], table.corpus, corpus or table.corpus, budget)


def _tiny(config):
    """The same row at a size at which a step is quick."""
    data = dataclasses.replace(config.data, aus=(1, 4, 12), image_size=16, clip_length=2)
    stages = {name: dataclasses.replace(stage, batch_size=4) for name, stage in config.stages.items()}
    return dataclasses.replace(config, data=data, stages=stages, network={**config.network, **TINY})


_STEPS = {}


def _step(config, name):
    """Parameters before, terms of, and parameters after the first step.

    Rows that differ in their data alone take the same step here, once.
    """
    key = json.dumps([name, config.network, dataclasses.asdict(config.stages[name])], sort_keys=True)
    if key not in _STEPS:
        _STEPS[key] = _take_step(config, name)
    return _STEPS[key]


def _take_step(config, name):
    stage, k = config.stages[name], len(config.data.aus)
    network, loss = models.create(config, name), models.create_loss(config, name)
    optimizer = optim.make_optimizer(dataclasses.replace(stage, trainable=()), 10)
    statistics = {"n_occ": np.array([5, 20, 40]), "n_coded": np.full(k, 100)}
    init = train._make_init(config, name, network, optimizer, loss.init(statistics))
    state, rng = jax.jit(init)(), np.random.default_rng(0)
    lead = (4, 2) if stage.view == "clips" else (4,)
    batch = random_batch(rng, lead, 16, k)
    before = jax.device_get(state.params)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placement = jax.tree.map(lambda _: device, state)
    parts = (network, loss, stage, models.role(config, name))
    state, terms = train.make_train_step(*parts, optimizer, placement)(state, batch)
    return before, {key: float(value) for key, value in terms.items()}, jax.device_get(state.params)


@pytest.mark.parametrize(("number", "row"), ROWS)
def test_every_row_takes_a_step(number, row):
    for corpus in (None, "synthetic"):
        for budget in reproduce.BUDGETS:
            config = _config(number, row, corpus, budget)
            assert list(config.stages) == list(TABLES[number].rows[row].stages)
    config = _tiny(_config(number, row))
    for name, stage in config.stages.items():
        before, terms, after = _step(config, name)
        assert all(np.isfinite(value) for value in terms.values())
        weighted = sum(stage.loss[term] * terms[term] for term in ETA)
        assert terms["loss"] == pytest.approx(weighted, rel=1e-5)
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
        assert all(jax.tree.leaves(moved)), moved  # nothing idle is trained


@pytest.mark.parametrize("row", range(len(TABLE_4)))
def test_table_4_by_hand(row):
    sampling, parameters, terms, kind = TABLE_4[row]
    config = _config(4, row)
    assert config.data.sampling == sampling
    stages = list(config.stages.values())
    # Nothing looks across time without ST, so these rows are for stills.
    assert [stage.view for stage in stages] == (["frames", "clips"] if "lstm" in parameters else ["frames"])
    for stage in stages:
        assert stage.loss["classification"] == kind
        assert {term: stage.loss[term] for term in ETA if stage.loss[term]} == {t: ETA[t] for t in terms}
    before, *_ = _step(_tiny(config), list(config.stages)[-1])
    assert set(before) == parameters


def test_the_kinds_of_loss_differ():
    found = {kind: _step(_tiny(_config(7, i)), "clips")[1] for i, kind in enumerate(("ce", "wa", "dwa"))}
    assert found["ce"]["check"] != pytest.approx(found["wa"]["check"], rel=1e-3)
    assert found["wa"] == found["dwa"]  # in the first epoch, whose weights are those of the training set


def test_rows_that_tables_share_are_one():
    """What the paper prints twice it trains once: 65.1, 66.5 and 67.3."""
    t16 = TABLES[5].rows[3]
    assert t16.label == "t = 16" and _config(5, 3) == _config(4, 1)
    assert _config(7, 0) == _config(4, 5)
    full = from_dict(get_config("bp4d").to_dict())
    assert _config(7, 2) == _config(4, 6) == _config(8, 1) == _config(2, 0) == full
    for budget in reproduce.BUDGETS:
        names = [[reproduce.run_name(_config(n, i, None, budget)) for i in range(len(TABLES[n].rows))]
                 for n in (2, 4, 7)]  # fmt: skip
        assert names[0] == [names[1][6]] and names[2] == [names[1][5], names[2][1], names[1][6]]
        assert len({*names[0], *names[1], *names[2]}) == 8


def test_tables_5_and_6_change_the_sampling_alone():
    lengths = [2, 4, 8, 16, 32, 64]
    base = _config(4, 1)
    for i, t in enumerate(lengths):
        data = dataclasses.replace(base.data, clip_length=t)
        assert _config(5, i) == dataclasses.replace(base, data=data)
    numbers = [1, 2, 4, 8, 12, 16]
    assert [_config(6, i).data.subsequences for i in range(6)] == numbers
    assert {_config(6, i).data.corpus for i in range(6)} == {"disfa"}
    assert _config(6, 0).stages == base.stages and _config(6, 0).network == base.network


def test_table_8_counts():
    """23.5 M and 27.2 M parameters."""
    found = []
    for row in range(2):
        config = _config(8, row)
        name = list(config.stages)[-1]
        lead = (1, 2) if name == "clips" else (1,)
        image = jax.ShapeDtypeStruct((*lead, 224, 224, 3), jnp.uint8)
        variables = jax.eval_shape(models.create(config, name).init, jax.random.key(0), image)
        found.append(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])))
    assert [round(count / 1e6, 1) for count in found] == [23.5, 27.2]


def test_each_row_finds_its_printed_number():
    for number, table in TABLES.items():
        cells = published.read_table("lac", reproduce.roman(number))
        for row in table.rows:
            assert row.published in {cell.method for cell in cells}, (number, row.label)
        if table.shape == "settings":  # the tables of ours alone, in the order of print
            assert [row.published for row in table.rows] == [cell.method for cell in cells]


def test_budgets():
    """What they bound, and that a row's own values stand over them."""
    for number, table in TABLES.items():
        for row in range(len(table.rows)):
            for corpus in ("synthetic", table.corpus):
                for stage in _config(number, row, corpus, "smoke").stages.values():
                    assert stage.max_steps == 20
            assert _config(number, row).stages["frames"].max_steps == 0
    assert [_config(5, i, "synthetic", "smoke").data.clip_length for i in range(6)] == [2, 4, 8, 16, 32, 64]
    assert [_config(6, i, "disfa", "short").data.subsequences for i in range(6)] == [1, 2, 4, 8, 12, 16]


def test_small_budgets_train_the_small_network_on_the_corpus():
    config = _config(3, 0, "disfa", "short")
    assert config.network["block"] == "basic" and config.data.image_size == 96
    assert (config.data.corpus, config.data.protocol) == ("disfa", "disfa-3fold")
    assert config.data.aus == get_config("disfa").data.aus


def test_synthetic_faces_show_the_aus_of_the_papers_corpus():
    assert _config(2, 0, "synthetic", "short").data.aus == get_config("bp4d").data.aus
    assert _config(3, 0, "synthetic", "short").data.aus == get_config("disfa").data.aus
    with pytest.raises(ValueError, match=r"--budget=long: give one of \['smoke', 'short', 'paper'\]"):
        _config(3, 0, "synthetic", "long")


def test_chosen_stages():
    assert list(get_config("bp4d,stages=frames").stages) == ["frames"]
    assert list(get_config("bp4d,stages=clips+frames").stages) == ["frames", "clips"]  # their order stays
    with pytest.raises(ValueError, match=r"stages=frame; there are \['frames', 'clips'\]"):
        get_config("bp4d,stages=frame")
