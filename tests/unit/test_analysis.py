"""One micrograph, from a notebook."""

import numpy as np
import pytest

import nanostream as ns
from nanostream.acquisition.simulator import demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import ModelError
from nanostream.records import PARTICLE_DTYPE
from nanostream.segmentation.models import import_model
from nanostream.segmentation.unet import build_unet


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
    assert list(found.particles.columns) == list(PARTICLE_DTYPE.names)
    assert found.summary.count == found.labels.max() == len(found.particles)
    assert {"filter_s", "predict_s", "label_s", "measure_s"} == set(found.timings_s)


def test_a_bare_array_without_a_pixel_size_has_sizes_in_pixels_only(micrograph):
    particles = ns.segment(micrograph[0]).particles
    assert particles["diameter_nm"].isna().all()
    assert (particles["diameter_px"] > 0).all()


def test_a_higher_threshold_takes_pixels_away(micrograph):
    low, high = (ns.segment(micrograph[0], threshold=t).labels > 0 for t in (0.2, 0.95))
    assert (low | high).sum() == low.sum() > high.sum()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (17, 700)])
def test_any_pixel_type_and_size_and_a_blank_image_go(dtype, shape):
    segmentation = ns.segment(np.zeros(shape, dtype))
    assert segmentation.labels.shape == segmentation.probability.shape == shape
    assert np.isfinite(segmentation.probability).all()


def test_a_model_scaled_by_the_data_sets_maximum_keeps_the_running_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path))
    build_unet().save_weights(tmp_path / "w.weights.h5")
    options = {"normalization": "dataset-max", "threshold": 0.5}
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


def test_an_unknown_model_is_said():
    with pytest.raises(ModelError, match="unheard-of"):
        ns.segment(np.zeros((8, 8), np.int16), model="unheard-of")
