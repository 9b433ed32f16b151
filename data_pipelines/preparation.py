"""From a corpus to a prepared data set: in parallel, resumable, and all at once or not at all.

Everything is made in ``<data_dir>/<corpus>.unfinished``: first one file per part of the corpus, a subject or
a video of his, then the
shards and the manifest, and the finished folder is moved to ``<data_dir>/<corpus>`` in one step. A
part file exists only if it is whole, so that after a kill at any moment the same command goes on
with the parts that are missing.
"""

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tqdm import tqdm

from data_pipelines import on_beam, records
from data_pipelines.parts import Laps, Part, part_length, read_part, read_remarks, write_part, write_whole
from jaxau import files
from jaxau.faces.landmarks import au_centers

# One process per core renders; more threads inside each would only fight for the cores.
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


Result = TypeVar("Result")


@dataclass(frozen=True)
class Corpus:
    """What `prepare` needs to know of a corpus.

    Attributes:
      name: of the corpus and its folder.
      request: all arguments that decide what the records hold; JSON values.
      subjects: their names, by subject number.
      make: (request, number of the part) -> `Part`; picklable, for other processes. Parts are in order of
        subject, video and frame.
      manifest: the fields of the manifest that the records do not tell.
      parts: how many there are; 0 = one for each subject.
      listed: number of the part -> its frames and labels (`data_pipelines.listing.Listed`) before any
        picture is read; None where the corpus is drawn.
    """

    name: str
    request: Mapping[str, Any]
    subjects: list[str]
    make: Callable[[Mapping[str, Any], int], Part]
    manifest: Mapping[str, Any]
    parts: int = 0
    listed: Callable[[int], Any] | None = None


# TFDS holds the records of a shard in memory until it is written.
_RECORDS_PER_SHARD = 2048


class AlignedFaces(tfds.core.ShardBasedBuilder):
    """The parts of any corpus on ArrayRecord, in order of subject, video and frame.

    Shard by shard, because TFDS's other way (``GeneratorBasedBuilder``) collects a whole split in memory, up
    to 1 GB, and where it then sorts it by keys in order of the frames, all of it.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, corpus: Corpus, data_dir: Path, parts: Sequence[Path]):
        self.name = corpus.name  # of the folder; TFDS would take one name for the class
        self._corpus, self._parts = corpus, parts
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        about = self._corpus.manifest
        return tfds.core.DatasetInfo(
            builder=self,
            features=records.features(
                about["alignment"], about["landmarks"], len(about["aus"]), "emotions" in about
            ),
            disable_shuffling=True,  # a video's frames stay contiguous
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Any]:
        """Whole parts to a shard, as many as fit."""
        shards: list[list[int]] = [[]]
        size = 0
        for number, path in enumerate(self._parts):
            length = part_length(path)
            if size and size + length > _RECORDS_PER_SHARD:
                shards.append([])
                size = 0
            shards[-1].append(number)
            size += length
        return {records.SPLIT: [partial(self._examples, shard) for shard in shards]}

    def _examples(self, shard: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in shard:
            part = read_part(self._parts[number])
            for i, image in enumerate(part.images):
                record = {
                    "image": image,
                    "landmarks": part.landmarks[i],
                    "au_intensity": part.intensity[i],
                    "subject": number if part.subject is None else part.subject[i],
                    "video": part.video[i],
                    "frame": part.frame[i],
                }
                if part.emotion is not None:
                    record["emotion"] = part.emotion[i]
                yield f"{number}/{i}", record


def prepare(
    corpus: Corpus,
    data_dir: Path | str,
    workers: int = 0,
    beam: str | None = None,
    seconds: Counter[str] | None = None,
) -> bool:
    """Make the data set, or go on making it, unless it is there.

    Args:
      corpus: what to prepare.
      data_dir: folder of all data sets.
      workers: processes; 0 = all cores, 1 = this process alone.
      beam: options of an Apache Beam pipeline that makes the parts in place of ``workers``; see
        `data_pipelines.on_beam`.
      seconds: what each stage took is added to it; stages of parts summed over all processes, and unknown
        (absent) on Beam.

    Returns:
      Whether there was anything to do.

    Raises:
      ValueError: another data set is in the way, or another process works on it; there are no landmarks;
        nothing is changed. No frame can be used.
    """
    if not corpus.manifest["landmarks"]:
        raise ValueError(
            f"{corpus.name}: its folder holds no landmarks; give --detector=yunet --detector_weights=FILE, "
            "or --landmarks=TABLE.csv"
        )
    data_dir = Path(data_dir)
    final, unfinished = data_dir / corpus.name, data_dir / f"{corpus.name}.unfinished"
    if (final / records.MANIFEST).is_file():
        made_with = records.read_manifest(data_dir, corpus.name)["request"]
        _check_request(corpus.request, made_with, final, "holds a data set made with")
        shutil.rmtree(unfinished, ignore_errors=True)
        return False
    if final.exists():
        raise ValueError(
            f"{final}: exists, but is no finished data set (no {records.MANIFEST}); move it away "
            "or choose another --data_dir"
        )
    with files.exclusive(unfinished):
        request_file = unfinished / "request.json"
        if request_file.is_file():
            started_with = files.read_json(request_file)
            _check_request(corpus.request, started_with, unfinished, "was begun with")
        parts_folder = unfinished / "parts"
        parts_folder.mkdir(parents=True, exist_ok=True)
        files.write_json(request_file, dict(corpus.request))
        seconds = Counter() if seconds is None else seconds
        _make_parts(corpus, parts_folder, workers or os.cpu_count() or 1, beam, seconds)
        laps = Laps()
        assembled = _assemble(corpus, unfinished / "assembly", parts_folder)
        laps.lap("shards and manifest")
        seconds.update(laps.seconds)
        assembled.rename(final)
        shutil.rmtree(unfinished)
    return True


def _check_request(asked: Mapping[str, Any], found: Mapping[str, Any], folder: Path, what: str) -> None:
    different = [key for key in {**found, **asked} if asked.get(key) != found.get(key)]
    if different:
        old = ", ".join(f"{key}={found.get(key)}" for key in different)
        new = ", ".join(f"{key}={asked.get(key)}" for key in different)
        raise ValueError(
            f"{folder} {what} {old}, now asked is {new}: a folder holds one data set; choose "
            f"another --data_dir, the old arguments, or delete {folder}"
        )


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def _read_about(
    corpus: Corpus, parts: Sequence[Path]
) -> tuple[list[dict[str, Any]], dict[tuple[int, int], str]]:
    """Of all parts the remarks, as the manifest holds them, and the names of videos."""
    remarks: list[dict[str, Any]] = []
    names: dict[tuple[int, int], str] = {}
    for number, path in enumerate(parts):
        with np.load(path) as arrays:
            subjects = np.unique(arrays["subject"]).tolist() if "subject" in arrays else [number]
            named = "" if "subject" in arrays else corpus.subjects[number]
            remarks.extend(remark.to_manifest(named) for remark in read_remarks(arrays))
            videos = json.loads(arrays["names"].item())
        names.update({(subject, video): name for subject in subjects for video, name in videos})
    return remarks, names


def _write_part(
    make: Callable[[Mapping[str, Any], int], Part], request: Mapping[str, Any], folder: Path, number: int
) -> Counter[str]:
    """Seconds by stage."""
    part, laps = make(request, number), Laps()
    write_part(_part_path(folder, number), part)
    laps.lap("writing parts")
    return Counter(part.seconds) + laps.seconds


def _make_parts(corpus: Corpus, folder: Path, workers: int, beam: str | None, seconds: Counter[str]) -> None:
    parts = corpus.parts or len(corpus.subjects)
    missing = [i for i in range(parts) if not _part_path(folder, i).is_file()]
    work = partial(_write_part, corpus.make, corpus.request, folder)
    if beam is not None:
        on_beam.run(work, missing, beam)
        return
    title = f"{corpus.name}: {'parts' if corpus.parts else 'subjects'}"
    for _, spent in in_parallel(work, missing, workers, title, parts - len(missing)):
        seconds.update(spent)


def in_parallel(
    work: Callable[[int], Result], numbers: Sequence[int], workers: int, title: str, done: int = 0
) -> Iterator[tuple[int, Result]]:
    """Call ``work`` for each number, in other processes and with a progress bar.

    Args:
      work: picklable.
      numbers: its arguments.
      workers: processes; 1 = this process alone.
      title: of the bar.
      done: how many were done before.

    Yields:
      Each number with its result, in the order in which they are finished.
    """
    bar = tqdm(desc=title, total=done + len(numbers), initial=done, file=sys.stderr)
    with bar:
        if workers == 1:
            for number in numbers:
                yield number, work(number)
                bar.update()
            return
        with _single_threaded_children(), _pool(min(workers, max(len(numbers), 1))) as pool:
            pending = {pool.submit(work, number): number for number in numbers}
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    if error := future.exception():
                        pool.shutdown(wait=False, cancel_futures=True)
                        raise error
                    yield pending.pop(future), future.result()
                    bar.update()


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: the parent has threads (progress bar, BLAS) that a fork would break.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent does not close the pool's queue: without this its workers would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Numerical libraries read these variables when a new process loads them."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _in_one_order() -> Iterator[None]:
    """A record's features are a map, whose order in the file would differ from process to process."""
    before = ExampleSerializer.serialize_example

    def serialize_example(self: ExampleSerializer, example: Mapping[str, Any]) -> Any:
        return self.get_tf_example(example).SerializeToString(deterministic=True)

    ExampleSerializer.serialize_example = serialize_example
    try:
        yield
    finally:
        ExampleSerializer.serialize_example = before


def _assemble(corpus: Corpus, folder: Path, parts_folder: Path) -> Path:
    """Shards and manifest from all parts; returns the finished data set's folder."""
    shutil.rmtree(folder, ignore_errors=True)
    parts = [_part_path(parts_folder, number) for number in range(corpus.parts or len(corpus.subjects))]
    remarks, names = _read_about(corpus, parts)
    if not any(part_length(path) for path in parts):
        shutil.rmtree(parts_folder)  # or the mended folder would not be read
        reasons = "; ".join(dict.fromkeys(remark["reason"] for remark in remarks))
        raise ValueError(
            f"{corpus.name}: no frame can be used ({reasons[:1000] or 'there are none'}); mend the folder, "
            "--check lists everything"
        )
    tfds.disable_progress_bar()
    with _in_one_order(), contextlib.redirect_stdout(io.StringIO()):  # it announces the temporary folder
        builder = AlignedFaces(corpus, folder, parts)
        builder.download_and_prepare()
    source = builder.as_data_source(split=records.SPLIT, decoders={"image": tfds.decode.SkipDecoding()})
    facts = records.summarize(source, corpus.manifest, corpus.subjects, names)
    aus, points = corpus.manifest["aus"], corpus.manifest["landmarks"]
    _, placed = au_centers(np.zeros((points, 2)), aus)
    manifest = {
        "corpus": corpus.name,
        **corpus.manifest,
        **facts,
        "without_centers": [au for au, has in zip(aus, placed, strict=True) if not has],
        "excluded": [remark for remark in remarks if remark["what"] != "landmarks"],
        "substituted": [remark for remark in remarks if remark["what"] == "landmarks"],
        "request": dict(corpus.request),
    }
    data_set = folder / corpus.name
    write_whole(data_set / records.MANIFEST, json.dumps(manifest).encode())
    return data_set
