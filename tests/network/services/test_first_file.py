"""The first file of a new user: what is typed and what comes."""

import cv2
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import nanostream as ns
from nanostream.acquisition.simulator import demo_movie
from nanostream_services.cli import app
from tests.micrograph_files import write_dm

COUNTS = next(pixels for pixels, _ in demo_movie(1, shape=(320, 320), seed=5))
PIXEL_NM = 0.026


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder as a new user has it, the current one."""
    monkeypatch.chdir(tmp_path)
    grey = np.uint8(np.clip(255.0 * COUNTS / np.percentile(COUNTS, 99.8), 0, 255))
    cv2.imwrite("gold.png", np.dstack([grey] * 3))  # as ImageJ saves RGB colour
    write_dm(tmp_path / "gold.dm4", COUNTS[None], version=4, scale=PIXEL_NM, unit="nm")
    (tmp_path / "day1").mkdir()
    for number in range(2):
        tifffile.imwrite(f"day1/IMG_{number}.TIF", COUNTS.astype(np.uint16) + number)
    (tmp_path / "day1" / "IMG_0.TIF.txt").write_text("settings")
    (tmp_path / "day1" / "photo.jpg").touch()
    return tmp_path


def type_(*words):
    env = {"COLUMNS": "80", "NO_COLOR": "1"}
    return CliRunner().invoke(app, [*map(str, words)], env=env, prog_name="nanostream")


def test_an_rgb_png_gives_a_mask_to_see_and_says_how(here):
    done = type_("segment", "gold.png", "--out", "session")
    assert done.exit_code == 0, done.output
    assert "sections stored" in done.stdout
    assert "not known: sizes in px" in done.stdout
    assert "To see the masks: nanostream export session --format png --out session-masks" in (
        done.stdout
    )
    assert "segment again with --pixel-size NM and another --out" in done.stdout
    done = type_("export", "session", "--format", "png", "--out", "session-masks")
    assert done.stdout.split() == ["session-masks/gold.png.z0_mask.png"]
    picture = np.fromfile("session-masks/gold.png.z0_mask.png", np.uint8)
    mask = np.asarray(cv2.imdecode(picture, cv2.IMREAD_UNCHANGED))
    segmentation = ns.segment("gold.png")
    np.testing.assert_array_equal(mask > 0, segmentation.labels > 0)
    assert segmentation.summary.count > 0


def test_a_dm4_has_its_pixel_size(here):
    done = type_("segment", "gold.dm4", "--out", "session")
    assert done.exit_code == 0, done.output
    assert "not known" not in done.stdout
    assert "--pixel-size" not in done.stdout
    (section,) = ns.open_session("session").sections.itertuples()
    assert section.pixel_size_nm == pytest.approx(PIXEL_NM)
    segmentation = ns.segment("gold.dm4")
    assert segmentation.summary.count == section.count
    assert segmentation.pixel_size_nm == pytest.approx(PIXEL_NM)


def test_a_folder_of_tiffs_with_capital_endings_and_other_things(here):
    done = type_("segment", "day1", "--out", "session")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == (
        "nanostream: left out: day1/photo.jpg: nanostream does not read .jpg files"
    )
    assert "IMG_0.TIF.txt" not in done.output
    assert ns.open_session("session").section_ids() == ["IMG_0.TIF#0", "IMG_1.TIF#0"]
    (here / "day1" / "photo.jpg").unlink()
    found = ns.segment("day1", "all")
    assert [str(one.section) for one in found] == ["IMG_0.TIF#0", "IMG_1.TIF#0"]
    again = type_("segment", "day1/*.tif", "--out", "session")
    assert again.exit_code == 0
    assert "2 sections were in the session before" in again.stdout


def test_sizes_of_some_sections_are_said_to_be_of_those(here):
    done = type_("segment", "gold.png", "gold.dm4", "--out", "session")
    assert done.exit_code == 0, done.output
    assert "not known of 1 section, left out below" in done.stdout
    assert "of a movie" not in done.stdout
