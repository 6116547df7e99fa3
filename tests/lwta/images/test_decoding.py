"""From bytes and PIL images to RGB: depth, orientation, transparency, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from lwta.images import Probe, UnreadableImageError, open_images
from lwta.images.decoding import decode, read_all, read_file, to_rgb


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def first_pixel(data: bytes) -> tuple[int, ...]:
    return tuple(np.asarray(decode(data))[0, 0].tolist())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG, written by hand: PIL writes neither RGB of 16 bits nor images of a size they do not have."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(data)


def test_ordinary_images_keep_every_value() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    assert decode(saved(noise)).tobytes() == noise.tobytes()
    jpeg = saved(noise, "JPEG")
    with Image.open(io.BytesIO(jpeg)) as expected:
        assert decode(jpeg).tobytes() == expected.convert("RGB").tobytes()
    for mode in ("1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBA"):
        image = noise.convert(mode)
        assert to_rgb(image).tobytes() == image.convert("RGB").tobytes()


GREY = np.full((8, 8), 32768, np.uint16)
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_the_upper_byte_of_16_bits_is_kept(form: str) -> None:
    assert first_pixel(saved(Image.fromarray(GREY), form)) == (128, 128, 128)
    ramp = np.asarray(decode(saved(Image.fromarray(RAMP), form)))
    assert (ramp == (RAMP >> 8)[..., None]).all()


def test_every_way_in_which_pil_holds_16_bits() -> None:
    for mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        assert to_rgb(Image.new(mode, (2, 2), 32768)).getpixel((0, 0)) == (128, 128, 128)
    pgm = b"P5 2 1 65535\n" + np.array([32768, 65535], ">u2").tobytes()
    with Image.open(io.BytesIO(pgm)) as image:
        assert image.mode == "I"
    assert np.asarray(decode(pgm))[0, :, 0].tolist() == [128, 255]
    big_endian = saved(Image.new("I;16B", (2, 2), 32768), "TIFF")
    assert first_pixel(big_endian) == (128, 128, 128)


def test_16_bits_of_each_channel_are_reduced_alike() -> None:
    row = b"\0" + struct.pack(">3H", 32768, 65535, 255)
    assert first_pixel(png(1, 1, 16, 2, row)) == (128, 255, 0)
    assert first_pixel(png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 32768, 65535))) == (128, 128, 128)  # with alpha
    assert first_pixel(png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 32768, 0))) == (255, 255, 255)
    assert first_pixel(png(1, 1, 16, 0, b"\0" + struct.pack(">H", 700), chunk(b"tRNS", struct.pack(">H", 700)))) == (
        255,
        255,
        255,
    )


def test_floating_point_values_are_scaled_or_refused() -> None:
    def tiff(*values: float) -> bytes:
        return saved(Image.fromarray(np.array([values], np.float32)), "TIFF")

    assert np.asarray(decode(tiff(0.5, 0, 1, 0.25)))[0, :, 0].tolist() == [128, 0, 255, 64]
    for bad in (float("nan"), float("inf"), -0.1, 1.5, 255.0):
        with pytest.raises(UnreadableImageError, match=r"^floating point values that are not all in \[0, 1\]"):
            decode(tiff(0.5, bad))


def test_integers_of_32_bits_are_refused() -> None:
    for image in (Image.new("I", (2, 2), 200), Image.new("I", (2, 2), 70000)):
        for call in (lambda image=image: to_rgb(image), lambda image=image: decode(saved(image, "TIFF"))):
            with pytest.raises(UnreadableImageError, match=r"^integers of 32 bits: their range is not known$"):
                call()


def test_both_doors_scale_16_bits(tmp_path: Path) -> None:
    (tmp_path / "train" / "grey").mkdir(parents=True)
    Image.fromarray(GREY).save(tmp_path / "train" / "grey" / "x.png")
    (sample,) = (Probe.of(tmp_path)[i] for i in range(1))
    assert sample.image is not None
    assert sample.image.getpixel((0, 0)) == (128, 128, 128)
    assert open_images(tmp_path, "train").image(0).getpixel((0, 0)) == (128, 128, 128)
    assert Probe.of([("x", Image.fromarray(GREY))])[0].image.getpixel((0, 0)) == (128, 128, 128)  # type: ignore[union-attr]


def oriented(orientation: int, form: str = "JPEG") -> bytes:
    """Red above blue, 40×20, with an orientation."""
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 40, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, form, exif=exif, **({"quality": 95} if form == "JPEG" else {}))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_applied(form: str, orientation: int) -> None:
    data = oriented(orientation, form)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    found = decode(data)
    assert found.size == expected.size == ((40, 20) if orientation < 5 else (20, 40))
    assert found.tobytes() == expected.tobytes()
    assert to_rgb(found).tobytes() == found.tobytes()  # once, not twice
    assert ImageOps.exif_transpose(found).tobytes() == found.tobytes()


def test_images_that_others_opened_are_turned_too_and_stay_as_they_are() -> None:
    with Image.open(io.BytesIO(oriented(6))) as image:
        assert to_rgb(image).size == (20, 40)
        assert image.size == (40, 20)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0", b"Exif\0\0", b"junk"]
)
def test_damaged_exif_loses_no_image(exif: bytes) -> None:
    assert decode(saved(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)).size == (40, 20)


def test_an_unknown_orientation_is_none() -> None:
    assert decode(oriented(9)).size == (40, 20)


def test_transparent_pixels_are_blended_with_white() -> None:
    clear, half = Image.new("RGBA", (2, 2), (255, 0, 0, 0)), Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    for form in ("PNG", "WEBP"):
        assert first_pixel(saved(clear, form, **({"lossless": True} if form == "WEBP" else {}))) == (255, 255, 255)
    assert first_pixel(saved(half)) == (255, 127, 127)
    assert first_pixel(saved(Image.new("LA", (2, 2), (0, 0)))) == (255, 255, 255)
    assert to_rgb(Image.new("PA", (2, 2))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    for transparency in (0, b"\0\xff"):
        seen = decode(saved(palette, "PNG", transparency=transparency))
        assert [seen.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 255, 0)]
    assert first_pixel(saved(palette, "GIF", transparency=0)) == (255, 255, 255)
    assert first_pixel(saved(Image.new("RGB", (2, 2), "red"), "PNG", transparency=(255, 0, 0))) == (255, 255, 255)


def test_of_animated_images_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "TIFF"):
        assert first_pixel(saved(frames[0], form, save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_bombs_are_refused_before_they_are_decoded() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    rows = bytes((1 + 13_000 // 8) * 1000)  # of 13,000: an image that was decoded would be found cut off
    bomb = png(13_000, 13_000, 1, 0, rows)
    assert len(bomb) < 5000
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(UnreadableImageError, match=f"^13000×13000 pixels, more than the {limit}"),
    ):
        decode(bomb)
    with pytest.raises(UnreadableImageError, match=r"^DecompressionBombError: Image size"):
        decode(png(20_000, 20_000, 1, 0, rows))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_reasons_are_the_same_on_every_run() -> None:
    reasons = set()
    for _ in range(3):
        with pytest.raises(UnreadableImageError) as raised:
            decode(b"no image")
        reasons.add(str(raised.value))
    assert reasons == {"UnidentifiedImageError: cannot identify image file"}


@pytest.fixture
def special(tmp_path: Path) -> Path:
    """A folder with one image and four files that no program should read to their end."""
    folder = tmp_path / "special"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "image.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "to-pipe.png").symlink_to("pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to("nowhere")
    return folder


def test_only_regular_files_are_read(special: Path) -> None:
    probe = Probe.of(special)
    found = {sample.key: sample.problem for sample in (probe[i] for i in range(5))}
    assert found.pop("gone.png").startswith("[Errno 2]")
    assert found == {
        "image.png": "",
        "pipe.png": "a pipe, not a regular file",
        "to-pipe.png": "a pipe, not a regular file",
        "zero.png": "a device, not a regular file",
    }


def test_training_names_a_file_that_is_none(special: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    special.rename(tmp_path / "data" / "train" / "x")
    images = open_images(tmp_path / "data", "train")
    with pytest.raises(ValueError, match=r"image train/x/pipe\.png of .* cannot be read: a pipe, not a regular file$"):
        images.image(list(images.keys).index("train/x/pipe.png"))


def test_reading_is_bounded_whatever_size_a_file_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwta.images.decoding.MAX_BYTES", 3000)
    monkeypatch.setattr("lwta.images.decoding._CHUNK", 100)

    class Endless(io.RawIOBase):
        read_so_far = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            self.read_so_far += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(UnreadableImageError, match="more than the 3000 of any image"):
        read_all(endless, 0)  # type: ignore[arg-type]
    assert endless.read_so_far <= 3200
    assert read_all(io.BytesIO(bytes(2500)), 10) == bytes(2500)
    assert read_all(io.BytesIO(bytes(5)), 10) == bytes(5)
    (tmp_path / "x").write_bytes(bytes(3001))
    with pytest.raises(UnreadableImageError, match=r"^3001 bytes, more than the 3000 of any image$"):
        read_file(tmp_path / "x")
