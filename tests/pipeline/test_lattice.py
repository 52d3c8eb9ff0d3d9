"""Lattice fringes of a session's particles, as a user asks for them."""

import json
from typing import Any

import cv2

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from tests.pipeline.running import nanostream


def test_fringes_are_listed_and_spectra_drawn(tmp_path):
    images = [pixels for pixels, _ in demo_movie(2, shape=(300, 400), seed=5)]
    options: dict[str, Any] = {"pixel_size_nm": DemoMicrograph.load().pixel_size_nm}
    play(images, tmp_path / "data", name="gold", interval_s=0.0, **options)
    session = tmp_path / "session"
    done = nanostream("segment", tmp_path / "data" / "gold.mrc", "--out", session)
    assert done.returncode == 0, done.stderr

    ask = ("lattice", session, "--watch", tmp_path / "data", "--phase", "Au")
    done = nanostream(*ask, "--spectra", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gold.mrc#1: fringes in ")
    picture = cv2.imread(str(tmp_path / "out" / "gold.mrc.z1.spectrum.png"))
    assert picture is not None
    assert picture.shape == (1024, 1024, 3)

    done = nanostream(*ask, "--json", "gold.mrc#0")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["gold.mrc#0"]
    assert {"label", "crystallinity", "phases", "evidence", "reason"} <= found["particles"][
        0
    ].keys()
    assert all(0.09 < peak["d_nm"] < 0.3 for peak in found["peaks"])

    (tmp_path / "data" / "gold.mrc").unlink()
    done = nanostream(*ask)
    assert done.returncode == 1
    assert "gold.mrc#1: no lattice:" in done.stderr

    done = nanostream("lattice", session, "--watch", tmp_path / "data", "--phase", "Xx")
    assert done.returncode == 2
    assert "'Xx' is not known: there are Au" in done.stderr
