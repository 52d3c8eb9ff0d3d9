"""Inputs that a reading of the readers found answered wrongly, each with its right value."""

import os

import numpy as np
import pytest
import tifffile

import nanostream as ns
from nanostream.acquisition.greys import inverted
from nanostream.acquisition.selection import select_files
from nanostream.errors import ConfigError, MicrographError

IMAGE = np.arange(64, dtype=np.int16).reshape(8, 8)


def saved(path):
    np.save(path, IMAGE)
    return path


def test_a_name_to_which_no_ending_can_be_added_is_read(tmp_path):
    path = saved(tmp_path / ("x" * 247 + ".npy"))
    np.testing.assert_array_equal(ns.read_section(path).pixels, IMAGE)


@pytest.mark.parametrize("bits", [32, 64])
def test_large_whole_numbers_with_zero_white_keep_their_picture(bits):
    pixels = np.arange(1200, dtype=f"u{bits // 8}").reshape(30, 40)
    found = inverted(pixels, bits)
    np.testing.assert_array_equal(found, 1199 - pixels.astype(np.int64))
    np.testing.assert_array_equal(found.astype(np.float32), found)


def test_a_tiff_of_32_bits_with_zero_white_is_read(tmp_path):
    pixels = np.arange(1200, dtype=np.uint32).reshape(30, 40)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(ns.read_section(tmp_path / "a.tif").pixels, 1199.0 - pixels)


def test_a_linked_file_has_the_name_of_its_place(tmp_path):
    for folder in ("here", "other"):
        (tmp_path / folder).mkdir()
    saved(tmp_path / "here" / "a.npy")
    (tmp_path / "here" / "link.npy").symlink_to(saved(tmp_path / "other" / "o.npy"))
    found = ns.read_section(tmp_path / "here", "all")
    assert sorted(str(frame.section) for frame in found) == ["a.npy#0", "link.npy#0"]


def test_a_wildcard_that_meets_a_linked_folder_takes_the_rest(tmp_path):
    for folder in ("here", "other"):
        (tmp_path / folder).mkdir()
    saved(tmp_path / "here" / "a.npy")
    saved(tmp_path / "other" / "o.npy")
    link = tmp_path / "here" / "link"
    link.symlink_to(tmp_path / "other", target_is_directory=True)
    found = select_files([tmp_path / "here" / "*"])
    assert [path.name for path in found.files] == ["a.npy"]
    assert found.left_out == ((str(link), "a link to a folder is not followed; name it, too"),)
    assert [path.name for path in select_files([link]).files] == ["o.npy"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.mrc")
    with pytest.raises(MicrographError, match=r"p\.mrc: neither a file nor a folder"):
        ns.read_section(tmp_path / "p.mrc")


@pytest.mark.parametrize("pixel_size_nm", [10**400, 1e30, 1e-9, 0.0, float("nan"), "a", True])
def test_what_is_no_pixel_of_an_electron_microscope_is_refused(pixel_size_nm):
    with pytest.raises(ConfigError, match=r"pixel_size_nm=.*0\.0001 to 1000 nm"):
        ns.read_section(IMAGE, pixel_size_nm=pixel_size_nm)


@pytest.mark.parametrize("threshold", ["a", 0.0, 1.0, float("nan"), [0.5]])
def test_what_is_no_threshold_is_refused(threshold):
    with pytest.raises(ConfigError, match="threshold="):
        ns.segment(IMAGE, threshold=threshold)


def test_a_description_with_an_endless_shape_is_one_picture(tmp_path):
    description = '{"shape": [1e999, 8, 8], "truncated": true}'
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, description=description, metadata=None)
    np.testing.assert_array_equal(ns.read_section(tmp_path / "a.tif").pixels, IMAGE)
