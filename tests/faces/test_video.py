import builtins
import re
import struct
import wave
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxau.faces import video
from jaxau.faces.video import VideoWriter, open_video, read_image, write_image, write_video


def gradient(height: int = 48, width: int = 64) -> np.ndarray:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 0 * x], -1).astype(np.uint8)


def moving(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames whose brightness tells their number."""
    return [np.full((height, width, 3), 10 + (i * 7) % 240, np.uint8) for i in range(count)]


# ---- pictures --------------------------------------------------------------------------------------


def test_colour_order_is_rgb(tmp_path):
    write_image(tmp_path / "a.png", gradient())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient())
    assert Image.open(tmp_path / "a.png").getpixel((63, 0)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Each stored picture, turned as its tag says, is the same picture."""
    shown = gradient()
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](shown)))
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - shown).mean() < 4


def test_transparent_parts_are_grey(tmp_path):
    rgba = np.dstack([gradient(), np.full((48, 64), 255, np.uint8)])
    rgba[:24, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:24] == 128).all()
    np.testing.assert_array_equal(image[24:], gradient()[24:])


def test_transparent_palette_entry(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "a.png", transparency=0)
    image = read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [128] * 3 and image[1, 1].tolist() == [255, 0, 0]


def test_16_bits_are_scaled(tmp_path):
    deep = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
    np.testing.assert_array_equal(image, np.repeat(np.round(deep / 257)[..., None], 3, -1))


def test_16_bit_colour(tmp_path):
    deep = gradient().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), gradient(), atol=1)


def test_grey_and_one_bit(tmp_path):
    Image.fromarray(gradient()[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(gradient()[..., :1], 3, -1))
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    assert (read_image(tmp_path / "bit.png") == 255).all()


def test_cmyk(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - gradient()).mean() < 6


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


def test_too_many_pixels(tmp_path):
    """20,000 x 20,000 pixels in a file of a few kilobytes are refused by the header alone."""
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="400000000 pixels.*smaller copy"):
        read_image(path)
    Image.new("1", (10_000, 8_001)).save(path)
    with pytest.raises(ValueError, match="10000 x 8001 pixels, the limit is 80,000,000.*smaller"):
        read_image(path)


def test_unreadable_pictures_say_why(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:1500])
    with pytest.raises(ValueError, match="cut.jpg: the picture cannot be read.*copy it again"):
        read_image(cut)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"empty.jpg: the file is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match="text.jpg: not a picture"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="none.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="not a file"):
        read_image(tmp_path)


# ---- videos ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["WolfgangLanger_Pexels.mp4", "no_face.mp4"])
def test_each_frame_once_as_counted_by_opencv(shared, name):
    path = shared / "media" / name
    capture, count = cv2.VideoCapture(str(path)), 0
    ours = open_video(path)
    while True:
        more, theirs = capture.read()
        if not more:
            break
        frame = next(ours)
        assert frame.index == count
        assert frame.image.shape == theirs.shape
        if count % 100 == 0:
            assert np.abs(frame.image[..., ::-1].astype(int) - theirs).mean() < 3
        count += 1
    assert next(ours, None) is None and count > 90


def test_frames_and_colours_survive_writing(tmp_path):
    frames = [np.roll(gradient(47, 63), 3 * i, axis=1) for i in range(5)]  # odd sides
    write_video(tmp_path / "a.mp4", frames, fps=10)
    read = list(open_video(tmp_path / "a.mp4"))
    assert [f.index for f in read] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([f.timestamp for f in read], [0, 0.1, 0.2, 0.3, 0.4], atol=1e-4)
    for frame, written in zip(read, frames, strict=True):
        assert frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image[:47, :63].astype(int) - written).mean() < 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_time_stamps_of_a_variable_rate(tmp_path):
    times = [0.0, 0.04, 0.2, 0.21, 1.0, 1.5]
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for image, time in zip(moving(6), times, strict=True):
            writer.write(image, time)
    frames = list(open_video(tmp_path / "a.mp4"))
    np.testing.assert_allclose([frame.timestamp for frame in frames], times, atol=1e-4)


def test_a_stream_without_time_stamps_has_none(tmp_path):
    import av

    with av.open(str(tmp_path / "raw.m4v"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "0"}
        for image in moving(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    frames = list(open_video(tmp_path / "raw.m4v"))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    times = [frame.timestamp for frame in frames]
    assert times == [None] * 5 or np.allclose(np.diff(times), 0.04, atol=1e-3)


def test_a_turned_video_is_shown_upright(tmp_path):
    """A phone writes a display matrix; OpenCV applies it too."""
    path = tmp_path / "a.mp4"
    write_video(path, [gradient()] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    path.write_bytes(data)
    frame = next(iter(open_video(path)))
    assert frame.image.shape == (64, 48, 3)
    theirs = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    assert np.abs(frame.image.astype(int) - theirs).mean() < 4
    assert np.abs(frame.image.astype(int) - np.rot90(gradient(), -1)).mean() < 12


def cut(path: Path, share: float) -> Path:
    shorter = path.with_name(f"cut{path.suffix}")
    data = path.read_bytes()
    shorter.write_bytes(data[: int(len(data) * share)])
    return shorter


def test_a_truncated_video_gives_its_frames_then_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), np.uint8)
    write_video(tmp_path / "a.mkv", noise, fps=10)
    frames = []
    with pytest.raises(ValueError, match=r"cut.mkv: (truncated: [\d.]+ of 5.0|damaged after frame)"):
        for frame in open_video(cut(tmp_path / "a.mkv", 0.6)):
            frames.append(frame)
    assert 10 < len(frames) < 45
    assert [f.index for f in frames] == list(range(len(frames)))
    write_video(tmp_path / "a.mp4", noise, fps=10)
    with pytest.raises(ValueError, match="cut.mp4: not a video that can be read.*incomplete"):
        list(open_video(cut(tmp_path / "a.mp4", 0.6)))


def packets(path: Path) -> list[tuple[int, int]]:
    import av

    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]


def encode(path: Path, codec: str, **options: str) -> list[np.ndarray]:
    """60 frames of a moving pattern, 25 a second."""
    import av

    small = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    large = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
    frames = [np.roll(large, (3 * i, 5 * i), (0, 1))[:240, :320].copy() for i in range(60)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.options = 320, 240, options
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return frames


CODECS = [
    ("a.mp4", "libx264"), ("a.avi", "libx264"), ("a.ts", "libx264"), ("a.mkv", "libx265"), ("a.avi", "mpeg4"),
    ("a.mov", "mpeg4"), ("a.avi", "mjpeg"), ("a.flv", "flv1"), ("a.mpg", "mpeg2video"),
]  # fmt: skip


@pytest.mark.parametrize("name, codec", CODECS)
def test_damaged_frames_are_not_made_up(tmp_path, name, codec):
    """Only frames as they are in the whole video come out, then the error; the whole video is whole."""
    path = tmp_path / name
    encode(path, codec)
    whole = list(open_video(path))
    assert len(whole) == 60
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(1)
    places = packets(path)[20:24]
    if name.endswith("mpg"):  # which does not tell where its packets are
        places = [(len(data) // 3, len(data) // 9)]
    for start, size in places:
        data[start + size // 4 : start + 3 * size // 4] = random.bytes(3 * size // 4 - size // 4)
    path.write_bytes(data)
    read = []
    with pytest.raises(ValueError, match=rf"{name}: damaged after frame \d+ .*convert it again"):
        for frame in open_video(path):
            read.append(frame.image)
    assert 1 < len(read) <= 23
    for image, expected in zip(read, whole, strict=False):
        np.testing.assert_array_equal(image, expected.image)


def remux(path: Path, kept: Collection[int]) -> Path:
    import av

    copy = path.with_name(f"copy{path.suffix}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        stream = source.streams.video[0]
        twin = target.add_stream_from_template(stream)
        for i, packet in enumerate(source.demux(stream)):
            if packet.dts is not None and i in kept:
                packet.stream = twin
                target.mux(packet)
    return copy


def test_missing_packets_are_noticed(shared, tmp_path):
    """By the decoder; where what is left looks well to it, by the time that is missing."""
    (tmp_path / "a.mp4").write_bytes((shared / "media" / "WolfgangLanger_Pexels.mp4").read_bytes())
    read = []
    with pytest.raises(ValueError, match="copy.mp4: damaged after frame"):
        for frame in open_video(remux(tmp_path / "a.mp4", [*range(30), *range(45, 90)])):
            read.append(frame)
    assert 20 < len(read) <= 30
    encode(tmp_path / "b.mov", "mjpeg")
    frames = list(open_video(remux(tmp_path / "b.mov", [*range(20), *range(35, 60)])))
    assert len(frames) == 45 and frames[20].timestamp == pytest.approx(35 / 25)
    assert [f.index for f in frames if f.note] == [20]
    assert frames[20].note == "no frames from 0.76 to 1.40 s: some may be missing"


@pytest.mark.parametrize("codec, preset", [("libx264", "medium"), ("libx265", "ultrafast")])
def test_a_recording_may_begin_between_key_frames(tmp_path, codec, preset):
    """It starts with the first frame that can be decoded, and says what is missing."""
    name = codec.removeprefix("lib")
    encode(tmp_path / "a.mkv", codec, preset=preset, **{f"{name}-params": "keyint=15:open-gop=1"})
    whole = [frame.image for frame in open_video(tmp_path / "a.mkv")]
    frames = list(open_video(remux(tmp_path / "a.mkv", range(30, 60))))
    assert 10 < len(frames) <= 30 and frames[0].index == 0
    assert re.fullmatch(r"\d+ frames before the first one cannot be decoded", frames[0].note)
    for frame, expected in zip(frames[::-1], whole[::-1], strict=False):
        np.testing.assert_array_equal(frame.image, expected)


def test_avi_with_frames_stored_in_another_order(tmp_path):
    """AVI stores no presentation times; what FFmpeg makes of them goes back and forth."""
    written = encode(tmp_path / "a.avi", "libx264")
    frames = list(open_video(tmp_path / "a.avi"))
    np.testing.assert_allclose([f.timestamp for f in frames], np.arange(60) / 25, atol=1e-6)
    assert "index / average frame rate" in frames[0].note
    assert np.abs(frames[41].image.astype(int) - written[41]).mean() < 6
    encode(tmp_path / "b.avi", "mjpeg")
    assert not any(f.note for f in open_video(tmp_path / "b.avi"))


def test_times_that_go_back_are_left_empty(tmp_path):
    """The last frame of this MPEG file gets the time of the one before."""
    encode(tmp_path / "a.mpg", "mpeg2video", bf="0")
    frames = list(open_video(tmp_path / "a.mpg"))
    assert len(frames) == 60
    times = [f.timestamp for f in frames if f.timestamp is not None]
    assert len(times) >= 59 and (np.diff(times) > 0).all()
    assert len(times) == 60 or "left empty" in frames[-1].note


def test_unreadable_videos_say_why(tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match="empty.mp4: the file is empty"):
        list(open_video(tmp_path / "empty.mp4"))
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * 8000)
    with pytest.raises(ValueError, match="sound.mp4: no video stream"):
        list(open_video(tmp_path / "sound.mp4"))
    with pytest.raises(ValueError, match="no such file"):
        list(open_video(tmp_path / "none.mp4"))
    write_video(tmp_path / "big.mp4", moving(2))
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ValueError, match="big.mp4: 64 x 48 pixels, the limit is"):
        list(open_video(tmp_path / "big.mp4"))


@pytest.mark.parametrize("name", ["a b.mp4", "ö ☺.mp4", "%03d.mp4", "c:x.mp4", "-i.mp4", "'q\".mp4"])
def test_odd_names(tmp_path, name):
    write_video(tmp_path / "a.mp4", moving(3))
    (tmp_path / "a.mp4").rename(tmp_path / name)
    assert len(list(open_video(tmp_path / name))) == 3


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"32 x 32 pixels in a video of 64 x\s+48"):
        with VideoWriter(tmp_path / "a.mp4") as writer:
            writer.write(gradient())
            writer.write(gradient(32, 32))
    assert not list(tmp_path.iterdir())


def test_without_pyav_the_error_says_what_to_install(monkeypatch, tmp_path):
    real_import = builtins.__import__

    def without_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError("No module named 'av'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(ValueError, match=r"pip install jaxau\[video\]"):
        next(iter(open_video(tmp_path / "a.mp4")))
