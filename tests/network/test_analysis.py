"""One micrograph, from a notebook."""

import json
import math
import re
import shutil
from typing import Any

import cv2
import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

import nanostream as ns
from nanostream.acquisition.simulator import DemoMicrograph, demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import ModelError
from nanostream.records import PARTICLE_DTYPE, Result
from nanostream.segmentation.domain import describe, doubt, fit_reference
from nanostream.segmentation.models import ModelCard, find_model, import_folder, import_model
from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.segmentation.unet import build_network, build_unet
from nanostream.transport import messages


@pytest.fixture(scope="module")
def micrograph():
    return next(demo_movie(1, shape=(640, 640), seed=11))


def test_the_shipped_network_finds_simulated_particles(micrograph):
    pixels, truth = micrograph
    found = ns.segment(pixels, pixel_size_nm=0.026)
    overlap = np.sum((found.labels > 0) & (truth > 0))
    assert 2 * overlap / (np.sum(found.labels > 0) + np.sum(truth > 0)) > 0.85
    assert found.labels.dtype == np.int32
    assert found.probability.dtype == np.float32
    assert list(found.particles.columns) == [*(PARTICLE_DTYPE.names or ())]
    assert found.summary.count == found.labels.max() == len(found.particles)
    assert {"filter_s", "predict_s", "label_s", "measure_s"} == set(found.timings_s)


@pytest.fixture(scope="module")
def with_depth(tmp_path_factory):
    """A small untrained network with two outputs, and its card."""
    folder = tmp_path_factory.mktemp("with-depth")
    file = folder / "w.weights.h5"
    build_network("unet-depth", (4, 6)).save_weights(file)
    card = ModelCard(
        name="with-depth",
        features=(4, 6),
        architecture="unet-depth",
        normalization="standardize",
        threshold=0.5,
        weights=file.name,
        weights_sha256="0",
        min_area_px=12,
    )
    return card, file


def test_a_network_with_depth_separates_what_it_is_asked_to(micrograph, with_depth):
    """Untrained, it calls half of the noise particle: much to separate, and nothing may be lost."""
    frame = ns.Frame(ns.SectionId("a.mrc", 0), micrograph[0][:300, :260])
    whole = Analyzer(Worker(separate=False), model=with_depth)(frame)
    parted = Analyzer(Worker(), model=with_depth)(frame)
    assert Analyzer(Worker(min_area_px=40), model=with_depth).min_area_px == 40
    assert not whole.particles["split"].any()
    assert whole.particles["area_px"].min() >= 12
    np.testing.assert_array_equal(parted.labels[whole.labels > 0] > 0, True)
    assert parted.labels.max() == len(parted.particles) >= len(whole.particles)
    assert parted.particles["split"].sum() != 1
    np.testing.assert_array_equal(whole.probability, parted.probability)


def test_a_bare_array_without_a_pixel_size_has_sizes_in_pixels_only(micrograph):
    particles = ns.segment(micrograph[0]).particles
    assert particles["diameter_nm"].isna().all()
    assert (particles["diameter_px"] > 0).all()


def test_a_path_is_segmented_as_its_frame(micrograph, tmp_path):
    np.save(tmp_path / "gold.npy", np.stack([micrograph[0][::-1], micrograph[0]]))
    found = ns.segment(str(tmp_path / "gold.npy"), 1, pixel_size_nm=0.026)
    frame = ns.segment(ns.read_section(tmp_path / "gold.npy", 1), pixel_size_nm=0.026)
    array = ns.segment(micrograph[0], pixel_size_nm=0.026)
    for other in (frame, array):
        np.testing.assert_array_equal(found.labels, other.labels)
        pd.testing.assert_frame_equal(
            found.particles.drop(columns="frame"), other.particles.drop(columns="frame")
        )
    assert found.pixel_size_nm == 0.026


def test_the_pixel_size_of_a_frame_is_not_replaced(micrograph):
    frame = ns.Frame(ns.SectionId("a.mrc", 0), micrograph[0], pixel_size_nm=0.05)
    assert ns.segment(frame, pixel_size_nm=0.026).pixel_size_nm == 0.05


def test_a_higher_threshold_takes_pixels_away(micrograph):
    low, high = (ns.segment(micrograph[0], threshold=t).labels > 0 for t in (0.2, 0.95))
    assert (low | high).sum() == low.sum() > high.sum()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (17, 700)])
def test_any_pixel_type_and_size_and_a_blank_image_go(dtype, shape):
    segmentation = ns.segment(np.zeros(shape, dtype))
    assert segmentation.labels.shape == segmentation.probability.shape == shape
    assert np.isfinite(segmentation.probability).all()


@pytest.mark.parametrize("value", [0, 1000, 32767])
def test_an_image_of_one_value_is_called_that_and_nothing_else(value):
    segmentation = ns.segment(np.full((300, 300), value, np.int16))
    assert segmentation.warning.startswith(f"all pixels are {value}: blanked")
    assert "uncertain" not in segmentation.warning


def test_pixels_that_are_no_numbers_are_counted_and_cost_only_what_is_there(micrograph):
    whole = ns.segment(micrograph[0].astype(np.float32))
    holed = micrograph[0].astype(np.float32)
    holed[300:320, 300:320] = np.nan
    holed[0, 0] = np.inf
    found = ns.segment(holed)
    assert found.warning.startswith("401 pixels were NaN or infinite and replaced by the median")
    assert np.isfinite(found.particles["mean_intensity"]).all()
    both = np.sum((found.labels > 0) & (whole.labels > 0))
    assert 2 * both / (np.sum(found.labels > 0) + np.sum(whole.labels > 0)) > 0.95


def test_a_model_scaled_by_the_data_sets_maximum_keeps_the_running_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path))
    build_unet().save_weights(tmp_path / "w.weights.h5")
    options: dict[str, Any] = {"normalization": "dataset-max", "threshold": 0.5}
    import_model(tmp_path / "w.weights.h5", name="running", **options)
    import_model(tmp_path / "w.weights.h5", name="fixed", normalization_maximum=500.0, **options)

    def used(model, **options):
        analyzer = Analyzer(Worker(model=model), **options)
        frames = [ns.Frame(ns.SectionId("a.mrc", z), np.full((32, 32), value, np.int16))
                  for z, value in enumerate((100, 300, 200))]  # fmt: skip
        return [analyzer(frame).normalization_maximum for frame in frames]

    assert used("running") == [100, 300, 300]
    assert used("running", normalization_maximum=250.0) == [250, 300, 300]
    assert used("fixed") == [500, 500, 500]


def test_a_list_of_rows_is_an_image():
    assert ns.segment([[1, 2], [3, 4]]).labels.shape == (2, 2)


def test_a_list_of_images_and_all_of_a_wildcard_are_lists_of_results(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(20))
    np.save(tmp_path / "b.NPY.npy", np.zeros((2, 9, 7)))
    found = ns.segment([np.zeros((4, 5)), tmp_path / "a.npy"])
    assert [seg.labels.shape for seg in found] == [(4, 5), (20, 20)]
    found = ns.segment(f"{tmp_path}/*.npy", "all")
    assert [str(seg.section) for seg in found] == ["a.npy#0", "b.NPY.npy#0", "b.NPY.npy#1"]


def test_an_unknown_model_is_said():
    with pytest.raises(ModelError, match="unheard-of"):
        ns.segment(np.zeros((8, 8), np.int16), model="unheard-of")


# --- out of its depth ----------------------------------------------------------------------------

PIXEL_NM = 0.026


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Bring the shipped network under another card; the name to ask for it."""
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))

    def bring(name, **changes):
        _, weights = find_model("default")
        folder = tmp_path / name
        shutil.copytree(weights.parent, folder)
        card = json.loads((folder / "card.json").read_text()) | {
            "name": name,
            "hands_over_to": None,
        }
        card |= changes
        (folder / "card.json").write_bytes(msgspec.json.encode(card))
        import_folder(folder)
        return name

    return bring


def test_regions_below_the_cards_peak_are_left_out_unless_a_lower_threshold_is_given(
    micrograph, brought
):
    pixels, _ = micrograph

    def labels(peak, threshold=None):
        model = brought(f"peak-{peak}", peak=peak) if threshold is None else f"peak-{peak}"
        return ns.segment(pixels, model=model, threshold=threshold).labels

    every, sure = labels(0.0), labels(0.999)
    assert 0 < sure.max() < every.max()
    assert np.array_equal(sure > 0, (sure > 0) & (every > 0))
    own = find_model("default")[0].threshold
    assert np.array_equal(labels(0.999, own), sure)
    assert labels(0.999, 0.9 * own).max() == labels(0.0, 0.9 * own).max()


def test_who_leaves_out_more_for_their_peak_than_is_found_says_so(micrograph, brought):
    pixels, _ = micrograph
    model = brought("strict", peak=0.9999999)
    found = ns.segment(pixels, model=model, pixel_size_nm=PIXEL_NM)
    assert found.summary.count == 0
    (number,) = re.findall(r"(\d+) regions are nowhere above", found.warning)
    usual = ns.segment(pixels, model=brought("usual", peak=0.0), pixel_size_nm=PIXEL_NM)
    assert int(number) >= usual.summary.count - usual.particles["split"].sum()
    assert "no particles were found; a threshold below 0.51 shows them" in found.warning
    assert "nowhere above" not in usual.warning


# Pixels twice as large hold less: what is faint is not seen alike, and the network knows them, too.
@pytest.mark.parametrize(
    ("zoom", "others", "part"),
    [(2.0, 1, 0.7), (0.5, 2, 0.9)],
    ids=["too small pixels", "too large pixels"],
)
def test_a_micrograph_outside_of_the_models_pixel_sizes_gives_the_same_particles(
    micrograph, brought, zoom, others, part
):
    """The same scene at half, or twice, the only pixel size that the model knows.

    Whole regions: a pair that is split for its shape may just not be at another pixel size.
    """
    pixels, _ = micrograph
    model = brought("one-pixel-size", pixel_size_nm=[PIXEL_NM, PIXEL_NM])
    analyzer = Analyzer(Worker(model=model, separate=False))

    def segment(pixels, pixel_size_nm):
        return analyzer(ns.Frame(ns.SectionId("a.mrc", 0), pixels, pixel_size_nm=pixel_size_nm))

    expected = segment(pixels, PIXEL_NM)
    method = cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA
    other = cv2.resize(pixels.astype(np.float32), None, fx=zoom, fy=zoom, interpolation=method)
    found = segment(other, PIXEL_NM / zoom)

    assert found.labels.shape == found.probability.shape == other.shape
    back = cv2.resize(
        (found.labels > 0).astype(np.uint8), pixels.shape[::-1], interpolation=cv2.INTER_NEAREST
    )
    both = np.count_nonzero((back > 0) & (expected.labels > 0))
    assert 2 * both / (np.count_nonzero(back) + np.count_nonzero(expected.labels)) > 0.87
    # Below there are only parts of particles that the edge cuts.
    one, another = (s.particles.query("diameter_nm > 1.5") for s in (found, expected))
    apart_nm = cdist(one[["x_nm", "y_nm"]], another[["x_nm", "y_nm"]])
    same = apart_nm.min(1) < 0.1
    assert len(one) == len(another) >= 3
    # But for those that touch: where one ends is not the same to a pixel.
    assert same.sum() >= len(one) - others
    diameters = another["diameter_nm"].to_numpy()[apart_nm.argmin(1)]
    ratios = one["diameter_nm"][same] / diameters[same]
    assert np.abs(ratios - 1.0).mean() < 0.04
    assert np.abs(ratios - 1.0).max() < 0.08
    # Without the range the network sees particles of another size than it was trained on.
    blind = ns.segment(other, model=brought("blind", pixel_size_nm=None))
    small = cv2.resize(blind.probability, pixels.shape[::-1], interpolation=cv2.INTER_AREA)
    seen = cv2.resize(found.probability, pixels.shape[::-1], interpolation=cv2.INTER_AREA)
    miss, error = (np.abs(p - expected.probability).mean() for p in (small, seen))
    assert error < part * miss


def test_a_pixel_size_that_is_absurd_is_warned_of_and_not_resampled(micrograph, brought):
    model = brought("far-away", pixel_size_nm=[0.01, 0.05])
    found = ns.segment(micrograph[0], model=model, pixel_size_nm=0.5)
    plain = ns.segment(micrograph[0], model=model)
    assert "pixel size 0.5 nm is too far from the model's 0.01 to 0.05 nm" in found.warning
    assert plain.warning == ""
    np.testing.assert_array_equal(found.probability, plain.probability)


def test_a_card_without_training_data_gives_no_score(micrograph, brought):
    found = ns.segment(micrograph[0], model=brought("imported", domain=None), pixel_size_nm=0.026)
    assert math.isnan(found.domain_score)
    assert found.warning == ""


@pytest.fixture
def knowing(brought):
    """A model that knows demo micrographs."""
    looks, doubts, rng = [], [], np.random.default_rng(3)
    for name in ("gold", "cdse", "gold-and-cdse"):
        expected = DemoMicrograph.load(name).expected_counts
        for number in range(30):
            top, left = rng.integers(0, 513, 2)
            counts = expected[top : top + 512, left : left + 512] * rng.uniform(0.5, 2.0)
            pixels = rng.poisson(counts).astype(np.int16)
            looks.append(describe(normalize(median_filter(pixels), "standardize")))
            if number % 15 == 0:
                found = ns.segment(pixels)
                doubts.append(doubt(found.probability, found.labels))
    reference = fit_reference(np.array(looks), np.array(doubts))
    reference = msgspec.structs.replace(reference, most_doubt=0.5)
    return brought("knowing", domain=msgspec.to_builtins(reference))


def test_a_demo_micrograph_scores_high_and_noise_is_warned_of(micrograph, knowing):
    known = ns.segment(micrograph[0], model=knowing, pixel_size_nm=PIXEL_NM)
    assert known.domain_score > 0.05
    assert known.warning == ""
    noise = np.random.default_rng(1).poisson(200, (640, 640)).astype(np.int16)
    strange = ns.segment(noise, model=knowing, pixel_size_nm=PIXEL_NM)
    assert strange.domain_score < 0.001
    assert "unlike the training data (domain score " in strange.warning
    assert ": check the mask" in strange.warning

    # What is judged travels and is stored as it was.
    frame = ns.Frame(ns.SectionId("a.mrc", 0), noise, pixel_size_nm=PIXEL_NM)
    arrived = messages.decode(messages.encode(Result.of(frame, strange)))
    assert (arrived.domain_score, arrived.warning) == (strange.domain_score, strange.warning)
