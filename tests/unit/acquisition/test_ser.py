"""Series of TIA: images upright, and what is not a micrograph or has no length."""

import struct

import numpy as np
import pytest

from nanostream.acquisition.frames import count_sections, read_section
from nanostream.errors import MicrographError
from tests.micrograph_files import SER_TYPES, write_ser

STACK = np.arange(2 * 6 * 5).reshape(2, 6, 5)


@pytest.mark.parametrize("version", [0x0210, 0x0220])
@pytest.mark.parametrize("dtype", SER_TYPES)
def test_images_of_every_type_and_version(tmp_path, version, dtype):
    write_ser(tmp_path / "a.ser", STACK.astype(dtype), pixel_m=5e-11, version=version)
    assert count_sections(tmp_path / "a.ser") == (2, False)
    frame = read_section(tmp_path / "a.ser", 1)
    np.testing.assert_array_equal(frame.pixels, STACK[1])
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert frame.metadata.first_row == "top"


@pytest.mark.parametrize("per_m", [1.3e7, 1.0, 0.0, float("nan"), float("inf")])
def test_diffraction_and_no_calibration_have_no_length(tmp_path, per_m):
    write_ser(tmp_path / "a.ser", STACK.astype("i2"), pixel_m=per_m)
    assert read_section(tmp_path / "a.ser").pixel_size_nm is None


def test_a_broken_emi_file_beside_it_does_not_matter(tmp_path):
    write_ser(tmp_path / "a_1.ser", STACK.astype("i2"), pixel_m=5e-11)
    (tmp_path / "a.emi").write_bytes(b"<ObjectInfo>junk")
    np.testing.assert_array_equal(read_section(tmp_path / "a_1.ser").pixels, STACK[0])


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_images_are_refused(tmp_path, dtype):
    write_ser(tmp_path / "a.ser", STACK.astype(dtype), pixel_m=5e-11)
    with pytest.raises(MicrographError, match="pixels of type complex"):
        read_section(tmp_path / "a.ser")


@pytest.mark.parametrize(
    ("place", "layout", "value", "said"),
    [
        (0, "<H", 0x4D4D, "does not begin as a series"),
        (6, "<i", 0x4120, r"not a micrograph \(a series of spectra"),
        (6, "<i", 5, r"not a micrograph \(a series of type 0x5"),
        (18, "<i", 2**31 - 1, "bytes 62 to"),
        (18, "<i", -1, "bytes 62 to"),
        (18, "<i", 0, r"not a micrograph \(a series without an image"),
        (22, "<i", -5, "bytes -5 to"),
        (62, "<i", 10**9, "bytes 1000000000 to"),
        (118, "<h", 77, "TIA's type 77"),
        (120, "<i", 2**31 - 1, "images of 2147483647 x 6 pixels"),
        (120, "<i", -5, "images of -5 x 6 pixels"),
    ],
)
def test_wrong_numbers_in_the_file_are_refused(tmp_path, place, layout, value, said):
    path = tmp_path / "a.ser"
    write_ser(path, STACK.astype("i2"), pixel_m=5e-11)
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, place, value)
    path.write_bytes(data)
    with pytest.raises(MicrographError, match=said):
        read_section(path)
