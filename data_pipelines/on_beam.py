"""The parts of a data set on Apache Beam, in place of this machine's processes.

Parts are what takes time: reading, detection, alignment, JPEG. Each is a file of its own in the unfinished
data set, so that the workers need nothing but the folders that they read and write, and the same command goes
on after a stop as it does without Beam. Shards and manifest are then made of them by the process that was
started, the same bytes as without Beam.

They could be written on Beam too, by TFDS; but TFDS 4.9.10 sorts the lengths of a shard-based builder's
shards as text there, so that from eleven shards on they belong to other shards.
"""

import shlex
from collections.abc import Callable, Sequence
from typing import Any


def run(work: Callable[[int], Any], numbers: Sequence[int], options: str) -> None:
    """Call ``work`` for each number on Beam.

    Args:
      work: picklable; what it returns is dropped. Beam may call it again, or twice at once.
      numbers: its arguments.
      options: of the pipeline, as Beam's own programs take them: "--runner=DirectRunner
        --direct_num_workers=4".

    Raises:
      ValueError: Beam is not installed, an unknown runner, or the work failed; what is done stays done.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            f"Apache Beam is not installed ({error}): run 'pip install jaxau[beam]', or leave --beam away"
        ) from error
    try:
        with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
            # Without a reshuffle, a runner may keep all numbers together on one worker.
            _ = pipeline | beam.Create(list(numbers)) | beam.Reshuffle() | "make parts" >> beam.Map(work)
    except RuntimeError as error:  # of a worker, with its traceback as text
        lines = [line for line in str(error).splitlines() if "Error: " in line]
        raise ValueError(f"Apache Beam: {lines[-1] if lines else error}") from error
