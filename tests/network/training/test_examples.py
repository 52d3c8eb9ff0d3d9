"""What is learnt from: a user's images and simulated scenes, split by file, in equal tiles."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import DataSetError
from nanostream.segmentation.normalization import Method, median_filter, normalize
from nanostream.training.examples import (
    TILE_PX,
    Source,
    file_hashes,
    find_sources,
    hold_out,
    read_examples,
    read_frames,
    set_record,
)
from nanostream.training.fit import augment


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


def test_images_and_scenes_are_found_once_each(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    labelled(tmp_path / "mine", "a")
    np.save(tmp_path / "mine" / "alone.npy", np.zeros((80, 80), np.int16))
    scene(tmp_path / "sims", 0)

    found = find_sources([tmp_path, tmp_path / "mine", tmp_path / "sims"])

    assert [source.file.name for source in found.sources] == ["a.npy", "scene_0000.npz"]
    assert {Path(name).name for name in found.unlabelled} == {"alone.npy"}


def test_a_folder_with_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "alone.npy", np.zeros((80, 80), np.int16))

    with pytest.raises(DataSetError, match="neither a micrograph with its label nor a scene"):
        find_sources([tmp_path])


def test_files_are_held_out_whole_and_by_the_seed() -> None:
    sources = [Source(Path(f"{number}.npz")) for number in range(10)]

    def held(seed: int) -> list[Source]:
        training, held_out = hold_out(sources, 0.2, np.random.default_rng(seed))
        assert sorted([*training, *held_out], key=lambda s: s.file) == sources
        assert training == sorted(training, key=lambda s: s.file)
        return held_out

    assert len(held(0)) == 2
    assert held(0) == held(0)
    assert any(held(0) != held(seed) for seed in range(1, 5))
    assert hold_out(sources, 0.0, np.random.default_rng(0)) == (sources, [])
    assert len(hold_out(sources[:2], 0.01, np.random.default_rng(0))[1]) == 1


def test_of_one_stack_the_last_sections_are_held_out(tmp_path: Path) -> None:
    with StackWriter(tmp_path / "gold.mrc", pixel_size_nm=0.026) as stack:
        for z in range(4):
            stack.append(np.full((96, 96), z, np.int16))
            png(tmp_path / f"gold.z{z}.png", np.eye(96, dtype=np.uint8))

    training, held_out = hold_out(find_sources([tmp_path]).sources, 0.25, np.random.default_rng(0))

    assert [pair.z for source in training for pair in source.pairs] == [0, 1, 2]
    assert [pair.z for source in held_out for pair in source.pairs] == [3]


def test_a_single_image_cannot_be_held_out_from_itself() -> None:
    with pytest.raises(DataSetError, match="nothing is left to train on"):
        hold_out([Source(Path("scene_0000.npz"))], 0.2, np.random.default_rng(0))


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
    np.testing.assert_array_equal(examples.labels[0], truth[::2, ::2] > 0)
    image = examples.images[0].astype(float)
    assert len(np.unique(image)) > 20  # averages of few electrons are not rounded to counts
    assert image[examples.labels[0]].mean() < image[~examples.labels[0]].mean() - image.std()


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

    np.testing.assert_array_equal(examples.labels[0], examples.labels[1])


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
    with pytest.raises(DataSetError, match=r"200 x 200 px, 0\.005 nm a pixel; 64 px a side"):
        read_examples(sources, pixel_size_nm=0.005, finest_nm=0.02)


def test_what_cannot_be_learnt_from_is_named(tmp_path: Path) -> None:
    labelled(tmp_path, "tiny", (40, 200))
    with pytest.raises(DataSetError, match=r"tiny\.npy#0: 200 x 40 px; 64 px a side"):
        read_examples(find_sources([tmp_path]).sources)

    png(tmp_path / "tiny_label.png", np.zeros((96, 96), np.uint8))
    np.save(tmp_path / "tiny.npy", np.zeros((96, 96), np.int16))
    with pytest.raises(DataSetError, match="not one particle"):
        read_examples(find_sources([tmp_path]).sources)

    (tmp_path / "scene_0000.npz").write_text("no scene")
    with pytest.raises(DataSetError, match=r"scene_0000\.npz: not a scene.*no zip archive"):
        list(read_frames(Source(tmp_path / "scene_0000.npz")))


def test_a_pixel_size_is_given_to_files_without_one(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    (source,) = find_sources([tmp_path]).sources

    assert [frame.pixel_size_nm for frame, _, _ in read_frames(source)] == [None]
    given = [frame.pixel_size_nm for frame, _, _ in read_frames(source, pixel_size_nm=0.05)]
    assert given == [0.05]


def test_provenance_has_hashes_of_images_and_labels_and_the_seed_of_sets(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    scene(tmp_path / "sims", 0)
    (tmp_path / "sims" / "set.json").write_text(json.dumps({"seed": 3}))
    sources = find_sources([tmp_path]).sources

    hashes = file_hashes(sources)

    assert [Path(name).name for name in hashes] == ["a.npy", "a_label.png", "scene_0000.npz"]
    assert all(len(value) == 64 for value in hashes.values())
    assert set_record(sources) == [{"folder": "sims", "seed": 3}]


def test_exposures_of_too_few_electrons_are_left_out(tmp_path: Path) -> None:
    # 0.09 Å2 a pixel: 45 and 3.6 electrons.
    scene(tmp_path, 0, doses=(500.0, 40.0))
    (source,) = find_sources([tmp_path]).sources

    assert [frame.section.z for frame, _, _ in read_frames(source)] == [0]
