"""Files of DigitalMicrograph: which image is taken, and what is not a micrograph."""

from typing import Any

import numpy as np
import pytest

from nanostream.acquisition.frames import count_sections, read_section, remark_on
from nanostream.errors import MicrographError
from tests.micrograph_files import DM_COLOUR, write_dm, write_dm_images

DmImage = tuple[Any, list[str], dict[str, Any]]

IMAGE = np.arange(6 * 5, dtype=np.int16).reshape(6, 5)
NM = ["nm", "nm"]
THUMBNAIL: DmImage = (np.zeros((4, 4), np.uint32), ["", ""], {"kind": DM_COLOUR})
VERSIONS = pytest.mark.parametrize("version", [3, 4])


@VERSIONS
@pytest.mark.parametrize("thumbnail", [None, 0])
def test_a_thumbnail_is_passed_over(tmp_path, version, thumbnail):
    path = tmp_path / f"a.dm{version}"
    images = [THUMBNAIL, (IMAGE, NM, {"name": "gold"})]
    write_dm_images(path, images, version=version, scale=0.05, thumbnail=thumbnail)
    frame = read_section(path)
    np.testing.assert_array_equal(frame.pixels, IMAGE)
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert frame.metadata.first_row == "top"
    assert remark_on(path) == ""


@VERSIONS
def test_two_images_without_a_thumbnail(tmp_path, version):
    path = tmp_path / f"a.dm{version}"
    images = [(IMAGE, NM, {"name": "first"}), (IMAGE + 1, NM, {})]
    write_dm_images(path, images, version=version, scale=0.05)
    np.testing.assert_array_equal(read_section(path).pixels, IMAGE)
    assert remark_on(path) == ("of 2 data sets first is taken; left out: image 2 (another image)")


@VERSIONS
def test_an_image_beside_a_spectrum_image_is_taken(tmp_path, version):
    path = tmp_path / f"a.dm{version}"
    cube = np.zeros((9, 6, 5), np.float32)
    images = [THUMBNAIL, (cube, [*NM, "eV"], {"name": "EELS"}), (IMAGE, NM, {"name": "HAADF"})]
    write_dm_images(path, images, version=version, scale=0.05, thumbnail=0)
    np.testing.assert_array_equal(read_section(path).pixels, IMAGE)
    assert remark_on(path).endswith("left out: EELS (a spectrum or spectrum image)")


@VERSIONS
@pytest.mark.parametrize(
    ("data", "units", "more", "said"),
    [
        (np.zeros((9, 6, 5), "f4"), [*NM, "eV"], {}, "a spectrum or spectrum image"),
        (np.zeros((9, 6, 5), "f4"), [*NM, ""], {"form": "Spectrum image"}, "a spectrum or"),
        (np.zeros(50, "f4"), ["eV"], {}, "a spectrum or spectrum image"),
        (np.zeros((1, 50), "f4"), ["keV", ""], {}, "a spectrum or spectrum image"),
        (np.zeros(50, "f4"), ["nm"], {}, "1-D data"),
        (np.zeros((6, 5), np.uint32), NM, {"kind": DM_COLOUR}, "in colour"),
        (np.zeros((6, 5), "c8"), NM, {}, "pixels of Gatan's type 3"),
    ],
)
def test_what_is_no_micrograph_is_refused(tmp_path, version, data, units, more, said):
    path = tmp_path / f"a.dm{version}"
    write_dm_images(path, [(data, units, more)], version=version, scale=0.05)
    with pytest.raises(MicrographError, match=rf"not a micrograph \({said}"):
        read_section(path)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "float32"])
def test_pixels_of_every_type(tmp_path, dtype):
    path = tmp_path / "a.dm4"
    write_dm(path, IMAGE.astype(dtype), version=4, scale=0.05, unit="nm")
    assert read_section(path).pixels.dtype == dtype
    np.testing.assert_array_equal(read_section(path).pixels, IMAGE)


@VERSIONS
def test_a_file_that_ends_before_its_pixels_is_refused_as_a_whole(tmp_path, version):
    path = tmp_path / f"a.dm{version}"
    stack = np.zeros((3, 40, 50), np.int16)
    write_dm(path, stack, version=version, scale=0.05, unit="nm")
    path.write_bytes(path.read_bytes()[: stack.nbytes // 2])
    with pytest.raises(MicrographError, match=r"a\.dm"):
        count_sections(path)
