"""Reading pictures and videos, writing videos.

All pictures in memory are (h, w, 3) uint8 RGB. What cannot be read is a `ValueError` with the file,
the rule and the remedy, so that a job over many files can say it and go on.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEOS = frozenset(
    (
        ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .asf .3gp .3g2 .mts .m2ts .ts .mxf .flv .ogv .vob .dv"
    ).split(" ")
)

MAX_PIXELS = 80_000_000
"""Larger pictures are refused (a small file can unfold into gigabytes): 80 million pixels, 240 MB."""

# Where a picture is transparent its colours are arbitrary: grey, as outside of aligned crops.
_BEHIND_TRANSPARENCY = (128, 128, 128)

# A video that ends earlier than its header says by more than this is incomplete.
_MISSING_SECONDS = 0.5

_CLOCK = 90_000  # ticks a second of written videos

_BY_INDEX = (
    "timestamps are index / average frame rate, because the container has none in the order of presentation"
)
_OUT_OF_ORDER = "timestamps that did not come after the one before are left empty"


@dataclass(frozen=True)
class Frame:
    """One decoded frame of a video, or a picture.

    Attributes:
      index: counts decoded frames from 0.
      timestamp: presentation time stamp in seconds, increasing; None where the file has none in order.
        0 for a picture.
      image: (h, w, 3) uint8 RGB.
      note: what must be said about the video and is seen at this frame; mostly empty.
    """

    index: int
    timestamp: float | None
    image: np.ndarray
    note: str = ""


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "PyAV is not installed: videos are read and written with it; run 'pip install jaxau[video]'"
        ) from error
    # Errors are raised; FFmpeg's own lines on standard error would only tear progress bars.
    av.logging.set_level(av.logging.PANIC)
    return av


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path}: {width} x {height} pixels, the limit is {MAX_PIXELS:,} pixels in all; make "
            "a smaller copy"
        )


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise ValueError(f"{path}: not a file; give a picture, a video, or a folder of them")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); copy or download it again")


def read_image(path: Path | str) -> np.ndarray:
    """Read a picture as the eye sees it.

    It is turned by its EXIF orientation; 16 bits are scaled to 8, grey is repeated over three
    channels, CMYK is converted, and transparent parts show grey 128. Of an animation, the first.

    Args:
      path: a picture file.

    Returns:
      (h, w, 3) uint8 RGB.

    Raises:
      ValueError: no such file, empty, not a picture, truncated, or more than `MAX_PIXELS`.
    """
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path) as opened:
            _check_size(path, *opened.size)
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
                return _from_deep_grey(path, np.asarray(picture))
            if picture.has_transparency_data:
                behind = Image.new("RGBA", picture.size, (*_BEHIND_TRANSPARENCY, 255))
                picture = Image.alpha_composite(behind, picture.convert("RGBA"))
            return np.array(picture.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}; make a smaller copy") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a picture that can be read; use one of {sorted(PICTURES)}") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(
            f"{path}: the picture cannot be read ({error}); check permissions, or copy it again"
        ) from error


def _from_deep_grey(path: Path, grey: np.ndarray) -> np.ndarray:
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError(
            f"{path}: grey values from {grey.min()} to {grey.max()} of type {grey.dtype}, must be "
            "integers from 0 to 65535; convert the picture to 8 bits"
        )
    eight_bits = np.round(grey.astype(np.float64) / 257).astype(np.uint8)
    return np.repeat(eight_bits[..., None], 3, axis=-1)


def open_video(path: Path | str) -> Iterator[Frame]:
    """Decode the first video stream of a file, one frame at a time.

    Frames are turned as the file's display matrix says. No frame is dropped, repeated or made up. A
    video that is damaged or ends before its declared duration raises after its last good frame. Where
    a recording begins in the middle of a group of pictures, decoding starts with the first picture that
    can be decoded, and `Frame.note` says so, as it does where time does not go on or jumps: packets may
    be missing there without a trace.

    AVI has no presentation times. With B-frames, whose order of storage is another, the timestamps
    are index / average frame rate, and `Frame.note` says so.

    Args:
      path: a video file.

    Yields:
      Frames in the order of presentation.

    Raises:
      ValueError: PyAV is missing; no such file, empty, no video in it, damaged, or truncated. (VP8,
        VP9 and WMV carry too little by which damage could always be noticed.)
    """
    av = _import_av()
    path = Path(path)
    _check_file(path)
    # FFmpeg gets an open file, since it would take parts of some names for protocols or patterns.
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be opened ({error.strerror}); check it") from error
    with file:
        try:
            container = av.open(file, mode="r")
        except (av.error.FFmpegError, OSError) as error:
            raise ValueError(
                f"{path}: not a video that can be read ({error}); it may be damaged or incomplete: "
                "copy or convert it again"
            ) from error
        with container:
            if not container.streams.video:
                raise ValueError(f"{path}: no video stream in it; give a file with pictures")
            stream = container.streams.video[0]
            # One thread: with several, FFmpeg can wait for itself forever at a damaged frame.
            stream.thread_type = "NONE"
            # Without this, damaged frames are patched up with parts of others.
            stream.codec_context.options = {"err_detect": "explode"}
            _check_size(path, stream.width, stream.height)
            declared = _declared_end(container, stream)
            by_index = container.format.name == "avi" and stream.codec_context.has_b_frames
            rate = stream.average_rate if by_index else None
            last, end, index, skipped, jumped = -math.inf, 0.0, 0, 0, False
            try:
                for packet in container.demux(stream):
                    try:
                        decoded = packet.decode()
                    except av.error.FFmpegError:
                        if index:
                            raise
                        skipped += 1
                        continue
                    for frame in decoded:
                        if frame.is_corrupt:
                            if index:
                                raise ValueError(_damaged(path, index, "incomplete data"))
                            skipped += 1
                            continue
                        image = frame.to_ndarray(format="rgb24")
                        if frame.rotation:
                            image = np.ascontiguousarray(np.rot90(image, frame.rotation // 90))
                        time, note = frame.time, ""
                        if by_index:
                            time, note = float(index / rate) if rate else None, _BY_INDEX
                        elif skipped and not index:
                            note = f"{skipped} frames before the first one cannot be decoded"
                        if time is not None:
                            end = max(end, time + float((frame.duration or 0) * frame.time_base))
                            if time <= last:
                                time, note = None, _OUT_OF_ORDER
                            else:
                                if -math.inf < last < time - _MISSING_SECONDS and not jumped:
                                    note = f"no frames from {last:.2f} to {time:.2f} s: some may be missing"
                                    jumped = True
                                last = time
                        yield Frame(index, time, image, note)
                        index += 1
            except (av.error.FFmpegError, OSError) as error:
                raise ValueError(_damaged(path, index, str(error.strerror))) from error
            if index == 0:
                raise ValueError(
                    f"{path}: a video stream without frames that can be decoded; copy or convert it again"
                )
            if declared - end > _MISSING_SECONDS:
                raise ValueError(
                    f"{path}: truncated: {end:.2f} of {declared:.2f} s after frame {index - 1}; "
                    "copy or download it again"
                )


def _damaged(path: Path, index: int, reason: str) -> str:
    return f"{path}: damaged after frame {index - 1} ({reason}); copy or convert it again"


def _declared_end(container: object, stream: object) -> float:
    """Where the video ends by its header, in seconds; 0 where the header does not tell."""
    start = stream.start_time or 0  # type: ignore[attr-defined]
    if stream.duration is not None:  # type: ignore[attr-defined]
        return float((start + stream.duration) * stream.time_base)  # type: ignore[attr-defined]
    # Matroska and WebM state the duration of the longest stream, which may be the sound.
    if container.duration is None or len(container.streams) > 1:  # type: ignore[attr-defined]
        return 0.0
    return container.duration / 1e6  # type: ignore[attr-defined]


def count_frames(path: Path | str) -> int | None:
    """The number of frames that the header of a video declares, for progress bars; None if none.

    Headers are often a little wrong: `open_video` counts what is really there.
    """
    av = _import_av()
    try:
        with Path(path).open("rb") as file, av.open(file) as container:
            streams = container.streams.video
            return (streams[0].frames or None) if streams else None
    except (av.error.FFmpegError, OSError):
        return None


class VideoWriter:
    """Write an H.264 video frame by frame, in a ``with`` statement or until ``close``.

    The file appears under its name only when it is whole.

    Args:
      path: ends in .mp4.
      fps: frames a second, for frames that are written without a time stamp.
    """

    def __init__(self, path: Path | str, fps: float = 25.0) -> None:
        self._av = _import_av()
        self._path = Path(path)
        self._temporary = self._path.with_name(f"{self._path.stem}.partial{self._path.suffix}")
        self._container = self._av.open(str(self._temporary), "w")
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "20"}
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._fps = fps
        self._count = 0
        self._last = -1

    def write(self, image: np.ndarray, timestamp: float | None = None) -> None:
        """Append a frame.

        Args:
          image: (h, w, 3) uint8 RGB, all of one size; an odd side is extended by one pixel.
          timestamp: in seconds, increasing; None = at ``fps``.

        Raises:
          ValueError: a frame of another size than the first.
        """
        odd = (image.shape[0] % 2, image.shape[1] % 2)
        image = np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        height, width = image.shape[:2]
        if self._count == 0:
            self._stream.width, self._stream.height = width, height
        if (width, height) != (self._stream.width, self._stream.height):
            raise ValueError(
                f"frame of {width} x {height} pixels in a video of {self._stream.width} x "
                f"{self._stream.height}: all frames must have one size; resize it"
            )
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        seconds = self._count / self._fps if timestamp is None else timestamp
        frame.pts = self._last = max(self._last + 1, round(seconds * _CLOCK))
        frame.time_base = Fraction(1, _CLOCK)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._count += 1

    def close(self, whole: bool) -> None:
        """Finish the file; one that is not whole is taken away."""
        whole = whole and self._count > 0
        try:
            if whole:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if whole:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(whole=kind is None)


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: float = 25.0) -> None:
    """Write an H.264 video at a constant rate.

    Args:
      path: ends in .mp4.
      frames: (h, w, 3) uint8 RGB, all of one size.
      fps: frames a second.
    """
    with VideoWriter(path, fps) as writer:
        for image in frames:
            writer.write(image)


def write_image(path: Path | str, image: np.ndarray) -> None:
    """Write a picture; the suffix of ``path`` names its format.

    Args:
      path: ends in .jpg or .png.
      image: (h, w, 3) uint8 RGB.
    """
    path = Path(path)
    encoded = cv2.imencode(path.suffix, image[..., ::-1])[1]
    temporary = path.with_name(f"{path.stem}.partial{path.suffix}")
    temporary.write_bytes(encoded.tobytes())
    temporary.replace(path)
