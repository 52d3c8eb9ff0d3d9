"""A micrograph outside of a network's pixel sizes comes to the nearest end of them, and back."""

import numpy as np
import pytest

from nanostream.segmentation.resampling import (
    MOST_PX,
    needed_zoom,
    resample,
    to_shape,
    zoom_within,
)

KNOWN_NM = (0.01, 0.1)


@pytest.mark.parametrize(
    ("pixel_size_nm", "known_nm", "zoom"),
    [
        (0.05, KNOWN_NM, 1.0),
        (0.01, KNOWN_NM, 1.0),
        (0.1, KNOWN_NM, 1.0),
        (0.00995, KNOWN_NM, 1.0),
        (0.1009, KNOWN_NM, 1.0),
        (0.005, KNOWN_NM, 0.5),
        (0.25, KNOWN_NM, 2.5),
        (None, KNOWN_NM, 1.0),
        (0.25, None, 1.0),
        (0.05, (0.02, 0.02), 2.5),
    ],
)
def test_the_zoom_leads_to_the_nearest_end_of_the_range(pixel_size_nm, known_nm, zoom):
    assert needed_zoom(pixel_size_nm, known_nm) == pytest.approx(zoom)


@pytest.mark.parametrize(
    ("needed", "shape", "made"),
    [
        (4.0, (1024, 1024), 4.0),
        (4.1, (1024, 1024), 1.0),
        (0.1, (4096, 4096), 0.1),
        (0.01, (4096, 4096), 1.0),
        (2.8, (4096, 4096), 2.8),
        (2.9, (4096, 4096), 1.0),
    ],
)
def test_an_absurd_or_enormous_zoom_is_not_made(needed, shape, made):
    assert zoom_within(needed, shape) == made
    assert made**2 * shape[0] * shape[1] <= MOST_PX


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_within_the_range_nothing_is_copied(dtype):
    image = np.ones((300, 200), dtype)
    assert resample(image, 1.0) is image
    probability = np.ones((300, 200), np.float32)
    assert to_shape(probability, (300, 200)) is probability


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("zoom", [0.37, 0.5, 1.7, 3.0])
@pytest.mark.parametrize("shape", [(301, 200), (1, 1), (17, 400)])
def test_a_probability_comes_back_at_every_pixel_of_the_micrograph(dtype, zoom, shape):
    image = (np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)
    seen = resample(image, zoom)
    assert seen.dtype == (np.float32 if seen.shape != shape else dtype)
    assert seen.shape == tuple(max(1, round(side * zoom)) for side in shape)
    back = to_shape((seen > 50).astype(np.float32), shape)
    assert back.shape == shape
    assert back.dtype == np.float32
    assert 0 <= back.min() <= back.max() <= 1


def test_what_is_shrunk_loses_noise_as_a_larger_pixel_does():
    counts = np.random.default_rng(1).poisson(2.0, (512, 512)).astype(np.int16)
    half = resample(counts, 0.5)
    assert half.mean() == pytest.approx(counts.mean(), rel=1e-4)
    assert half.std() == pytest.approx(counts.std() / 2, rel=0.02)


@pytest.mark.parametrize("zoom", [0.5, 0.7, 1.6, 3.0])
def test_a_place_stays_where_it_is(zoom):
    y, x = np.mgrid[:240, :320]
    spot = np.exp(-((y - 70.0) ** 2 + (x - 210.0) ** 2) / 200).astype(np.float32)
    back = to_shape(resample(spot, zoom), spot.shape)
    centre = [float((axis * back).sum() / back.sum()) for axis in (y, x)]
    assert centre == pytest.approx([70.0, 210.0], abs=0.1)
