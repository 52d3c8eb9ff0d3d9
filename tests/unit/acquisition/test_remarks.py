"""What is said of a file whose section was read, in Python as by the command."""

import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import StackWriter
from tests.micrograph_files import velox_card, write_velox_sets

IMAGE = np.zeros((8, 8, 1), np.uint16)


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
