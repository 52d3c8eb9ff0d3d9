"""Every format read as frames; what cannot be read says why."""

import re
import struct
from importlib.metadata import version

import cv2
import numpy as np
import pytest
import tifffile

import nanostream as ns
from nanostream.acquisition.frames import SUFFIXES, count_sections, read_section
from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import MicrographError, NotReadyError
from nanostream.records import SectionId
from tests.micrograph_files import write_berkeley, write_dm, write_ser, write_velox

PIXELS = (np.arange(2 * 5 * 7).reshape(2, 5, 7) * 3).astype(np.int16)


def write_spectra(path):
    write_ser(path, PIXELS, pixel_m=1.0)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<i", 0x4120)
    path.write_bytes(data)


def write_mrc(path, stack):
    with StackWriter(path, pixel_size_nm=0.05, mdoc=False) as writer:
        for image in stack:
            writer.append(image)


def write_imagej(path, stack):
    tifffile.imwrite(path, stack, imagej=True, resolution=(20, 20), metadata={"unit": "nm"})


def write_tiff_cm(path, stack):
    resolution = (2e8, 2e8)  # pixels per cm
    tifffile.imwrite(
        path, stack, photometric="minisblack", resolution=resolution, resolutionunit="CENTIMETER"
    )


WRITERS = {
    "a.mrc": write_mrc,
    "a.dm3": lambda p, s: write_dm(p, s, version=3, scale=0.05, unit="nm"),
    "a.dm4": lambda p, s: write_dm(p, s, version=4, scale=5e-5, unit="µm"),
    "a.ser": lambda p, s: write_ser(p, s, pixel_m=5e-11),
    "berkeley.emd": lambda p, s: write_berkeley(p, s, step=0.05, unit="[n_m]"),
    "angstrom.EMD": lambda p, s: write_berkeley(p, s, step=0.5, unit="Å"),
    "velox.emd": lambda p, s: write_velox(p, s, pixel_m=5e-11),
    "big.tif": lambda p, s: tifffile.imwrite(
        p, s, bigtiff=True, photometric="minisblack", resolution=(2e8, 2e8), resolutionunit=3
    ),
    "cm.tiff": write_tiff_cm,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_section_of_each_format_with_its_pixel_size(tmp_path, name, capsys):
    path = tmp_path / name
    WRITERS[name](path, PIXELS)
    assert count_sections(path) == (2, False)
    for z in (0, 1):
        frame = read_section(path, z)
        np.testing.assert_array_equal(frame.pixels, PIXELS[z])
        assert frame.pixels.dtype == np.int16
        assert frame.pixel_size_nm == pytest.approx(0.05)
        assert frame.metadata.pixel_size_source == "header"
        assert frame.section == SectionId(name, z)
        assert frame.metadata.first_row == ("bottom" if name == "a.mrc" else "top")
    assert capsys.readouterr() == ("", "")


def test_imagej_tiff_has_its_own_unit(tmp_path):
    write_imagej(tmp_path / "a.tif", PIXELS.astype(np.uint16))
    for z in (0, 1):
        assert read_section(tmp_path / "a.tif", z).pixel_size_nm == pytest.approx(0.05)


def test_screen_resolution_is_no_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], resolution=(72, 72), resolutionunit="INCH")
    assert read_section(tmp_path / "a.tif").pixel_size_nm is None


@pytest.mark.parametrize("version", [3, 4])
def test_single_dm_image_and_reciprocal_unit(tmp_path, version):
    path = tmp_path / f"a.dm{version}"
    write_dm(path, PIXELS[0], version=version, scale=0.1, unit="1/nm")
    frame = read_section(path)
    assert count_sections(path) == (1, False)
    np.testing.assert_array_equal(frame.pixels, PIXELS[0])
    assert frame.pixel_size_nm is None
    assert frame.metadata.pixel_size_source is None


def test_counts_of_32_bits_become_float32(tmp_path):
    path = tmp_path / "a.dm4"
    write_dm(path, PIXELS[0].astype(np.int32) * 70000, version=4, scale=1, unit="nm")
    assert read_section(path).pixels.dtype == np.float32
    assert read_section(path).pixels.max() == PIXELS[0].max() * 70000.0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "float16", "float32"])
def test_wire_types_stay_as_they_are(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.asfortranarray(PIXELS[0].astype(dtype)))
    pixels = read_section(tmp_path / "a.npy").pixels
    assert (pixels.dtype, pixels.flags.c_contiguous) == (np.dtype(dtype), True)


def test_an_array_of_true_and_false_is_a_mask(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS[0] > 9)
    with pytest.raises(MicrographError, match=r"a\.npy: true and false are a mask"):
        read_section(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(3, 4, 4), (9, 4, 4), (4, 9, 3), (1, 9, 3), (4, 4, 3)])
def test_small_arrays_that_can_be_channels_or_sections_are_refused(tmp_path, shape):
    # (9, 4, 4): nine images of 4 x 4, or one of 9 x 4 with opacity.
    np.save(tmp_path / "a.npy", np.zeros(shape, np.int16))
    said = rf"a\.npy: shape {re.escape(str(shape))} can be an image of {shape[2]} channels or"
    for ask in (read_section, ns.read_section):
        with pytest.raises(MicrographError, match=said):
            ask(tmp_path / "a.npy")
    with pytest.raises(MicrographError, match=r"array: shape .* can be"):
        ns.read_section(np.zeros(shape, np.int16))


@pytest.mark.parametrize("shape", [(5, 5, 3), (512, 7, 4), (7, 512, 4)])
def test_an_array_that_is_clearly_of_channels_is_one_image(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.int16))
    assert count_sections(tmp_path / "a.npy") == (1, False)
    assert read_section(tmp_path / "a.npy").pixels.shape == shape[:2]
    assert ns.read_section(np.zeros(shape)).pixels.shape == shape[:2]


def test_an_array_of_one_channel_is_an_image(tmp_path):
    image = np.arange(12, dtype=np.int16).reshape(3, 4, 1)
    np.save(tmp_path / "a.npy", image)
    for given in (tmp_path / "a.npy", image):
        np.testing.assert_array_equal(ns.read_section(given).pixels, image[..., 0])


def test_a_frame_says_which_libraries_its_file_was_read_by(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0])
    write_dm(tmp_path / "a.dm4", PIXELS[0], version=4, scale=1, unit="nm")
    np.save(tmp_path / "a.npy", PIXELS[0])
    libraries = {path.suffix: read_section(path).versions for path in tmp_path.iterdir()}
    assert libraries == {
        ".tif": {name: version(name) for name in ("tifffile", "imagecodecs")},
        ".dm4": {"ncempy": version("ncempy")},
        ".npy": {},
    }


@pytest.mark.parametrize("dtype", ["int32", "uint64", "float64", ">f8"])
def test_other_numbers_become_float32(tmp_path, dtype):
    np.save(tmp_path / "a.npy", PIXELS[0].astype(dtype))
    assert read_section(tmp_path / "a.npy").pixels.dtype == np.float32


def test_what_float32_cannot_have_is_refused_and_what_it_rounds_is_logged(tmp_path, caplog):
    np.save(tmp_path / "a.npy", PIXELS[0] * 1e300)
    with pytest.raises(MicrographError, match=r"numbers up to 1\.02e\+302, beyond float32"):
        read_section(tmp_path / "a.npy")
    caplog.set_level("INFO")
    np.save(tmp_path / "a.npy", PIXELS[0].astype(np.int32) * 2**18)
    read_section(tmp_path / "a.npy")
    (line,) = caplog.messages
    assert line == f"a.npy: counts up to {34 * 3 * 2**18} are rounded to 24 bits (float32)"
    np.save(tmp_path / "a.npy", PIXELS[0].astype(np.int32))
    read_section(tmp_path / "a.npy")
    assert len(caplog.messages) == 1


def test_foreign_byte_order_becomes_native(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS.astype(">i2"))
    assert count_sections(tmp_path / "a.npy") == (2, False)
    pixels = read_section(tmp_path / "a.npy", 1).pixels
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels, PIXELS[1])


def test_png_of_16_bits(tmp_path):
    image = PIXELS[0].astype(np.uint16) * 500
    (tmp_path / "ü.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    np.testing.assert_array_equal(read_section(tmp_path / "ü.png").pixels, image)


def test_mdoc_refines_the_header_and_a_section_name_is_kept(tmp_path):
    path, section = tmp_path / "a.mrc", SectionId("x/a.mrc", 0, 2)
    with StackWriter(path, pixel_size_nm=0.05) as writer:
        writer.append(PIXELS[0], RefinedPixelSpacing=0.52, NavigatorLabel="8-A")
        writer.append(PIXELS[1], PixelSpacing=0.6)
    frame = read_section(path, section=section)
    assert frame.section == section
    assert frame.pixel_size_nm == pytest.approx(0.052)
    assert frame.metadata.pixel_size_source == "mdoc refined"
    assert frame.metadata.navigator_label == "8-A"
    assert read_section(path, 1).pixel_size_nm == pytest.approx(0.06)
    assert frame.written_s == pytest.approx(path.stat().st_mtime)


def test_mdoc_without_pixel_size_leaves_the_headers(tmp_path):
    write_mrc(tmp_path / "a.mrc", PIXELS)
    (tmp_path / "a.mrc.mdoc").write_text("[ZValue = 0]\nTiltAngle = 5\n")
    frame = read_section(tmp_path / "a.mrc")
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert (frame.metadata.pixel_size_source, frame.metadata.tilt_deg) == ("header", 5)


def test_missing_section_is_named(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    for z in (2, -1):
        with pytest.raises(MicrographError, match=f"no section {z}; the file has 2 sections"):
            read_section(tmp_path / "a.npy", z)
    write_mrc(tmp_path / "a.mrc", PIXELS)
    with pytest.raises(NotReadyError):
        read_section(tmp_path / "a.mrc", 2)


COLOUR = np.zeros((5, 7, 3), np.uint8)
COLOUR[2, 3] = 10, 20, 30
WRONG = {
    "colour.png": (
        lambda p: p.write_bytes(cv2.imencode(".png", COLOUR)[1].tobytes()),
        "colour image",
    ),
    "colour.tif": (
        lambda p: tifffile.imwrite(p, COLOUR + np.arange(3, dtype=np.uint8), photometric="rgb"),
        "colour image",
    ),
    "colour.npy": (lambda p: np.save(p, COLOUR), "colour image"),
    "complex.npy": (lambda p: np.save(p, PIXELS[0].astype(complex)), "complex128"),
    "object.npy": (lambda p: np.save(p, np.array([{}])), "not a readable"),
    "line.npy": (lambda p: np.save(p, np.arange(5)), "shape"),
    "four.npy": (lambda p: np.save(p, np.zeros((2, 2, 2, 2))), "shape"),
    "empty.npy": (lambda p: np.save(p, np.zeros((0, 7))), "shape"),
    "notes.txt": (lambda p: p.write_text("x"), "nanostream reads .mrc"),
    "absent.mrc": (lambda _: None, "No such file"),
    "absent.dm4": (lambda _: None, "No such file"),
    "folder.npy": (lambda p: p.mkdir(), "cannot be read"),
    "cube.dm4": (
        lambda p: write_dm(p, np.zeros((2, 2, 5, 7), np.int16), version=4, scale=1.0, unit="nm"),
        "not a micrograph (4-D data; an image or a stack is expected)",
    ),
    "spectra.ser": (write_spectra, "a series of spectra"),
} | {
    f"junk{suffix}": (lambda p: p.write_bytes(b"junk" * 500), "junk")
    for suffix in (".mrc", ".dm3", ".dm4", ".ser", ".emd", ".tif", ".png", ".npy")
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_say_what_is_wrong(tmp_path, name, capsys):
    write, says = WRONG[name]
    write(tmp_path / name)
    with pytest.raises(MicrographError) as caught:
        read_section(tmp_path / name)
    assert str(caught.value).startswith(name)
    assert says in str(caught.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_file_is_an_error_not_a_crash(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, PIXELS)
    data = path.read_bytes()
    for size in (0, 3, 30, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:size])
        with pytest.raises(MicrographError):
            read_section(path, 1)


def test_endings_are_listed_in_lower_case():
    assert {".mrc", ".st", ".dm3", ".dm4", ".ser", ".emd", ".tif", ".png", ".npy"} <= set(SUFFIXES)
