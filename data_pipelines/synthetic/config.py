"""What to draw: how many people, clips and frames, how large, how difficult."""

from dataclasses import dataclass
from typing import NamedTuple

from data_pipelines.synthetic.dynamics import PROFILES

_SMALLEST, _LARGEST = 16, 1024


class Tier(NamedTuple):
    """A named size of data set: people, clips per person, frames per clip, pixels."""

    subjects: int
    clips: int
    frames: int
    size: int


TIERS: dict[str, Tier] = {
    "tiny": Tier(12, 1, 64, 96),
    "small": Tier(27, 3, 80, 128),
}


@dataclass(frozen=True)
class SynthConfig:
    """A data set of synthetic faces; everything in it follows from these values.

    Attributes:
      tier: "tiny" or "small" (see ``TIERS``).
      seed: root of all randomness, 0 or above.
      size: side of the pictures in pixels.
      nuisance: 0 fixed light and pose (a laboratory: too easy), 1 default, 2 hard.
      profile: how often which expressions occur (``dynamics.PROFILES``).
      subjects, clips, frames: people, clips per person, frames per clip.
      fps: frames per second. Dynamics are in seconds: at half the rate an onset takes half as
        many frames, and a clip of as many frames lasts twice as long.

    None stands for the tier's own value and is replaced by it.

    Raises:
      ValueError: an unknown tier or profile, or a number outside its range.
    """

    tier: str = "small"
    seed: int = 0
    size: int | None = None
    nuisance: float = 1.0
    profile: str = "balanced"
    subjects: int | None = None
    clips: int | None = None
    frames: int | None = None
    fps: float = 25.0

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ValueError(f"tier {self.tier!r} is unknown: choose one of {sorted(TIERS)}")
        if self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} is unknown: choose one of {sorted(PROFILES)}")
        for name, value in TIERS[self.tier]._asdict().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("subjects", "clips", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: at least 1 is needed")
        if not _SMALLEST <= self.shape.size <= _LARGEST:
            raise ValueError(f"size = {self.size}: {_SMALLEST} to {_LARGEST} pixels can be drawn")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed}: use 0 or a positive integer")
        if not 0 <= self.nuisance <= 3:
            raise ValueError(f"nuisance = {self.nuisance}: use 0 (fixed) to 3; 1 is the default")
        if not 1 <= self.fps <= 240:
            raise ValueError(f"fps = {self.fps}: use 1 to 240 frames per second")

    @property
    def shape(self) -> Tier:
        """The numbers in effect, with None filled in."""
        assert self.subjects and self.clips and self.frames and self.size
        return Tier(self.subjects, self.clips, self.frames, self.size)
