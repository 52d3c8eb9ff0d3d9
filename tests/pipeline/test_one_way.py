"""Every kind of file live, by ``nanostream segment`` and in a notebook: the same results."""

import sys

import cv2
import numpy as np
import pandas as pd
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import demo_movie
from nanostream.records import SectionId
from tests.acquired import KINDS, write_all
from tests.pipeline.running import RunningSession, nanostream

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.timeout(300),
]

CONFIGURED_NM = 0.03
#: What a result says of the micrograph and of what was found in it, not of when and by whom.
COLUMNS = [
    *("section", "count", "count_edge", "area_fraction", "mean_diameter_px", "mean_diameter_nm"),
    *("height_px", "width_px", "pixel_size_nm", "pixels_crc32", "labels_crc32", "threshold"),
    *("domain_score", "warning", "pixel_size_source", "first_row", "stage_x_um", "acquired"),
    *("file_title", "piece_x_px", "piece_y_px", "piece_z", "min_max_mean"),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A session that was watched, with every kind of file."""
    folder = tmp_path_factory.mktemp("one-way")
    # Shrunk, so that whole particles are in a small picture.
    images = [
        np.rint(cv2.resize(pixels.astype(np.float32), (384, 384), interpolation=cv2.INTER_AREA))
        for pixels, _ in demo_movie(3, shape=(896, 896), seed=3)
    ]
    images = [pixels.astype(np.int16) for pixels in images]
    config = f"[watch]\npixel_size_nm = {CONFIGURED_NM}\n"
    with RunningSession(folder, "--stop-when-idle", 4, config=config) as running:
        sections = write_all(running.watch, images)
        running.wait_for_stored(len(sections))
        assert running.end() == 0, running.logs()
    stored = running.session.sections
    assert sorted(stored["section"]) == sorted(str(SectionId(path, z)) for path, z in sections)
    assert (stored["count"] > stored["count_edge"]).all()  # there is something to compare
    return running


@pytest.fixture(scope="module")
def files(live):
    return [live.watch / name / file for name, kind in KINDS.items() for file in kind.sections]


def test_nanostream_segment_gives_the_same_masks_and_tables(live, files, tmp_path):
    config = live.out / "config.json"
    done = nanostream(
        *("segment", *files, "--root", live.watch, "--out", tmp_path / "offline"),
        *("--config", config),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    offline, watched = ns.open_session(tmp_path / "offline"), live.session
    pd.testing.assert_frame_equal(offline.sections[COLUMNS], watched.sections[COLUMNS])
    pd.testing.assert_frame_equal(*(_comparable(session) for session in (offline, watched)))
    for section in watched.sections["section"]:
        np.testing.assert_array_equal(offline.labels(section), watched.labels(section))
        np.testing.assert_array_equal(offline.probability(section), watched.probability(section))


def _comparable(session):
    """The particles, with a time where there is one of the acquisition: others are of the clock."""
    sections, particles = session.sections, session.particles
    acquired = set(sections.loc[sections["acquired"].notna(), "section"])
    known = particles["section"].isin(acquired)
    assert known.any()
    return particles.assign(time_s=particles["time_s"].where(known))


def test_segment_like_a_session_makes_every_mask_again(live, files, tmp_path):
    again, watched = tmp_path / "again", live.session
    done = nanostream("segment", *files, "--like", live.out, "--out", again)
    assert done.returncode == 0, done.stderr + done.stdout  # 1 if a mask were another
    found = ns.open_session(again).sections
    assert found["labels_crc32"].tolist() == watched.sections["labels_crc32"].tolist()


def test_a_notebook_gives_the_same_masks_and_tables(live):
    sections, particles = live.session.sections, live.session.particles
    for row in sections.itertuples():
        found = ns.segment(live.watch / row.path, row.z, pixel_size_nm=CONFIGURED_NM)
        np.testing.assert_array_equal(found.labels, live.session.labels(row.section))
        assert found.pixel_size_nm == row.pixel_size_nm
        stored = particles.query("section == @row.section").reset_index(drop=True)
        table = found.particles.reset_index(drop=True)
        pd.testing.assert_frame_equal(stored[table.columns], table)


def test_the_pixel_size_of_each_kind_is_right(live):
    table = live.session.sections
    for name, kind in KINDS.items():
        of_kind = table[table["path"].str.startswith(f"{name}/")]
        expected = kind.pixel_size_nm or CONFIGURED_NM
        assert of_kind["pixel_size_nm"].tolist() == pytest.approx([expected] * len(of_kind))
        assert set(of_kind["pixel_size_source"]) == {kind.source or "configuration"}
