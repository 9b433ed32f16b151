"""How often a 95 % interval holds the truth, on subjects who differ, and how often one over frames does."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtr, ndtri

from jaxau import metrics
from jaxau.metrics import intervals

RATE = np.linspace(0.04, 0.5, 12)
FRAMES = 200  # per subject


class Corpus(NamedTuple):
    """How much subjects differ: in how often they show an AU, and in how well a detector works on them."""

    concentration: float  # of the beta distribution of a subject's base rate around RATE
    quality: float  # standard deviation of d', of a subject and of an AU of a subject

    def rates(self, subjects, rng):
        """Base rate, true positive rate and false positive rate of each subject and AU."""
        shape = (subjects, len(RATE))
        base = rng.beta(self.concentration * RATE, self.concentration * (1 - RATE), size=shape)
        quality, bias = (
            rng.normal(scale=scale, size=(subjects, 1)) + rng.normal(scale=scale, size=shape)
            for scale in (self.quality, 0.35)
        )
        cut = 0.6 + ndtri(1 - RATE) / 2
        return base, ndtr(1.8 + quality + bias - cut), ndtr(bias - cut - 0.4)

    def counts(self, subjects, rng):
        """What `subject_counts` gives for FRAMES frames of each, drawn without drawing the frames."""
        base, found, false_alarm = self.rates(subjects, rng)
        positive = rng.binomial(FRAMES, base)
        tp, fp = rng.binomial(positive, found), rng.binomial(FRAMES - positive, false_alarm)
        return np.stack([tp, fp, positive - tp, FRAMES - positive - fp], axis=-1)

    def f1(self, rng):
        """F1 of each AU over 300,000 subjects."""
        base, found, false_alarm = self.rates(300_000, rng)
        tp, fp, fn = base * found, (1 - base) * false_alarm, base * (1 - found)
        return 2 * tp.sum(0) / (2 * tp + fp + fn).sum(0)


VERY_DIFFERENT, DIFFERENT, SAME_QUALITY = Corpus(2.5, 0.5), Corpus(8, 0.5), Corpus(2.5, 0.2)


def of_subjects(counts, rng, draws=400):
    """F1 of each AU and their mean, and the same of draws of subjects."""
    weights = intervals.draw_subjects(len(counts), draws, int(rng.integers(2**31)))
    summed = weights.astype(float) @ counts.reshape(len(counts), -1)
    drawn = metrics.f1_from_counts(summed.reshape(draws, *counts.shape[1:]))
    return with_mean(metrics.f1_from_counts(counts.sum(axis=0))), with_mean(drawn)


def with_mean(f1):
    return np.concatenate([f1, intervals.mean_defined(f1)[..., None]], axis=-1)


def ours(counts, rng):
    """(k + 1, 2): as `score` has them."""
    f1, drawn = of_subjects(counts, rng)
    shown_by = np.append((counts[..., [0, 2]].sum(axis=2) > 0).sum(axis=0), len(counts))
    found = [intervals.interval(f1[c], drawn[:, c], shown_by[c], 0, 1) for c in range(len(f1))]
    return np.array(found, float)  # None becomes nan


def percentile(counts, rng):
    return np.nanquantile(of_subjects(counts, rng)[1], [0.025, 0.975], axis=0).T


def expanded_percentile(counts, rng):
    subjects = len(counts)
    high = ndtr(np.sqrt(subjects / (subjects - 1)) * scipy.stats.t.ppf(0.975, subjects - 1))
    return np.nanquantile(of_subjects(counts, rng)[1], [1 - high, high], axis=0).T


def bca(counts, rng):
    f1, drawn = of_subjects(counts, rng)
    bias = ndtri(np.clip((drawn < f1).mean(axis=0), 1 / len(drawn), 1 - 1 / len(drawn)))
    without = with_mean(metrics.f1_from_counts(counts.sum(axis=0) - counts))  # jackknife over subjects
    apart = np.nan_to_num(np.nanmean(without, axis=0) - without)
    skew = (apart**3).sum(axis=0) / (6 * np.maximum((apart**2).sum(axis=0), 1e-12) ** 1.5)
    found = []
    for c in range(len(f1)):
        z = bias[c] + ndtri([0.025, 0.975])
        found.append(np.nanquantile(drawn[:, c], ndtr(bias[c] + z / (1 - skew[c] * z))))
    return np.array(found)


def over_frames(counts, rng):
    """Percentiles over draws of single frames, of which the counts of an AU are multinomial."""
    drawn = [rng.multinomial(of_au.sum(), of_au / of_au.sum(), size=400) for of_au in counts.sum(axis=0)]
    drawn = metrics.f1_from_counts(np.stack(drawn, axis=1))
    return np.nanquantile(with_mean(drawn), [0.025, 0.975], axis=0).T


def coverage(corpus, subjects, simulations, rules, seed=0):
    """Of each rule: in how many simulations the interval holds the truth, for each AU and the mean.

    An AU without an interval is left out: no claim, no mistake.
    """
    rng = np.random.default_rng(seed)
    truth = corpus.f1(rng)
    truth = np.append(truth, truth.mean())
    held = {rule.__name__: [] for rule in rules}
    for _ in range(simulations):
        counts = corpus.counts(subjects, rng)
        for rule in rules:
            found = rule(counts, rng)
            inside = (found[:, 0] <= truth) & (truth <= found[:, 1])
            held[rule.__name__].append(np.where(np.isnan(found[:, 0]), np.nan, inside))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return {name: np.nanmean(inside, axis=0) for name, inside in held.items()}


@pytest.mark.parametrize("subjects", [27, 41])
def test_the_interval_of_the_mean_covers_at_its_rate_and_one_over_frames_does_not(subjects):
    found = coverage(DIFFERENT, subjects, 600, (ours,))["ours"]
    assert 0.91 < found[-1] < 0.975  # one standard error of 600 simulations is .009
    assert found[:-1].min() > 0.88 and found[:-1].max() < 0.98
    assert coverage(DIFFERENT, subjects, 100, (over_frames,))["over_frames"][-1] < 0.5


@pytest.mark.slow
def test_the_table_of_coverage_by_form_of_the_interval():
    """What `interval`'s docstring and the note under 15 subjects say; printed with -s."""
    rules = (percentile, bca, expanded_percentile, ours, over_frames)
    corpora = {
        "different": DIFFERENT,
        "very different": VERY_DIFFERENT,
        "different in base rate": SAME_QUALITY,
    }
    means, aus = {}, {}
    for name, corpus in corpora.items():
        for subjects in (9, 14, 27, 41):
            found = coverage(corpus, subjects, 1000, rules, seed=subjects)
            for rule, of_rule in found.items():
                means[name, subjects, rule] = of_rule[-1]
                aus[name, subjects, rule] = of_rule[:-1].min()
            cells = [
                f"{rule} {of_rule[-1]:.3f} ({of_rule[:-1].min():.2f})" for rule, of_rule in found.items()
            ]
            print(f"{name}, {subjects} subjects, mean F1 (worst AU): {', '.join(cells)}")
    for (name, subjects, rule), covered in means.items():
        if rule == "over_frames":
            assert covered < 0.5
        elif rule == "ours":
            assert (0.90 if subjects >= 27 else 0.88) < covered < 0.98
            assert aus[name, subjects, rule] > 0.84
            others = [means[name, subjects, other] for other in ("percentile", "bca", "expanded_percentile")]
            assert abs(covered - 0.95) <= min(abs(other - 0.95) for other in others) + 0.01


@pytest.mark.slow
def test_the_interval_of_every_mean_covers_at_its_rate():
    def scored(subjects, rng, draws):
        base, found, false_alarm = (r[:, ::4] for r in DIFFERENT.rates(subjects, rng))
        shape = (subjects, 50, base.shape[1])
        truth = rng.random(shape) < base[:, None]
        logit = rng.logistic(size=shape) + np.log(
            np.where(truth, *(r[:, None] / (1 - r[:, None]) for r in (found, false_alarm)))
        )
        probability = 1 / (1 + np.exp(-logit))
        arrays = [x.reshape(-1, shape[2]) for x in (probability, truth, np.ones(shape))]
        return metrics.score(*arrays, 0.5, np.repeat(np.arange(subjects), 50), (1, 2, 12), draws)["mean"]

    rng = np.random.default_rng(0)
    expected = scored(20_000, rng, 0)
    covered = {name: [] for name in metrics.METRICS}
    for _ in range(400):
        mean = scored(27, rng, 300)
        for name in covered:
            covered[name].append(mean[f"{name}_low"] <= expected[name] <= mean[f"{name}_high"])
    for name, held in covered.items():
        print(f"{name}: {np.mean(held):.3f} at 27 subjects")
        assert 0.9 <= np.mean(held) <= 0.98 or name == "calibration_error", name
