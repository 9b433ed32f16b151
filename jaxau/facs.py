"""The vocabulary of the Facial Action Coding System (FACS), and the only place where an AU order is written.

Regions follow Table I of LAC ("Lock and Check", 2025): upper, middle and lower face. AUs that the
table leaves out are placed by the muscle that produces them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Region = Literal["upper", "middle", "lower"]


@dataclass(frozen=True)
class ActionUnit:
    """One Action Unit: its FACS number, name, the muscles that produce it, and its face region."""

    number: int
    name: str
    muscle: str
    region: Region


ACTION_UNITS: dict[int, ActionUnit] = {
    unit.number: unit
    for unit in (
        ActionUnit(1, "inner brow raiser", "frontalis, pars medialis", "upper"),
        ActionUnit(2, "outer brow raiser", "frontalis, pars lateralis", "upper"),
        ActionUnit(4, "brow lowerer", "corrugator supercilii, depressor supercilii", "upper"),
        ActionUnit(5, "upper lid raiser", "levator palpebrae superioris", "upper"),
        ActionUnit(6, "cheek raiser", "orbicularis oculi, pars orbitalis", "middle"),
        ActionUnit(7, "lid tightener", "orbicularis oculi, pars palpebralis", "upper"),
        ActionUnit(9, "nose wrinkler", "levator labii superioris alaeque nasi", "middle"),
        ActionUnit(10, "upper lip raiser", "levator labii superioris", "lower"),
        ActionUnit(11, "nasolabial furrow deepener", "zygomaticus minor", "lower"),
        ActionUnit(12, "lip corner puller", "zygomaticus major", "lower"),
        ActionUnit(14, "dimpler", "buccinator", "lower"),
        ActionUnit(15, "lip corner depressor", "depressor anguli oris", "lower"),
        ActionUnit(16, "lower lip depressor", "depressor labii inferioris", "lower"),
        ActionUnit(17, "chin raiser", "mentalis", "lower"),
        ActionUnit(18, "lip pucker", "incisivii labii", "lower"),
        ActionUnit(20, "lip stretcher", "risorius", "lower"),
        ActionUnit(22, "lip funneler", "orbicularis oris", "lower"),
        ActionUnit(23, "lip tightener", "orbicularis oris", "lower"),
        ActionUnit(24, "lip pressor", "orbicularis oris", "lower"),
        ActionUnit(25, "lips part", "depressor labii, relaxation of mentalis", "lower"),
        ActionUnit(26, "jaw drop", "masseter relaxed", "lower"),
        ActionUnit(27, "mouth stretch", "pterygoids, digastric", "lower"),
        ActionUnit(28, "lip suck", "orbicularis oris", "lower"),
        ActionUnit(43, "eyes closed", "relaxation of levator palpebrae superioris", "upper"),
        ActionUnit(45, "blink", "relaxation of levator palpebrae; orbicularis oculi", "upper"),
    )
}

CORPUS_AUS: dict[str, tuple[int, ...]] = {
    "bp4d": (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
    "bp4dplus": (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
    "disfa": (1, 2, 4, 6, 9, 12, 25, 26),
    "gft": (1, 2, 4, 6, 10, 12, 14, 15, 23, 24),
    "aff_wild2": (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26),
    "aff_wild2_8au": (1, 2, 4, 6, 12, 15, 20, 25),
    "raf_au": (1, 2, 4, 5, 6, 9, 10, 12, 16, 17, 25, 26, 27),
    "synthetic": (
        *(1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28),
        *(43, 45),
    ),
}
"""The AUs that each corpus codes and that the papers score, in the order of every array."""

SYNTHETIC_AUS = CORPUS_AUS["synthetic"]

DISFA_CODED_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
"""All that DISFA codes; the papers score the eight of ``CORPUS_AUS["disfa"]``."""


def corpus_number(corpus: str) -> int:
    """The number that stands for a corpus in batches; all that are not in `CORPUS_AUS` share one."""
    return [*CORPUS_AUS, corpus].index(corpus)


def column(au: int) -> str:
    """Name of an AU in tables and result files: ``column(1) == "AU01"``."""
    return f"AU{au:02d}"


def check_aus(aus: Iterable[int]) -> tuple[int, ...]:
    """Return ``aus`` as a tuple, or say which of them are unknown or given twice.

    Args:
      aus: AU numbers in the order of the model's outputs.

    Raises:
      ValueError: an unknown AU, a repeated AU, or none at all.
    """
    aus = tuple(aus)
    unknown = [au for au in aus if au not in ACTION_UNITS]
    if unknown:
        raise ValueError(f"AU {unknown}: not among the known AUs {list(ACTION_UNITS)}; choose from these")
    if not aus or len(set(aus)) != len(aus):
        raise ValueError(f"AUs {list(aus)}: name at least one AU, and each only once")
    return aus
