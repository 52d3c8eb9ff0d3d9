"""Remarks on a file whose section was read, in Python as by the command."""

import math
import os

import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition import sidecars
from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import MicrographError
from tests.micrograph_files import velox_card, write_velox_sets

IMAGE = np.zeros((8, 8, 1), np.uint16)


@pytest.fixture(autouse=True)
def folders_are_listed_as_on_an_idle_machine(monkeypatch):
    monkeypatch.setattr(sidecars, "_CHEAP_WALL_S", math.inf)


def test_data_sets_that_are_left_out_are_named_once_for_a_file(tmp_path, caplog):
    stack = np.zeros((8, 8, 2), np.uint16)
    sets = [(stack, velox_card("DF4")), (stack, velox_card("HAADF"))]
    write_velox_sets(tmp_path / "a.emd", sets)
    assert len(ns.read_section(tmp_path / "a.emd", "all")) == 2
    assert caplog.messages == ["a.emd: of 2 data sets HAADF is taken; left out: DF4"]


@pytest.mark.parametrize("name", ["gold.mrc.mdoc", "gold.mdoc", "GOLD.MRC.MDOC"])
def test_a_sidecar_that_gives_nothing_is_named(tmp_path, name, caplog):
    with StackWriter(tmp_path / "gold.mrc", pixel_size_nm=0.05, mdoc=False) as stack:
        stack.append(IMAGE[..., 0].astype(np.int16))
    ns.read_section(tmp_path / "gold.mrc")
    assert caplog.messages == []
    (tmp_path / name).write_text("[ZValue = 7]\nTiltAngle = 1\n")
    ns.read_section(tmp_path / "gold.mrc")
    (said,) = caplog.messages
    assert said == f"gold.mrc#0: {name} gives nothing for it: an older file's, or damaged"


def test_a_folder_that_is_called_like_a_sidecar_is_named(tmp_path, caplog):
    with StackWriter(tmp_path / "gold.mrc", pixel_size_nm=0.05, mdoc=False) as stack:
        stack.append(IMAGE[..., 0].astype(np.int16))
    (tmp_path / "gold.mrc.mdoc").mkdir()
    assert ns.read_section(tmp_path / "gold.mrc").pixel_size_nm == pytest.approx(0.05)
    assert caplog.messages == ["gold.mrc#0: gold.mrc.mdoc gives nothing for it: it is a folder"]


def stack(path, spacing_nm=0.05):
    with StackWriter(path, pixel_size_nm=spacing_nm, mdoc=False) as file:
        file.append(IMAGE[..., 0].astype(np.int16))
    return path


def test_a_pipe_that_is_called_like_a_sidecar_is_named_and_not_read(tmp_path, caplog):
    os.mkfifo(tmp_path / "gold.mrc.mdoc")
    assert ns.read_section(stack(tmp_path / "gold.mrc")).pixel_size_nm == pytest.approx(0.05)
    said = "gold.mrc#0: gold.mrc.mdoc gives nothing for it: it is a pipe or a device"
    assert caplog.messages == [said]


def test_an_mdoc_of_another_file_is_named(tmp_path, caplog):
    (tmp_path / "r.mdoc").write_text("ImageFile = D:\\data\\r.st\n\n[ZValue = 0]\nTiltAngle = 3\n")
    for name in ("r.st", "r.mrc"):
        stack(tmp_path / name)
    assert ns.read_section(tmp_path / "r.st").metadata.tilt_deg == 3
    assert caplog.messages == []
    assert ns.read_section(tmp_path / "r.mrc").metadata.tilt_deg is None
    assert caplog.messages == ["r.mrc#0: r.mdoc gives nothing for it: its ImageFile is r.st"]


@pytest.mark.parametrize("value", ["inf", "nan", "1e9", "1e-5", "-4", "4 4", "wide"])
@pytest.mark.parametrize("key", ["RefinedPixelSpacing", "PixelSpacing"])
def test_what_can_be_no_pixel_size_is_passed_over_with_a_remark(tmp_path, key, value, caplog):
    stack(tmp_path / "gold.mrc")
    mdoc = tmp_path / "gold.mrc.mdoc"
    mdoc.write_text(f"[ZValue = 0]\n{key} = {value}\nTiltAngle = 3\n")
    frame = ns.read_section(tmp_path / "gold.mrc")
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert (frame.metadata.pixel_size_source, frame.metadata.tilt_deg) == ("header", 3)
    said = f"{key} = {value} in its mdoc can be no pixel size in Å, and is not taken"
    assert caplog.messages == [f"gold.mrc#0: {said}"]
    mdoc.write_text(f"PixelSpacing = 0.7\n\n{mdoc.read_text()}")
    frame = ns.read_section(tmp_path / "gold.mrc")
    assert frame.pixel_size_nm == pytest.approx(0.07)
    assert frame.metadata.pixel_size_source == "mdoc"


@pytest.mark.parametrize("value", ["0", "1e-3", "1e4", "5.2"])
def test_an_unknown_and_a_possible_pixel_size_need_no_remark(tmp_path, value, caplog):
    stack(tmp_path / "gold.mrc")
    (tmp_path / "gold.mrc.mdoc").write_text(f"[ZValue = 0]\nPixelSpacing = {value}\n")
    ns.read_section(tmp_path / "gold.mrc")
    assert not any("pixel size" in message for message in caplog.messages)


#: What would clear a terminal, turn a line around and begin a line of its own.
STEERING = "DF4\x1b[2J\u202e\nforged"


def test_what_a_file_says_cannot_steer_the_screen_of_a_notebook(tmp_path, caplog):
    sets = [(IMAGE, velox_card(STEERING)), (IMAGE, velox_card("HAADF"))]
    path = tmp_path / "a.emd"
    write_velox_sets(path, sets)
    ns.read_section(path)
    stack(tmp_path / "gold.mrc")
    (tmp_path / "gold.mdoc").write_text("ImageFile = a\x1b[2J.st\n")
    ns.read_section(tmp_path / "gold.mrc")
    assert len(caplog.messages) == 2
    assert all(map(str.isprintable, caplog.messages))
    assert "DF4\\x1b[2J\\u202e" in caplog.messages[0]
    write_velox_sets(path, [(IMAGE, velox_card(STEERING, unit="1/m"))])
    (tmp_path / "b\x1b[2J.mrc").write_bytes(b"1\n2")
    for bad in (path, tmp_path / "b\x1b[2J.mrc"):
        with pytest.raises(MicrographError) as refused:
            ns.read_section(bad)
        assert str(refused.value).isprintable()
