"""Files to learn from: found once each, held out whole, read with their truth."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import DataSetError, MicrographError
from nanostream.training.sources import (
    Source,
    file_hashes,
    find_sources,
    hold_out,
    read_frames,
    set_record,
)


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


def test_files_and_wildcards_bring_their_labels_and_labels_their_micrographs(
    tmp_path: Path,
) -> None:
    for name in ("gold", "cdse", "other"):
        labelled(tmp_path, name)
    (tmp_path / "gold.npy.mdoc").touch()
    (tmp_path / "photo.jpg").touch()
    scene(tmp_path, 3)
    names = ["gold.npy", "cdse_label.png", "gold*", "*.JPG", "scene_*.npz"]
    found = find_sources([f"{tmp_path}/{name}" for name in names])
    assert [source.file.name for source in found.sources] == [
        *("cdse.npy", "gold.npy", "scene_0003.npz"),
    ]
    assert [len(source.pairs) for source in found.sources] == [1, 1, 0]
    assert (found.unlabelled, found.strays) == ((), ())
    assert found.failed == ((f"{tmp_path}/photo.jpg", "nanostream does not read .jpg files"),)


def test_a_labelled_file_that_cannot_be_read_is_named_and_the_others_are_taken(
    tmp_path: Path,
) -> None:
    labelled(tmp_path, "gold")
    labelled(tmp_path, "bad")
    (tmp_path / "bad.npy").write_bytes(b"nothing of NumPy")
    found = find_sources([tmp_path])
    assert [source.file.name for source in found.sources] == ["gold.npy"]
    ((name, reason),) = found.failed
    assert name == f"{tmp_path}/bad.npy"
    assert reason.startswith("not a readable .npy file")
    (tmp_path / "gold.npy").unlink()
    (tmp_path / "gold_label.png").unlink()
    with pytest.raises(MicrographError, match=r"bad\.npy: not a readable"):
        find_sources([tmp_path])


def test_a_stack_by_the_label_of_one_section_gives_that_section(tmp_path: Path) -> None:
    np.save(tmp_path / "movie.npy", np.zeros((3, 9, 9)))
    for z in (0, 2):
        png(tmp_path / f"movie.z{z}.png", np.zeros((9, 9), np.uint8))
    (source,) = find_sources([tmp_path / "movie.z2.png"]).sources
    assert [pair.z for pair in source.pairs] == [2]
    (source,) = find_sources([tmp_path / "movie.npy"]).sources
    assert [pair.z for pair in source.pairs] == [0, 2]
