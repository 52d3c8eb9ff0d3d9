"""Examples to train on: filtered, resampled and cut as the live network sees micrographs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanostream.errors import DataSetError
from nanostream.segmentation.normalization import Method, median_filter, normalize
from nanostream.training.examples import TILE_PX, as_int16, read_examples
from nanostream.training.sources import Source, find_sources, read_frames
from nanostream.training.views import augment


def png(path: Path, grey: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())


def labelled(folder: Path, name: str, shape=(96, 96), *, low=1000, dtype=np.uint16) -> np.ndarray:
    """A random image with its upper left quarter labelled."""
    rng = np.random.default_rng(len(name))
    pixels = rng.integers(low, low + 900, shape).astype(dtype)
    truth = np.zeros(shape, np.uint8)
    truth[: shape[0] // 2, : shape[1] // 2] = 255
    png(folder / f"{name}_label.png", truth)
    np.save(folder / f"{name}.npy", pixels)
    return pixels


def scene(
    folder: Path,
    number: int,
    material: str = "Au",
    size: int = 96,
    doses: tuple[float, float] = (500.0, 500.0),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((2, size, size), 100, np.int16)
    pixels[0, 5, 5] = 30000  # a hot pixel
    instances = np.zeros((size, size), np.uint16)
    instances[:4] = 2
    text = {
        "particles": [{"material": material}],
        "pixel_size_nm": 0.03,
        "exposures": [{"dose_e_per_a2": dose} for dose in doses],
    }
    path = folder / f"scene_{number:04d}.npz"
    np.savez(path, pixels=pixels, instances=instances, scene=np.array(json.dumps(text)))
    return path


def test_the_exposures_of_a_scene_share_its_truth(tmp_path: Path) -> None:
    sources = [Source(scene(tmp_path, 0)), Source(scene(tmp_path, 1, "CdSe"))]

    examples, sizes_nm = read_examples(sources)

    assert (np.array(examples.images) == 100).all()  # the hot pixel is gone
    assert np.shape(examples.images) == (4, 96, 96)
    assert np.shape(examples.labels) == (2, 96, 96)
    assert examples.scene_of.tolist() == [0, 0, 1, 1]
    assert examples.materials == ("Au", "CdSe")
    assert sizes_nm == [0.03] * 4


def test_a_few_images_are_drawn_as_often_as_many_simulated_ones(tmp_path: Path) -> None:
    pixels = labelled(tmp_path, "a")
    for number in range(4):
        scene(tmp_path / "sims", number)

    examples, _ = read_examples(find_sources([tmp_path]).sources)

    mine = [image.max() > 100 for image in examples.images]
    assert (sum(mine), len(mine)) == (8, 16)
    assert {int(examples.scene_of[k]) for k in np.flatnonzero(mine)} == {0}
    assert np.array(examples.images)[mine].max() <= pixels.max() // 2


def test_images_of_different_sizes_stay_as_they_are(tmp_path: Path) -> None:
    small = labelled(tmp_path, "a", (64, 80))
    labelled(tmp_path, "b")

    examples, sizes_nm = read_examples(find_sources([tmp_path]).sources)

    shapes = [(64, 80), (96, 96)]
    assert [image.shape for image in examples.images] == shapes
    assert [label.shape for label in examples.labels] == shapes
    assert examples.images[0].max() <= small.max() // 2
    assert sizes_nm == []


def test_finer_pixels_are_averaged_before_they_are_learnt_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((160, 160), np.uint8)
    truth[32:96, 16:80] = 1
    png(tmp_path / "a_label.png", truth)
    np.save(tmp_path / "a.npy", rng.poisson(5.0 - 2.0 * truth).astype(np.int16))
    sources = find_sources([tmp_path]).sources

    examples, sizes_nm = read_examples(sources, pixel_size_nm=0.01, finest_nm=0.02)
    coarse, coarse_nm = read_examples(sources, pixel_size_nm=0.05, finest_nm=0.02)

    assert (sizes_nm, coarse_nm) == ([0.02], [0.05])
    assert coarse.images[0].shape == (160, 160)
    np.testing.assert_array_equal(examples.labels[0] > 0, truth[::2, ::2] > 0)
    image = examples.images[0].astype(float)
    assert len(np.unique(image)) > 20  # averages of few electrons are not rounded to counts
    inside = examples.labels[0] > 0
    assert image[inside].mean() < image[~inside].mean() - image.std()


def test_every_pixel_of_a_large_image_is_in_a_tile(tmp_path: Path) -> None:
    side = TILE_PX + 100
    ramp = np.add.outer(np.arange(side), np.arange(side)).astype(np.int16)
    np.save(tmp_path / "a.npy", ramp)
    png(tmp_path / "a_label.png", np.eye(side, dtype=np.uint8))

    examples, _ = read_examples(find_sources([tmp_path]).sources)

    assert np.shape(examples.images) == (4, TILE_PX, TILE_PX)
    assert [int(tile[1, 1]) for tile in examples.images] == [2, 102, 102, 202]
    assert max(tile.max() for tile in examples.images) >= 2 * side - 4
    assert examples.scene_of.tolist() == [0, 1, 2, 3]


def test_numbered_and_two_valued_labels_mean_the_same(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    numbers = np.zeros((96, 96), np.uint16)
    numbers[:48, :24], numbers[:48, 24:48] = 7, 9
    png(tmp_path / "b_label.png", numbers)
    np.save(tmp_path / "b.npy", np.full((96, 96), 5, np.int16))

    examples, _ = read_examples(find_sources([tmp_path]).sources)

    np.testing.assert_array_equal(examples.labels[0] > 0, examples.labels[1] > 0)
    assert set(np.unique(examples.labels[0])) == {0, 1}
    assert set(np.unique(examples.labels[1])) == {0, 7, 9}  # of particles that touch


def test_pixels_between_0_and_1_are_stretched_where_it_does_no_harm(tmp_path: Path) -> None:
    pixels = labelled(tmp_path, "a", dtype=np.float32)
    counts, _ = read_examples(find_sources([tmp_path]).sources)
    pixels /= 5000.0
    pixels[3, 3] = 50.0  # a hot pixel must not take the range
    np.save(tmp_path / "a.npy", pixels)
    sources = find_sources([tmp_path]).sources

    examples, _ = read_examples(sources)

    one, other = (np.ravel(array).astype(float) for array in (counts.images, examples.images))
    assert np.corrcoef(one, other)[0, 1] > 0.999
    assert np.ptp(other) == 32767
    with pytest.raises(DataSetError, match=r"a\.npy#0: float32 pixels"):
        read_examples(sources, normalization="image-max")


@pytest.mark.parametrize("size_nm", [0.05, 0.01])
def test_pixels_that_are_no_numbers_are_refused_whether_resampled_or_not(
    tmp_path: Path, size_nm: float
) -> None:
    pixels = labelled(tmp_path, "a", (160, 160), dtype=np.float32)
    pixels[80:90, 80:90] = np.nan
    np.save(tmp_path / "a.npy", pixels)

    with pytest.raises(DataSetError, match=r"a\.npy#0"):
        read_examples(find_sources([tmp_path]).sources, pixel_size_nm=size_nm, finest_nm=0.02)


def test_counts_stay_counts_for_a_network_that_is_scaled_by_them(tmp_path: Path) -> None:
    pixels = labelled(tmp_path, "a", (160, 160), dtype=np.int16)
    sources = find_sources([tmp_path]).sources

    examples, _ = read_examples(
        sources, pixel_size_nm=0.01, finest_nm=0.02, normalization="dataset-max"
    )

    assert examples.images[0].shape == (80, 80)
    assert examples.images[0].mean() == pytest.approx(pixels.mean(), rel=0.02)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("scaling", ["standardize", "image-max", "image-minmax", "dataset-max"])
def test_what_is_learnt_from_is_scaled_as_what_is_live(
    tmp_path: Path, dtype: type, scaling: Method
) -> None:
    pixels = labelled(tmp_path, "a", dtype=dtype)
    maximum = 2.0 * float(pixels.max()) if scaling == "dataset-max" else None
    live = normalize(median_filter(pixels), scaling, maximum=maximum)
    examples, _ = read_examples(
        find_sources([tmp_path]).sources, normalization=scaling, maximum=maximum
    )

    seen, _ = augment(
        examples.images[0],
        examples.labels[0],
        np.random.default_rng(0),
        crop_px=len(pixels),
        span=None if examples.spans is None else examples.spans[0],
        alteration=0.0,
    )

    if scaling == "standardize":  # level and contrast are changed a little in every view
        seen = normalize(seen, "standardize")
    np.testing.assert_allclose(np.sort(seen, None), np.sort(live, None), atol=0.01)


def test_the_greatest_count_of_a_data_set_is_the_recorded_one(tmp_path: Path) -> None:
    for name, dtype, greatest in (("a", np.uint16, 30000), ("bb", np.int16, 8000)):
        pixels = labelled(tmp_path, name, dtype=dtype)
        pixels[:8, :8] = greatest
        np.save(tmp_path / f"{name}.npy", pixels)
    sources = find_sources([tmp_path]).sources

    examples, _ = read_examples(sources, normalization="dataset-max")
    given, _ = read_examples(sources, normalization="dataset-max", maximum=40000.0)

    # uint16 is halved to fit into int16, and so must be what it is divided by.
    np.testing.assert_array_equal(examples.spans, [[0.0, 15000.0], [0.0, 30000.0]])
    np.testing.assert_array_equal(given.spans, [[0.0, 20000.0], [0.0, 40000.0]])


def test_a_pixel_size_that_cannot_be_is_said(tmp_path: Path) -> None:
    labelled(tmp_path, "a", (200, 200))
    sources = find_sources([tmp_path]).sources

    with pytest.raises(DataSetError, match=r"a\.npy#0: 0\.001 nm a pixel.*is the pixel size right"):
        read_examples(sources, pixel_size_nm=0.001, finest_nm=0.02)
    with pytest.raises(DataSetError, match=r"200 x 200 px, 0\.005 nm .*needs 64 px or more"):
        read_examples(sources, pixel_size_nm=0.005, finest_nm=0.02)


def test_what_cannot_be_learnt_from_is_named(tmp_path: Path) -> None:
    labelled(tmp_path, "tiny", (40, 200))
    with pytest.raises(DataSetError, match=r"tiny\.npy#0: 200 x 40 px; a side needs 64 px"):
        read_examples(find_sources([tmp_path]).sources)

    png(tmp_path / "tiny_label.png", np.zeros((96, 96), np.uint8))
    np.save(tmp_path / "tiny.npy", np.zeros((96, 96), np.int16))
    with pytest.raises(DataSetError, match="no label has a particle"):
        read_examples(find_sources([tmp_path]).sources)

    (tmp_path / "scene_0000.npz").write_text("no scene")
    with pytest.raises(DataSetError, match=r"scene_0000\.npz: not a scene.*no zip archive"):
        list(read_frames(Source(tmp_path / "scene_0000.npz")))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[-5, 300]], np.int16), [[-5, 300]]),
        (np.array([[0, 255]], np.uint8), [[0, 255]]),
        (np.array([[0, 65535]], np.uint16), [[0, 32767]]),
        (np.array([[7, 9]], np.uint16), [[3, 4]]),
        (np.array([[-32768, -32760]], np.int16), [[0, 4]]),  # stored less 32768
        (np.array([[0.6, 1000.4]], np.float32), [[1, 1000]]),
    ],
)
def test_counts_become_int16(pixels, expected):
    counts = as_int16(pixels, "x")
    assert counts.dtype == np.int16
    assert counts.tolist() == expected


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 70000.0), (np.nan, 500.0)])
def test_counts_that_int16_would_spoil_are_refused(ends):
    with pytest.raises(DataSetError, match=r"gold\.npy: float32 pixels from .* do not fit"):
        as_int16(np.array([ends], np.float32), "gold.npy")
