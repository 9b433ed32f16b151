"""What an example consists of, before anything is read: which records, in which order."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from data_pipelines import sampling
from jaxau.config import Config


@dataclass(frozen=True)
class Plan:
    """One example before anything is read.

    Attributes:
      records: (t,) record indices; t = 1 for a still.
      mask: (t,) bool, False where a record only fills the example up.
      index: global example index, from which the augmentation is drawn; -1 = not augmented, but
      variant: of a fixed set, see ``transforms.fixed``.
      triplet_class: 1, 2 or 3, of the view ``triplets``;
      derived: whether the triplet follows from others.
    """

    records: np.ndarray
    mask: np.ndarray
    index: int = -1
    variant: int = 0
    triplet_class: int = 0
    derived: bool = False


@dataclass(frozen=True)
class Video:
    """The frames of a video that the frame rule keeps, and who it is.

    Attributes:
      records: (n,) record indices.
      frames: (n,) frame numbers.
      dropped: record indices of the other frames.
    """

    records: np.ndarray
    frames: np.ndarray
    dropped: np.ndarray
    subject: str
    key: tuple[int, int]
    name: str


class DrawnPlans:
    """LAC's temporal sampling: (global example index, item of the epoch) -> plan.

    A view of clips has one item for each subsequence of each video; the stills are the frames of
    the same clips.
    """

    def __init__(self, videos: list[Video], config: Config, stills: bool):
        self._clip_length, self._seed = config.data.clip_length, config.seed
        self._stills = stills
        self._clips: list[tuple[Video, int, np.ndarray]] = []
        self._starts = functools.lru_cache(maxsize=4)(self._draw_starts)  # a batch may span two epochs
        for video in videos:
            starts = sampling.clip_starts(
                video.frames, self._clip_length, config.data.subsequences, video.name
            )
            self._clips += [(video, j, possible) for j, possible in enumerate(starts)]

    def __len__(self) -> int:
        return len(self._clips) * (self._clip_length if self._stills else 1)

    def _draw_starts(self, epoch: int) -> list[int]:
        return [
            sampling.draw_start(possible, j, seed=self._seed, epoch=epoch, video=video.key)
            for video, j, possible in self._clips
        ]

    def __call__(self, index: int, item: int) -> Plan:
        """The plan of one item in the epoch to which the global example index belongs."""
        clip, k = divmod(item, self._clip_length) if self._stills else (item, 0)
        start = self._starts(index // len(self))[clip]
        records = self._clips[clip][0].records[start : start + self._clip_length]
        records = records[k : k + 1] if self._stills else records
        return Plan(records, np.ones(len(records), bool), index)


class ListedPlans:
    """Global example index and item of the epoch -> plan, where every epoch holds the same."""

    def __init__(self, examples: list[Plan]):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __call__(self, index: int, item: int) -> Plan:
        """The plan of one item, augmented by the global example index."""
        return dataclasses.replace(self._examples[item], index=index)
