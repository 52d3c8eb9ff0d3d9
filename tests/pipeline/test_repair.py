"""Masks that were removed or damaged are made again from the micrographs, as they were."""

from typing import Any

import h5py
import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.records import SectionId
from nanostream.results.folders import lock
from nanostream.results.mask_files import mask_path
from tests.pipeline.running import nanostream

OPTIONS: dict[str, Any] = {
    "interval_s": 0.0,
    "pixel_size_nm": DemoMicrograph.load().pixel_size_nm,
}


@pytest.fixture
def session(tmp_path):
    """A movie by settings of its own, and a micrograph by the usual ones."""
    images = [pixels for pixels, _ in demo_movie(3, shape=(300, 400), seed=5)]
    play(images, tmp_path / "data", name="gold", **OPTIONS)
    play(images[:1], tmp_path / "data", name="other", **OPTIONS)
    (tmp_path / "own.toml").write_text("[worker]\nmin_area_px = 900\nseparate = false\n")
    to = ("--out", tmp_path / "session", "--root", tmp_path / "data")
    own = ("--config", tmp_path / "own.toml")
    for files in ((tmp_path / "data" / "gold.mrc", *own), (tmp_path / "data",)):
        done = nanostream("segment", *files, *to)
        assert done.returncode == 0, done.stderr
    return ns.open_session(tmp_path / "session")


def whole(session, name):
    """Arrays and attributes of a mask."""
    with h5py.File(session.folder / mask_path(SectionId.parse(name))) as file:
        attributes = {key: np.asarray(value).tolist() for key, value in file.attrs.items()}
    return session.labels(name), session.probability(name), attributes


def test_what_can_be_made_again_is_and_the_rest_is_named(session, tmp_path):
    names = ["gold.mrc#0", "gold.mrc#1", "other.mrc#0"]
    masks = [session.folder / mask_path(SectionId.parse(name)) for name in names]
    before = [whole(session, name) for name in names]
    masks[0].unlink()
    masks[1].write_bytes(masks[1].read_bytes()[:2000])
    masks[2].unlink()
    image = demo_movie(1, shape=(300, 400), seed=6)
    play([pixels for pixels, _ in image], tmp_path / "changed", name="other", **OPTIONS)
    (tmp_path / "changed" / "other.mrc").replace(tmp_path / "data" / "other.mrc")

    told = nanostream("verify", session.folder)
    assert told.returncode == 1
    assert "nanostream repair" in told.stdout

    done = nanostream("repair", session.folder, "--watch", tmp_path / "data")
    assert done.returncode == 1
    assert "2 masks were made again" in done.stdout
    assert "other.mrc#0: not repaired: " in done.stderr
    assert "other.mrc has changed since section other.mrc#0 was segmented" in done.stderr
    for name, (labels, probability, attributes) in zip(names[:2], before, strict=False):
        now = whole(session, name)
        np.testing.assert_array_equal(now[0], labels)
        np.testing.assert_allclose(now[1], probability, atol=1.01 / 255)  # has no checksum
        assert now[2] == attributes
    assert not masks[2].exists()

    again = nanostream("repair", session.folder, "--watch", tmp_path / "data")
    assert "0 masks were made again" in again.stdout


def test_a_session_that_is_written_to_is_left_alone(session, tmp_path):
    held = lock(session.folder / "writer.lock")
    done = nanostream("repair", session.folder, "--watch", tmp_path / "data")
    held.close()
    assert done.returncode == 2
    assert "in use by another nanostream" in done.stderr
