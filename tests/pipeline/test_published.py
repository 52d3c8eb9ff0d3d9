"""Real images and the network published with the paper, live and offline."""

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import StackWriter
from tests.pipeline.running import RunningSession, nanostream

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEIGHTS = DATA / "httem" / "unet32_AuCdSeDots_09_final.h5"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.skipif(not WEIGHTS.exists(), reason=f"no real images and weights in {DATA}"),
]


def grey(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def dice(one, other):
    return 2 * np.sum(one & other) / (one.sum() + other.sum())


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The published network, imported as a user would."""
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))

    def bring(name, normalization, threshold):
        scaling = ["--normalization", normalization, "--threshold", threshold]
        done = nanostream("models", "import", WEIGHTS, "--name", name, *scaling)
        assert done.returncode == 0, done.stderr
        return name

    return bring


def test_twenty_real_images_are_segmented_while_they_are_written(tmp_path, published):
    model = published("published", "image-minmax", 0.7)
    written_s = []
    with RunningSession(tmp_path, "--model", model) as running:
        running.wait_for_ready("worker")
        with StackWriter(running.watch / "sintering.mrc") as stack:
            for number in range(20):
                stack.append(grey(DATA / "sintering" / f"image_{number:02}.png").astype(np.int16))
                written_s.append(time.time())
                time.sleep(0.2)
                running.wait_for_stored(number - 1)  # with the file still open
        running.wait_for_stored(20)
        running.stop()
    live = running.session
    waited_s = live.sections.sort_values("z")["stored_s"].to_numpy() - np.array(written_s)
    print(
        f"from the save to the commit: median {np.median(waited_s):.2f} s, {waited_s.max():.2f} s"
    )

    found = [
        dice(
            live.labels(f"sintering.mrc#{number}") > 0,
            grey(DATA / "sintering" / f"label_{number:02}.png") > 0,
        )
        for number in range(20)
    ]
    print(f"mean Dice {np.mean(found):.4f}")
    assert np.mean(found) == pytest.approx(0.926, abs=0.01)
    done = nanostream("verify", running.out, "--watch", running.watch)
    assert done.returncode == 0, done.stdout

    stack_file = running.watch / "sintering.mrc"
    done = nanostream("segment", stack_file, "--out", tmp_path / "offline", "--model", model)
    assert done.returncode == 0, done.stderr
    offline = ns.open_session(tmp_path / "offline")
    pd.testing.assert_frame_equal(live.particles, offline.particles)
    for section in live.sections["section"]:
        np.testing.assert_array_equal(live.labels(section), offline.labels(section))


@pytest.mark.parametrize(("scaling", "expected"), [("image-max", 0.898), ("image-minmax", 0.834)])
def test_the_published_network_on_gold(published, scaling, expected):
    model = published(f"published-{scaling}", scaling, 0.4)
    tile, truth = grey(DATA / "httem" / "tile_au.tif"), grey(DATA / "httem" / "tile_au_label.png")
    segmentation = ns.segment(tile, model=model)
    assert dice(segmentation.labels > 0, truth > 0) == pytest.approx(expected, abs=0.01)


def test_the_shipped_network_on_gold():
    tile, truth = grey(DATA / "httem" / "tile_au.tif"), grey(DATA / "httem" / "tile_au_label.png")
    found = dice(ns.segment(tile).labels > 0, truth > 0)
    print(f"shipped network on tile_au: Dice {found:.3f}")
    assert found >= 0.75
