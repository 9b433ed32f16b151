"""What to draw: how many people, clips and frames, how large, how difficult."""

from dataclasses import dataclass
from typing import NamedTuple

from data_pipelines.synthetic.dynamics import STYLES
from data_pipelines.synthetic.person import SCALES
from data_pipelines.synthetic.profiles import PROFILES

_SMALLEST, _LARGEST = 16, 1024


class Tier(NamedTuple):
    """A named size of data set: people, clips per person, frames per clip, pixels, frames per second."""

    subjects: int
    clips: int
    frames: int
    size: int
    fps: float


TIERS: dict[str, Tier] = {
    "tiny": Tier(12, 1, 64, 96, 8.0),
    "small": Tier(27, 3, 80, 128, 8.0),
    "default": Tier(60, 6, 80, 128, 8.0),
    "large": Tier(100_000, 6, 80, 128, 8.0),
}
"""``large`` is for ``SynthFaces.stream`` and is never stored."""


@dataclass(frozen=True)
class SynthConfig:
    """A data set of synthetic faces; everything in it follows from these values.

    Attributes:
      tier: a key of ``TIERS``.
      seed: root of all randomness, 0 or above.
      size: side of the pictures in pixels.
      nuisance: 0 fixed light and pose (a laboratory: too easy), 1 default, 2 hard.
      profile: how often which expressions occur (``profiles.PROFILES``).
      subjects, clips, frames: people, clips per person, frames per clip.
      fps: frames per second. Dynamics are in seconds: at half the rate an onset takes half as
        many frames, and a clip of as many frames lasts twice as long. The tiers' clips last 8 to 10
        seconds, longer than expressions do, so that a clip also shows how the face rests.
      scale: what an intensity means, "linear" or "facs" (``person.SCALES``).
      style: "spontaneous" or "posed" (``dynamics.STYLES``).
      annotator: whether ``Frame.coded`` has the errors of human coders (``annotator.annotate``).

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
    fps: float | None = None
    scale: str = "linear"
    style: str = "spontaneous"
    annotator: bool = False

    def __post_init__(self) -> None:
        for name, known in (("tier", TIERS), ("profile", PROFILES), ("scale", SCALES), ("style", STYLES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: choose one of {sorted(known)}")
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
        if not 1 <= self.shape.fps <= 240:
            raise ValueError(f"fps = {self.fps}: use 1 to 240 frames per second")

    @property
    def shape(self) -> Tier:
        """The numbers in effect, with None filled in."""
        assert None not in (self.subjects, self.clips, self.frames, self.size, self.fps)
        return Tier(self.subjects, self.clips, self.frames, self.size, self.fps)  # type: ignore[arg-type]
