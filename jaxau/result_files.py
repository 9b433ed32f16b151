"""The files of results of one input, written as rows come.

For an input ``NAME`` there are ``NAME.csv``, ``NAME.parquet`` and ``NAME.json`` (what was done with
what). While they are written they are called ``NAME.partial.*``; they keep that name if the input
could not be read to its end, so a file without ``partial`` is whole. Meanwhile ``NAME.lock`` keeps
other processes away.
"""

import csv
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxau import overlay
from jaxau.faces.video import VideoWriter, write_image
from jaxau.files import write_json
from jaxau.predict import Predictor
from jaxau.result_table import FrameFaces, openface_columns, openface_row, rows, schema
from jaxau.sources import Source

_ROWS_PER_GROUP = 512  # of a Parquet file; what waits in memory


class ResultFiles:
    """The results of one input, written as they come.

    Args:
      out: folder of the job.
      source: the input.
      predictor: gives the AUs and thresholds.
      points: number of landmarks to write; 0 leaves them out.
      openface: the CSV file has the columns of OpenFace 2 (the Parquet file always has ours).
      with_overlay: also write a video or picture to look at.

    Attributes:
      hold: is closed at the end; what keeps other processes away.
    """

    def __init__(
        self,
        out: Path,
        source: Source,
        predictor: Predictor,
        points: int = 0,
        openface: bool = False,
        with_overlay: bool = False,
    ) -> None:
        self._out, self._source, self._predictor = out, source, predictor
        self.hold = ExitStack()
        self._schema = schema(predictor.aus, points, predictor.pose)
        self._openface = openface
        self._columns = (
            openface_columns(predictor.aus, points, predictor.pose) if openface else self._schema.names
        )
        self._buffer: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.frames = 0
        self.path(".csv").parent.mkdir(parents=True, exist_ok=True)
        self._csv = self.path(".partial.csv").open("w", newline="", encoding="utf-8")
        self._table = csv.DictWriter(self._csv, self._columns, extrasaction="ignore")
        self._table.writeheader()
        self._parquet = pq.ParquetWriter(self.path(".partial.parquet"), self._schema)
        self._with_overlay = with_overlay
        self._video: VideoWriter | None = None

    def path(self, ending: str) -> Path:
        """Path of one of the results."""
        return self._out / f"{self._source.name}{ending}"

    def write(self, frame: FrameFaces) -> None:
        """Write the rows of a predicted frame."""
        predictor = self._predictor
        new = rows(frame, self._source.name, predictor.aus, predictor.thresholds)
        self._table.writerows(map(openface_row, new) if self._openface else new)
        self._buffer += new
        if len(self._buffer) >= _ROWS_PER_GROUP:
            self._write_group()
        self.frames += 1
        self.counts.update(row["reason"] or "success" for row in new)
        if self._with_overlay:
            image = overlay.draw(frame, predictor.aus, predictor.thresholds)
            if self._source.is_picture:
                write_image(self.path(overlay_ending(self._source)), image)
                return
            if self._video is None:
                self._video = VideoWriter(self.path(overlay_ending(self._source)))
            self._video.write(image, frame.timestamp)

    def _write_group(self) -> None:
        self._parquet.write_batch(pa.RecordBatch.from_pylist(self._buffer, self._schema))
        self._buffer = []

    def finish(self, sidecar: dict[str, Any], error: str) -> None:
        """Close the files; give them their names if the input was read to its end.

        Else results of an earlier run stay as they are: they are whole, and their own sidecar says of
        which state of the input.
        """
        self._write_group()
        self._close(whole=not error)
        sidecar = {
            **sidecar,
            "complete": not error,
            "error": error or None,
            "frames": self.frames,
            "rows": sum(self.counts.values()),
            "counts": dict(self.counts),
            "columns": self._columns,
        }
        if error:
            write_json(self.path(".partial.json"), sidecar)
            self.release()
            return
        # The old description goes first: it must never stand beside results of another run.
        self.path(".json").unlink(missing_ok=True)
        for ending in (".csv", ".parquet"):
            self.path(f".partial{ending}").replace(self.path(ending))
        self.path(".partial.json").unlink(missing_ok=True)
        write_json(self.path(".json"), sidecar)
        self.release()

    def release(self) -> None:
        """Let other processes write these results."""
        self.hold.close()

    def abandon(self) -> None:
        """Close the files after an error in writing them, and take them away."""
        try:
            self._close(whole=False)
        except OSError:
            pass  # the same error again
        for ending in (".csv", ".parquet"):
            self.path(f".partial{ending}").unlink(missing_ok=True)
        self.release()

    def _close(self, whole: bool) -> None:
        video, self._video = self._video, None
        try:
            self._csv.close()
            self._parquet.close()
        finally:
            if video is not None:
                video.close(whole)


def overlay_ending(source: Source) -> str:
    """How the file to look at is called after the input's name."""
    return ".overlay.jpg" if source.is_picture else ".overlay.mp4"
