"""Median filter and scaling: equal to SciPy's, and finite for everything a camera writes."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.segmentation.normalization import METHODS, median_filter, normalize

CAMERA_TYPES = ("int16", "uint16", "uint8", "float32")


def counts(dtype: str, shape: tuple[int, int] = (41, 53)) -> NDArray[Any]:
    """Camera counts that use the range of their type, negative ones where it has them."""
    noise = np.random.default_rng(0).normal(0.0, 1.0, shape)
    level, spread = {
        "int8": (10, 40),
        "uint8": (120, 40),
        "int16": (-100, 9000),
        "uint16": (40000, 6000),
    }.get(dtype, (200, 50))
    return (level + spread * noise).astype(dtype)


@pytest.mark.parametrize("dtype", CAMERA_TYPES)
def test_median_is_scipys_inside(dtype: str) -> None:
    pixels = counts(dtype)
    filtered = median_filter(pixels)

    assert filtered.dtype == pixels.dtype
    expected = ndimage.median_filter(pixels, 3, mode="nearest")
    np.testing.assert_array_equal(filtered[1:-1, 1:-1], expected[1:-1, 1:-1])


@pytest.mark.parametrize("dtype", CAMERA_TYPES)
def test_median_repeats_the_edge(dtype: str) -> None:
    pixels = counts(dtype)

    np.testing.assert_array_equal(
        median_filter(pixels), ndimage.median_filter(pixels, 3, mode="nearest")
    )


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [
        ("bool", "uint8"),
        ("int8", "int16"),
        ("float16", "float32"),
        ("int32", "float32"),
        ("float64", "float32"),
        (">i2", "int16"),
        (">u2", "uint16"),
    ],
)
def test_other_types_are_converted_without_loss(dtype: str, becomes: str) -> None:
    pixels = counts("uint8").astype(dtype)
    filtered = median_filter(pixels)

    assert filtered.dtype == becomes
    expected = ndimage.median_filter(pixels.astype(becomes), 3, mode="nearest")
    np.testing.assert_array_equal(filtered, expected)


def test_median_takes_away_a_hot_pixel_and_leaves_its_input_alone() -> None:
    pixels = np.full((9, 9), 50, np.int16)
    pixels[4, 4] = 32000

    assert (median_filter(pixels) == 50).all()
    assert pixels[4, 4] == 32000


def test_median_of_a_strided_view_is_that_of_its_copy() -> None:
    pixels = counts("int16")

    np.testing.assert_array_equal(
        median_filter(pixels[::-1, ::2]), median_filter(pixels[::-1, ::2].copy())
    )


def test_median_refuses_a_stack() -> None:
    with pytest.raises(ValueError, match=r"\(2, 8, 8\)"):
        median_filter(np.zeros((2, 8, 8), np.int16))


@pytest.mark.parametrize("dtype", [*CAMERA_TYPES, "int32", "float64", "float16"])
def test_every_method_is_its_formula(dtype: str) -> None:
    pixels = counts(dtype)
    exact = pixels.astype(np.float64)
    low, high = exact.min(), exact.max()
    expected = {
        "image-max": exact / high,
        "image-minmax": (exact - low) / (high - low),
        "dataset-max": exact / 5000.0,
        "standardize": (exact - exact.mean()) / exact.std(),
    }

    assert set(expected) == set(METHODS)
    for method, values in expected.items():
        scaled = normalize(pixels, method, maximum=5000.0)  # type: ignore[arg-type]
        assert scaled.dtype == np.float32
        # float32 keeps 7 digits; the counts of a camera lie far from 0 against their spread.
        np.testing.assert_allclose(scaled, values, rtol=1e-5, atol=1e-5, err_msg=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
@pytest.mark.parametrize("level", [0, 7, 100])
def test_a_constant_image_gives_finite_numbers(method: str, dtype: str, level: int) -> None:
    pixels = np.full((32, 32), level, dtype)

    scaled = normalize(pixels, method, maximum=10.0)  # type: ignore[arg-type]

    assert np.isfinite(scaled).all()
    if method in ("image-minmax", "standardize"):
        assert (scaled == 0).all()


def test_a_constant_image_that_float32_cannot_hold_exactly_is_flat() -> None:
    scaled = normalize(np.full((64, 64), 1234.5678, np.float32), "standardize")

    assert np.abs(scaled).max() < 1e-3


@pytest.mark.parametrize("maximum", [None, -1.0, float("nan")])
def test_dataset_max_needs_a_maximum(maximum: float | None) -> None:
    with pytest.raises(ValueError, match="dataset-max"):
        normalize(counts("int16"), "dataset-max", maximum=maximum)


def test_where_the_maximum_is_not_positive_nothing_is_divided() -> None:
    blank = np.zeros((8, 8), np.int16)
    negative = np.full((8, 8), -5, np.int16)

    assert (normalize(blank, "dataset-max", maximum=0.0) == 0).all()
    assert (normalize(negative, "image-max") == -5).all()


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="max-min"):
        normalize(counts("int16"), "max-min")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_normalize_leaves_its_input_alone(method: str) -> None:
    pixels = counts("float32")
    before = pixels.copy()
    normalize(pixels, method, maximum=1.0)  # type: ignore[arg-type]

    np.testing.assert_array_equal(pixels, before)
