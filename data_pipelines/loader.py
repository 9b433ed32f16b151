"""Batches for training and evaluation: `make_data`, the only door between corpora and networks.

Training is a pure function of the global example index i: which record or clip it is, and how it is
augmented, follow from (config.seed, stage, i) alone. The position in the data is therefore one
number, and a run resumes at it whatever the number of threads or processes.
"""

import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from data_pipelines import sampling, transforms
from data_pipelines.protocols import Split, kept, left_out, split_subjects
from data_pipelines.records import Manifest, Records
from jaxau import facs
from jaxau.config import Augment, Config
from jaxau.faces.landmarks import au_centers

Batch = dict[str, np.ndarray]

# Separates these draws from all others that use the same seed.
_AUGMENT_STREAM = 0xA063
_BATCHES_AHEAD = 4


@dataclass(frozen=True)
class Plan:
    """One example before anything is read.

    Attributes:
      records: (t,) record indices; t = 1 for a still.
      mask: (t,) bool, False where a record only fills the example up.
      index: global example index, from which the augmentation is drawn; -1 = not augmented, but
      variant: of a fixed set, see ``transforms.evaluation_input``.
    """

    records: np.ndarray
    mask: np.ndarray
    index: int = -1
    variant: int = 0


@dataclass(frozen=True)
class _Video:
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


class _DrawnPlans:
    """LAC's temporal sampling: (global example index, item of the epoch) -> plan.

    A view of clips has one item for each subsequence of each video; the stills are the frames of
    the same clips.
    """

    def __init__(self, videos: list[_Video], config: Config, stills: bool):
        self._clip_length, self._seed = config.data.clip_length, config.seed
        self._stills = stills
        self._clips: list[tuple[_Video, int, np.ndarray]] = []
        for video in videos:
            starts = sampling.clip_starts(
                video.frames, self._clip_length, config.data.subsequences, video.name
            )
            self._clips += [(video, j, possible) for j, possible in enumerate(starts)]

    def __len__(self) -> int:
        return len(self._clips) * (self._clip_length if self._stills else 1)

    def __call__(self, index: int, item: int) -> Plan:
        clip, k = divmod(item, self._clip_length) if self._stills else (item, 0)
        video, j, possible = self._clips[clip]
        epoch = index // len(self)
        start = sampling.draw_start(possible, j, seed=self._seed, epoch=epoch, video=video.key)
        records = video.records[start : start + self._clip_length]
        records = records[k : k + 1] if self._stills else records
        return Plan(records, np.ones(len(records), bool), index)


class _ListedPlans:
    """Global example index and item of the epoch -> plan, where every epoch holds the same."""

    def __init__(self, examples: list[tuple[np.ndarray, np.ndarray]]):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __call__(self, index: int, item: int) -> Plan:
        return Plan(*self._examples[item], index)


class _Labels:
    """Plan, and labels and numbers of its records -> the fields that all views have."""

    def __init__(self, records: Records, config: Config):
        data, manifest = config.data, records.manifest
        self._columns = np.array([manifest["aus"].index(au) for au in data.aus])
        self._min_intensity = float(manifest["label_rule"]["min_intensity"])
        self._corpus = list(facs.CORPUS_AUS).index(data.corpus)

    def __call__(self, plan: Plan, intensity: list[np.ndarray], numbers: list[tuple[int, int, int]]) -> Batch:
        coded_as = np.stack(intensity)[:, self._columns]
        coded = np.isfinite(coded_as)
        subject, video, frame = np.array(numbers, np.int32).T
        return {
            "au": (np.where(coded, coded_as, -1.0) >= self._min_intensity).astype(np.int32),
            "au_mask": coded,
            "intensity": np.where(coded, coded_as, 0).astype(np.float32),
            "subject": subject,
            "video": video,
            "frame": frame,
            "corpus": np.full(len(numbers), self._corpus, np.int32),
            "mask": plan.mask,
            "record": plan.records.astype(np.int32),
        }


class _LoadCached:
    """Plan -> example of the view ``features``, to which ``jaxau.feature_cache`` adds the features."""

    def __init__(self, records: Records, config: Config, stage: str):
        self._records, self._labels = records, _Labels(records, config)
        self._variants = config.stages[config.stages[stage].start_from].cache
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]

    def __call__(self, plan: Plan) -> Batch:
        rows = [self._records.raw(int(record)) for record in plan.records]
        numbers = [(int(row["subject"]), int(row["video"]), int(row["frame"])) for row in rows]
        variant = plan.variant
        if plan.index >= 0:  # one draw for the whole sequence
            variant = int(np.random.default_rng([*self._seed, plan.index]).integers(0, self._variants))
        labels = self._labels(plan, [row["au_intensity"] for row in rows], numbers)
        return {**labels, "variant": np.array(variant, np.int32)}


class _Load:
    """Plan -> example: read, decode, augment, and attach labels."""

    def __init__(self, records: Records, config: Config, stage: str):
        self._records, self._labels = records, _Labels(records, config)
        self._image_size = config.data.image_size
        self._options: Augment = config.stages[stage].augment
        self._seed = [_AUGMENT_STREAM, config.seed, zlib.crc32(stage.encode())]
        self._clip = config.stages[stage].view == "clips"

    def __call__(self, plan: Plan) -> Batch:
        frames = [self._records.frame(int(record)) for record in plan.records]
        images = np.stack([frame.image for frame in frames])
        landmarks = np.stack([frame.landmarks for frame in frames])
        if plan.index < 0:
            images, landmarks = transforms.evaluation_input(
                images, landmarks, self._options, self._image_size, plan.variant
            )
        else:
            rng = np.random.default_rng([*self._seed, plan.index])
            images, landmarks = transforms.augment(images, landmarks, self._options, self._image_size, rng)
        numbers = [(frame.subject, frame.video, frame.frame) for frame in frames]
        labels = self._labels(plan, [frame.intensity for frame in frames], numbers)
        example = {"image": images, "landmarks": landmarks, **labels}
        return example if self._clip else {key: value[0] for key, value in example.items()}


class _AddCenters:
    """Batch -> batch with AU centres; for all examples at once, since that is much quicker."""

    def __init__(self, aus: tuple[int, ...]):
        self._aus = aus

    def __call__(self, batch: Batch) -> Batch:
        landmarks, lead = batch["landmarks"], batch["mask"].shape
        centers = np.zeros((*lead, len(self._aus), 2, 2), np.float32)
        mask = np.zeros((*lead, len(self._aus)), bool)
        present = np.isfinite(landmarks).all((-2, -1))
        centers[present], mask[present] = au_centers(landmarks[present], self._aus)
        return {**batch, "au_centers": centers, "au_centers_mask": mask}


class Data:
    """A corpus as one fold of a protocol sees it.

    Attributes:
      manifest: of the data set.
      split: names of the training, inner and test subjects.
      statistics: over the training subjects' frames that the frame rule keeps: ``n`` frames, and per
        AU ``n_occ`` (k,) occurrences and ``n_coded`` (k,) coded frames; 0 where nobody trains.
    """

    def __init__(self, config: Config, records: Records, threads: int):
        self.manifest: Manifest = records.manifest
        self._config, self._records, self._threads = config, records, threads
        data = config.data
        _check_against_manifest(config, self.manifest)
        self.split: Split = split_subjects(
            self.manifest,
            data.protocol,
            data.fold,
            data.inner_fraction if config.selection == "honest" else 0.0,
            config.seed,
            data.fold_seed,
        )
        self._all_videos = self._list_videos()
        self.statistics = self._count()
        self._plans = {stage: self._plan(stage) for stage in config.stages}

    def num_examples(self, stage: str) -> int:
        """Examples of an epoch: stills or clips, as the stage's view says."""
        return len(self._plans[stage])

    def train(self, stage: str, start: int = 0) -> Iterator[Batch]:
        """Training batches of a stage, without end.

        An epoch is `num_examples` examples, shuffled anew; a batch may span two epochs. With
        several processes each gets every n-th example of the same global batch.

        Args:
          stage: name of a stage of the configuration.
          start: global example index to go on from, a multiple of the stage's batch size.

        Returns:
          Batches of this process, ``batch_size / jax.process_count()`` examples each: see the
          views of the architecture. A field with a mask (``au``, ``intensity``, ``au_centers``) is
          0 where that is False; ``landmarks``, which has none, is NaN where a face has none.

        Raises:
          ValueError: an unreadable record, while iterating; a batch size that the processes cannot
            share.
        """
        batch_size = self._config.stages[stage].batch_size
        assert start % batch_size == 0, (start, batch_size)
        plan = self._plans[stage]
        examples = (
            grain.MapDataset.range(len(plan))
            .seed(_stage_seed(self._config.seed, stage))
            .shuffle()
            .repeat()
            .map_with_index(plan)
        )
        return self._iterate(examples[start:], stage, batch_size)

    def evaluate(
        self, stage: str, part: str, batch_size: int, variant: int = 0, start: int = 0
    ) -> Iterator[Batch]:
        """All frames of a part of the subjects once, in order, as prediction would see them.

        Args:
          stage: name of a stage; its view and its ``augment.resize_to`` are used.
          part: "train", "inner" or "test".
          batch_size: global; the last batch is filled up, with ``mask`` False.
          variant: another view of the same frames, see ``transforms.evaluation_input``.
          start: example to begin with, a multiple of ``batch_size``.

        Returns:
          Batches of this process, as `train`. A view of clips holds consecutive windows, the last
          of each gapless run filled up by its last frame with ``mask`` False; the view ``features`` holds
          whole runs.
        """
        assert start % batch_size == 0, (start, batch_size)
        examples = self._all(part, self._length(stage, part))
        records, mask = examples[-1]
        filling = [(records, np.zeros_like(mask))] * (-len(examples) % batch_size)
        plans = [Plan(*example, variant=variant) for example in (examples + filling)[start:]]
        if not plans:
            return iter(())
        return self._iterate(grain.MapDataset.source(plans), stage, batch_size)

    def _iterate(self, plans: grain.MapDataset, stage: str, batch_size: int) -> Iterator[Batch]:
        processes, process = jax.process_count(), jax.process_index()
        if batch_size % processes:
            raise ValueError(
                f"stage {stage!r}: a batch of {batch_size} cannot be shared by {processes} "
                "processes; choose a multiple"
            )
        examples, size = plans[process::processes], batch_size // processes
        if self._config.stages[stage].view == "features":
            batches = examples.map(_LoadCached(self._records, self._config, stage)).batch(size)
        else:
            load = _Load(self._records, self._config, stage)
            batches = examples.map(load).batch(size).map(_AddCenters(self._config.data.aus))
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=_BATCHES_AHEAD if self._threads else 0
        )
        return iter(batches.to_iter_dataset(options))

    def _list_videos(self) -> list[_Video]:
        removed = left_out(self._config.data.corpus, self._config.data.frames)
        videos = []
        for video in self.manifest["videos"]:
            subject, frames = video["subject_name"], np.array(video["frames"])
            keep = kept(frames, removed.get(subject, ()))
            records, key = video["start"] + np.arange(len(frames)), (video["subject"], video["video"])
            videos.append(
                _Video(records[keep], frames[keep], records[~keep], subject, key, video["video_name"])
            )
        return videos

    def _videos(self, part: str) -> list[_Video]:
        subjects = set(getattr(self.split, part))
        return [video for video in self._all_videos if video.subject in subjects and len(video.frames)]

    def _count(self) -> dict[str, Any]:
        """The manifest's counts of the training subjects, less the frames that the frame rule drops."""
        columns = [self.manifest["aus"].index(au) for au in self._config.data.aus]
        chosen = [s for s in self.manifest["subjects"] if s["name"] in self.split.train]
        shape = (len(chosen), len(self.manifest["aus"]))  # a protocol may leave nobody to train on
        n_occ = np.array([s["occurs"] for s in chosen], np.int64).reshape(shape)[:, columns].sum(0)
        n_coded = np.array([s["coded"] for s in chosen], np.int64).reshape(shape)[:, columns].sum(0)
        dropped = [r for v in self._all_videos if v.subject in self.split.train for r in v.dropped]
        for record in dropped:
            intensity = self._records.raw(int(record))["au_intensity"][columns]
            n_occ -= intensity >= self.manifest["label_rule"]["min_intensity"]
            n_coded -= np.isfinite(intensity)
        n = sum(subject["records"] for subject in chosen) - len(dropped)
        return {"n": n, "n_occ": n_occ, "n_coded": n_coded}

    def _plan(self, stage: str) -> _DrawnPlans | _ListedPlans:
        if self._config.data.sampling == "all":
            clips = self._config.stages[stage].view != "frames"
            return _ListedPlans(self._all("train", self._config.data.clip_length if clips else 1))
        stills = self._config.stages[stage].view == "frames"
        return _DrawnPlans(self._videos("train"), self._config, stills)

    def _length(self, stage: str, part: str) -> int:
        """Frames of an example outside training; of cached features a whole run of frames goes at once."""
        view = self._config.stages[stage].view
        if view == "features":
            return max((sampling.longest_run(video.frames) for video in self._videos(part)), default=1)
        return self._config.data.clip_length if view == "clips" else 1

    def _all(self, part: str, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Records and mask of every consecutive window of a part of the subjects."""
        return [
            (video.records[positions], mask)
            for video in self._videos(part)
            for positions, mask in sampling.windows(video.frames, length)
        ]


def make_data(config: Config, data_dir: Path | str, threads: int = 2) -> Data:
    """Open the data set that a configuration names.

    Args:
      config: checked.
      data_dir: folder of all data sets.
      threads: that read, decode and augment; 0 = none, in the caller's.

    Raises:
      ValueError: no such data set, or one that does not fit: another alignment, AUs that it does
        not code, a frame rule that it does not have, subjects that the protocol does not list, videos
        shorter than a clip.
    """
    return Data(config, Records(data_dir, config.data.corpus), threads)


def _stage_seed(seed: int, stage: str) -> int:
    """A 32-bit seed for Grain's shuffle."""
    words = np.random.SeedSequence([seed, zlib.crc32(stage.encode())]).generate_state(1)
    return int(words[0])


def _check_against_manifest(config: Config, manifest: Manifest) -> None:
    data = config.data
    if data.alignment != manifest["alignment"]:
        raise ValueError(
            f"config.data.alignment={data.alignment!r}: the data set {data.corpus!r} was aligned "
            f"as {manifest['alignment']!r}; use that, or prepare the corpus with "
            f"--alignment={data.alignment} in another folder"
        )
    uncoded = [au for au in data.aus if au not in manifest["aus"]]
    if uncoded:
        raise ValueError(
            f"config.data.aus: the corpus {data.corpus!r} does not code AU {uncoded}, only "
            f"{manifest['aus']}; choose from these"
        )
    lacking = manifest["missing_landmarks"]
    if lacking:
        logging.warning(
            "%d of %d records of %s have no landmarks (first: %s); their AU centres are masked",
            len(lacking), manifest["counts"]["records"], data.corpus, _name(manifest, lacking[0]),
        )  # fmt: skip


def _name(manifest: Manifest, record: int) -> str:
    video = max((v for v in manifest["videos"] if v["start"] <= record), key=lambda v: v["start"])
    return f"record {record}, {video['video_name']} frame {video['frames'][record - video['start']]}"
