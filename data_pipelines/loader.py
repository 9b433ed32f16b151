"""Batches for training and evaluation: `make_data`, the only door between corpora and networks.

Training is a pure function of the global example index i: which record or clip it is, and how it is
augmented, follow from (config.seed, stage, i) alone. The position in the data is therefore one
number, and a run resumes at it whatever the number of threads or processes.
"""

import dataclasses
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import jax
import numpy as np

from data_pipelines import mixture, pictures, sampling, views
from data_pipelines.examples import AddCenters, Load, LoadCached, MakeBatch, PlanFor, load_batch
from data_pipelines.plans import DrawnPlans, ListedPlans, Plan, Video
from data_pipelines.protocols import EVERYONE, PROTOCOLS, Split, kept, left_out, ranges_of, split_subjects
from data_pipelines.records import Manifest, Records
from jaxau.config import Config

Batch = dict[str, np.ndarray]

_BATCHES_AHEAD = 4
_WITHOUT_END = 10**12  # examples; Grain's own endless repetition has no length in batches of one
# Separates these draws from all others that use the same seed.
_SHUFFLE_STREAM = 0x5FFE


class Data:
    """A corpus as one fold of a protocol sees it.

    Attributes:
      manifest: of the data set.
      split: names of the training, inner and test subjects.
      statistics: over the training subjects' frames that the frame rule keeps: ``n`` frames, and per
        AU ``n_occ`` (k,) occurrences and ``n_coded`` (k,) coded frames; 0 where nobody trains.
    """

    def __init__(self, config: Config, records: Records, threads: int, is_further: bool = False):
        self.manifest: Manifest = records.manifest
        self._config, self._records, self._threads = config, records, threads
        data = config.data
        self._on_device: dict[int, pictures.DevicePictures] = {}
        if data.loader == "device":
            pictures.check_device(config, self.manifest["alignment"])
        self._further = [
            (
                Data(_of_mixture(config, name), Records(records.data_dir, name), threads, is_further=True),
                weight,
            )
            for name, weight in data.mixture.items()
        ]
        everywhere = [records.manifest, *(further.manifest for further, _ in self._further)]
        _check_against_manifest(config, everywhere, is_further)
        self._points = mixture.common_scheme([manifest["landmarks"] for manifest in everywhere])
        self.split: Split = split_subjects(
            self.manifest,
            data.protocol,
            data.fold,
            data.inner_fraction if config.selection == "honest" else 0.0,
            config.seed,
            data.fold_seed,
        )
        if data.fraction < 1 and data.fraction_by == "subject":
            fewer = mixture.fewer_subjects(self.split.train, data.fraction, config.seed)
            self.split = dataclasses.replace(self.split, train=fewer)
        self._all_videos = self._list_videos()
        self.statistics = self._count()
        own = [name for name, stage in config.stages.items() if not stage.corpus]
        self._plans = {stage: self._plan(stage) for stage in own}
        self._others = {
            name: make_data(views.of_other_corpus(config, name), records.data_dir, threads)
            for name in config.stages
            if name not in own
        }

    def num_examples(self, stage: str) -> int:
        """Examples of an epoch: stills or clips, as the stage's view says."""
        if stage in self._others:
            return self._others[stage].num_examples(stage)
        if self._further:
            return round(len(self._plans[stage]) * (1 + sum(weight for _, weight in self._further)))
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
        if stage in self._others:
            return self._others[stage].train(stage, start)
        batch_size = self._config.stages[stage].batch_size
        assert start % batch_size == 0, (start, batch_size)
        return self._iterate(self._endless(stage, self._points), stage, batch_size, start)

    def _endless(self, stage: str, points: int) -> grain.MapDataset:
        """Plans of training examples, shuffled anew in each epoch; of a mixture those of all its corpora."""
        plan = self._plans[stage]
        seed = (_SHUFFLE_STREAM, self._config.seed, zlib.crc32(stage.encode()))
        # Grain's own shuffle takes 30 us an example, a tenth of its decoding.
        own = grain.MapDataset.range(_WITHOUT_END).map(PlanFor(plan, self._load(stage, points), seed))
        if not self._further:
            return own
        further = [data._endless(stage, points) for data, _ in self._further]
        return grain.MapDataset.mix([own, *further], [1.0, *(weight for _, weight in self._further)])

    def _load(self, stage: str, points: int) -> MakeBatch:
        if self._config.stages[stage].view == "features":
            return LoadCached(self._records, self._config, stage)
        return Load(self._records, self._config, stage, points)

    def evaluate(
        self, stage: str, part: str, batch_size: int, variant: int = 0, start: int = 0
    ) -> Iterator[Batch]:
        """All frames of a part of the subjects once, in order, as prediction would see them.

        Args:
          stage: name of a stage; its view and its ``augment.resize_to`` are used.
          part: "train", "inner" or "test".
          batch_size: global; the last batch is filled up, with ``mask`` False.
          variant: another view of the same frames, see ``transforms.fixed``.
          start: example to begin with, a multiple of ``batch_size``.

        Returns:
          Batches of this process, as `train`. A view of clips holds consecutive windows, the last
          of each gapless run filled up by its last frame with ``mask`` False; the view ``features`` holds
          whole runs.
        """
        if stage in self._others:
            return self._others[stage].evaluate(stage, part, batch_size, variant, start)
        assert start % batch_size == 0, (start, batch_size)
        plans = self._all(stage, part, self._length(stage, part))
        if start >= len(plans):
            return iter(())  # a protocol may test on another corpus alone
        last = dataclasses.replace(plans[-1], mask=np.zeros_like(plans[-1].mask))
        plans += [last] * (-len(plans) % batch_size)
        load = self._load(stage, self._points)
        chosen = [(load, dataclasses.replace(plan, variant=variant)) for plan in plans[start:]]
        return self._iterate(grain.MapDataset.source(chosen), stage, batch_size)

    def _iterate(
        self, chosen: grain.MapDataset, stage: str, batch_size: int, start: int = 0
    ) -> Iterator[Batch]:
        processes, process = jax.process_count(), jax.process_index()
        if batch_size % processes:
            raise ValueError(
                f"stage {stage!r}: a batch of {batch_size} cannot be shared by {processes} "
                "processes; choose a multiple"
            )
        own = chosen[start + process :: processes]
        batches = own.batch(batch_size // processes, batch_fn=load_batch)
        if self._config.stages[stage].view in ("frames", "clips", "tuples"):
            batches = batches.map(AddCenters(self._config.data.aus))
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=_BATCHES_AHEAD if self._threads else 0
        )
        found = iter(batches.to_iter_dataset(options))
        return self._with_pictures(stage, found) if self._config.data.loader == "device" else found

    def _with_pictures(self, stage: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        options, side = self._config.stages[stage].augment, self._config.data.image_size
        resize_to = options.resize_to or side
        if resize_to not in self._on_device:
            self._on_device[resize_to] = pictures.DevicePictures(self._records, resize_to)
        for batch in batches:
            yield self._on_device[resize_to](batch, side, bool(options.color_jitter))

    def _list_videos(self) -> list[Video]:
        data = self._config.data
        removed = left_out(data.corpus, data.frames)
        videos = []
        for video in self.manifest["videos"]:
            subject, frames = video["subject_name"], np.array(video["frames"])
            keep = kept(frames, ranges_of(removed, video))
            if data.fraction < 1 and data.fraction_by == "frame" and subject in self.split.train:
                keep &= mixture.fewer_frames(video, data.fraction, self._config.seed)
            records, key = video["start"] + np.arange(len(frames)), (video["subject"], video["video"])
            videos.append(
                Video(records[keep], frames[keep], records[~keep], subject, key, video["video_name"])
            )
        return videos

    def _videos(self, part: str) -> list[Video]:
        subjects = set(getattr(self.split, part))
        return [video for video in self._all_videos if video.subject in subjects and len(video.frames)]

    def _count(self) -> dict[str, Any]:
        """The manifest's counts of the training subjects, less the frames that the frame rule drops."""
        columns = mixture.columns(self._config.data.aus, self.manifest["aus"])
        chosen = [s for s in self.manifest["subjects"] if s["name"] in self.split.train]
        shape = (len(chosen), len(self.manifest["aus"]))  # a protocol may leave nobody to train on
        n_occ = mixture.take(
            np.array([s["occurs"] for s in chosen], np.int64).reshape(shape), columns, 0
        ).sum(0)
        n_coded = mixture.take(
            np.array([s["coded"] for s in chosen], np.int64).reshape(shape), columns, 0
        ).sum(0)
        dropped = [r for v in self._all_videos if v.subject in self.split.train for r in v.dropped]
        for record in dropped:
            intensity = mixture.take(self._records.raw(int(record))["au_intensity"], columns, np.nan)
            n_occ -= intensity >= self.manifest["label_rule"]["min_intensity"]
            n_coded -= np.isfinite(intensity)
        n = sum(subject["records"] for subject in chosen) - len(dropped)
        for further, _ in self._further:
            n += further.statistics["n"]
            n_occ, n_coded = n_occ + further.statistics["n_occ"], n_coded + further.statistics["n_coded"]
        return {"n": n, "n_occ": n_occ, "n_coded": n_coded}

    def _plan(self, stage: str) -> DrawnPlans | ListedPlans:
        view = self._config.stages[stage].view
        if self._config.data.sampling == "all" or view not in ("frames", "clips", "features"):
            if stage == "windows":  # AUNet's
                return ListedPlans(self._shared_windows())
            clips = view in ("clips", "features")
            length = self._config.data.clip_length if clips else 1
            mine = self._config.stages[stage].mine_triplets
            return ListedPlans(self._all(stage, "train", length, mine))
        stills = self._config.stages[stage].view == "frames"
        return DrawnPlans(self._videos("train"), self._config, stills)

    def _shared_windows(self) -> list[Plan]:
        """Windows of the training subjects in which a frame that has neighbours has them beside it."""
        length, distance = self._config.data.clip_length, self._config.data.neighbor_distance
        if length <= 2 * distance:
            raise ValueError(
                f"config.data.clip_length={length}: no frame has both neighbours at {distance} frames in "
                f"such a window; use more than {2 * distance}"
            )
        lacking, found = self.manifest["missing_landmarks"], []
        for video in self._videos("train"):
            known = ~np.isin(video.records, lacking)  # the others are cut out anywhere, as for no neighbour
            shared = sampling.shared_windows(video.frames[known], length, distance)
            found += [Plan(video.records[known][positions], mask) for positions, mask in shared]
        return found

    def _length(self, stage: str, part: str) -> int:
        """Frames of an example outside training; of cached features a whole run of frames goes at once."""
        view = self._config.stages[stage].view
        if view == "features":
            return max((sampling.longest_run(video.frames) for video in self._videos(part)), default=1)
        return self._config.data.clip_length if view == "clips" else 1

    def _all(self, stage: str, part: str, length: int, mine: bool = False) -> list[Plan]:
        """Every consecutive window, tuple or triplet of a part of the subjects; ``mine`` adds chains."""
        view, videos = self._config.stages[stage].view, self._videos(part)
        if view in ("triplets", "emotions"):
            # A share of the frames is one of the AU labels, which these do not need: even a video of which
            # it leaves nothing takes part.
            videos = [video for video in self._all_videos if video.subject in getattr(self.split, part)]
        if view == "triplets":
            return views.triplet_plans(self.manifest, videos, mine, part)
        if view == "emotions":
            return views.emotion_plans(self._records, videos)
        if view == "tuples":
            return views.tuples(self.manifest, videos, self._config.data.neighbor_distance, part)
        return [
            Plan(video.records[positions], mask)
            for video in videos
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
    if threads:
        cv2.setNumThreads(1)  # pictures are worked on side by side, each by one thread
    return Data(config, Records(data_dir, config.data.corpus), threads)


def _of_mixture(config: Config, name: str) -> Config:
    """The configuration of a further corpus of a mixture."""
    protocol = next((p for p, of in PROTOCOLS.items() if of.corpus == name), EVERYONE)
    data = dataclasses.replace(
        config.data, corpus=name, protocol=protocol, fold_seed=0, frames="all", mixture={}
    )
    stages = {stage: of for stage, of in config.stages.items() if not of.corpus}
    return dataclasses.replace(config, data=data, stages=stages)


def _check_against_manifest(config: Config, manifests: Sequence[Manifest], is_further: bool) -> None:
    data, manifest = config.data, manifests[0]
    if data.alignment != manifest["alignment"]:
        raise ValueError(
            f"config.data.alignment={data.alignment!r}: the data set {data.corpus!r} was aligned "
            f"as {manifest['alignment']!r}; use that, or prepare the corpus with "
            f"--alignment={data.alignment} in another folder"
        )
    uncoded = [au for au in data.aus if not any(au in of["aus"] for of in manifests)]
    if uncoded and not is_further:
        raise ValueError(
            f"config.data.aus: the corpus {' + '.join([data.corpus, *data.mixture])!r} does not code AU "
            f"{uncoded}, only {sorted({au for of in manifests for au in of['aus']})}; choose from these"
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
