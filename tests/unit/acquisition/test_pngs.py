"""PNG files: every depth and colour type, indices of a palette, and damage that is refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from nanostream.acquisition.frames import read_section
from nanostream.acquisition.pngs import read_png
from nanostream.errors import MicrographError
from tests.micrograph_files import png_chunk, write_png

RANDOM = np.random.default_rng(0)


def grey(bits, *, channels=1):
    values = RANDOM.integers(0, 2**bits, (9, 13), np.uint16 if bits > 8 else np.uint8)
    return values if channels == 1 else np.repeat(values[..., None], channels, axis=-1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_values_of_every_depth(tmp_path, bits):
    values = grey(bits)
    write_png(tmp_path / "a.png", values, bits=bits, kind=0)
    stretched = values if bits > 8 else values * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read_section(tmp_path / "a.png").pixels, stretched)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_equal_channels_are_grey_at_full_depth_whatever_the_opacity(tmp_path, bits, kind, channels):
    samples = grey(bits, channels=channels)
    values = samples[..., 0].copy()
    if kind in (4, 6):
        samples[..., -1] = RANDOM.integers(0, 2**bits, (9, 13))
    write_png(tmp_path / "a.png", samples, bits=bits, kind=kind)
    pixels = read_section(tmp_path / "a.png").pixels
    assert pixels.dtype == values.dtype
    np.testing.assert_array_equal(pixels, values)


def test_a_palette_of_grey_values_is_grey_and_of_colours_is_refused(tmp_path):
    values = grey(8)
    write_png(tmp_path / "a.png", values, bits=8, kind=3, palette=np.repeat(np.arange(256), 3))
    np.testing.assert_array_equal(read_section(tmp_path / "a.png").pixels, values)
    write_png(tmp_path / "b.png", values, bits=8, kind=3, palette=np.arange(768) % 256)
    with pytest.raises(MicrographError, match="colour image"):
        read_section(tmp_path / "b.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_can_be_read_by_index(tmp_path, bits):
    values = grey(bits)
    palette = RANDOM.integers(0, 256, (2**bits, 3))
    write_png(tmp_path / "a.png", values, bits=bits, kind=3, palette=palette)
    found = read_png((tmp_path / "a.png").read_bytes(), "a.png", palette="index")
    np.testing.assert_array_equal(found.pixels, values)
    np.testing.assert_array_equal(found.palette, palette)


def test_rows_of_every_filter_and_what_may_be_left_out(tmp_path):
    # OpenCV chooses a filter for each row; texts and colour profiles do not matter.
    image = np.cumsum(grey(8), axis=1, dtype=np.uint8)
    data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_FILTER, 0xF8])[1].tobytes()
    profile = png_chunk(b"iCCP", b"broken")[:-4] + b"junk"
    np.testing.assert_array_equal(read_png(data[:33] + profile + data[33:], "a.png").pixels, image)


def damaged(data):
    half = len(data) // 2
    yield "cut off", data[:half]
    yield "without its end", data[:-12]
    yield "a flipped bit", data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    yield "no signature", b"\x89PNX" + data[4:]
    yield "empty", b""


def test_damage_is_refused_without_a_line_on_the_screen(tmp_path, capfd):
    write_png(tmp_path / "a.png", grey(8), bits=8, kind=0)
    for what, data in damaged((tmp_path / "a.png").read_bytes()):
        with pytest.raises(MicrographError, match="not a readable PNG"):
            pytest.fail(f"{what}: {read_png(data, 'a.png')}")
    write_png(tmp_path / "b.png", grey(8), bits=8, kind=0, filters=9)
    with pytest.raises(MicrographError, match="filter 9"):
        read_section(tmp_path / "b.png")
    assert capfd.readouterr() == ("", "")


def test_a_size_that_the_file_cannot_hold_costs_no_memory():
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    with pytest.raises(MicrographError, match="2147483647 x 2147483647 pixels in"):
        read_png(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body, "a.png")


def test_compressed_pixels_without_an_end_are_refused(capfd):
    head = struct.pack(">IIBBBBB", 13, 9, 8, 0, 0, 0, 0)
    endless = zlib.compressobj()
    pixels = endless.compress(bytes(126)) + endless.flush(zlib.Z_SYNC_FLUSH)
    body = png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    with pytest.raises(MicrographError, match="have no end"):
        read_png(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body, "a.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [100, 125, 127, 200])
def test_fewer_or_more_pixels_than_the_size_are_refused(count, capfd):
    head = struct.pack(">IIBBBBB", 13, 9, 8, 0, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(count))) + png_chunk(b"IEND", b"")
    with pytest.raises(MicrographError, match=f"{count} of 126 bytes"):
        read_png(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body, "a.png")
    assert capfd.readouterr() == ("", "")
