"""Clock and roof, with a clock that only the steps move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.benchmark import machine


class Clock:
    """Time passes only in steps, which take what they are told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(machine.time, "perf_counter", lambda: self.now)

    def step(self, name, durations, calls=None):
        durations = iter(durations)

        def run():
            self.now += next(durations)
            if calls is not None:
                calls.append(name)

        return run


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_spread_is_numpys_quartiles():
    values = [3.0, 1.0, 2.0, 10.0, 4.0]
    found = machine.spread(values)
    assert found == {"median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}


def test_warm_up_is_not_timed(clock):
    found = machine.time_steps(clock.step("a", [100, 50, 1, 2, 3]), warmup=2, repeats=3)
    assert found["median"] == 2 and found["n"] == 3


def test_two_steps_by_turns_and_their_ratio_round_by_round(clock):
    """Here the machine becomes slower for both: each ratio stays 2, that of the medians too."""
    calls = []
    ours = clock.step("ours", [9, 1, 1, 1, 4, 4, 4], calls)
    theirs = clock.step("theirs", [9, 2, 2, 2, 8, 8, 8], calls)
    found = machine.interleave(ours, theirs, warmup=1, rounds=2, turn=3)
    assert calls[2:] == ["ours"] * 3 + ["theirs"] * 3 + ["ours"] * 3 + ["theirs"] * 3
    assert found["speed_ratio"] == {"median": 2.0, "q1": 2.0, "q3": 2.0, "n": 2}
    assert found["jaxau_seconds"]["median"] == 2.5 and found["torch_seconds"]["median"] == 5.0


def test_the_median_of_a_turn_counts(clock):
    found = machine.interleave(
        clock.step("ours", [1, 50, 1]), clock.step("theirs", [3, 3, 70]), warmup=0, rounds=1, turn=3
    )
    assert found["speed_ratio"]["median"] == 3.0


def test_the_roof_is_what_numpy_could_do_within_a_wide_margin():
    found = machine.measure_roof(side=256, rounds=3)
    assert found["product"] == "256^3 float32"
    assert 1e8 < found["flops_per_second"] < 1e14


def test_the_roof_counts_two_operations_for_each_product(monkeypatch):
    """A clock on which everything takes a second."""
    ticks = iter(range(100))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: float(next(ticks)))
    if jax.default_backend() == "cpu":  # two products are waited for at once
        assert machine.measure_roof(side=8, rounds=2)["flops_per_second"] == 2 * 2 * 8**3


def test_memory_of_the_host_grows_with_what_is_held():
    before = machine.memory_peaks()["host_peak_bytes"]
    held = np.ones(200 * 2**20 // 8) + jnp.ones(())
    grown = machine.memory_peaks()["host_peak_bytes"] - before
    assert 100 * 2**20 < before + grown and 0 <= grown < 100 * held.nbytes


def test_the_environment_names_the_versions():
    found = machine.environment()
    assert found["versions"]["jax"] == jax.__version__ and found["versions"]["numpy"] == np.__version__
    assert found["cores"] >= 1 and len(found["load_average"]) == 3
