"""Data sets in HDF5: what is written comes back, and what the published notebooks wrote is read."""

import h5py
import numpy as np
import pytest

from nanostream.errors import DataSetError
from nanostream.training.groschner2020.datasets import read_hdf5, write_hdf5
from nanostream.training.groschner2020.tiles import Tile, greatest_count


def some_tiles(count=3, size=16):
    rng = np.random.default_rng(1)
    return [
        Tile(
            rng.integers(-9, 999, (size, size)).astype(np.int16),
            rng.random((size, size)) < 0.5,
            f"g.mrc#0 y{16 * n} x0",
        )
        for n in range(count)
    ]


def test_tiles_come_back_from_a_file(tmp_path):
    tiles = some_tiles()
    assert write_hdf5(tmp_path / "set.h5", iter(tiles)) == 3
    back = list(read_hdf5(tmp_path / "set.h5"))
    for tile, same in zip(tiles, back, strict=True):
        np.testing.assert_array_equal(tile.pixels, same.pixels)
        np.testing.assert_array_equal(tile.label, same.label)
        assert (same.pixels.dtype, same.label.dtype) == (np.int16, np.bool_)
        assert same.source == tile.source
    with h5py.File(tmp_path / "set.h5") as file:
        assert (file["images"].shape, file["images"].dtype) == ((3, 16, 16, 1), np.int16)
        assert (file["maps"].shape, file["maps"].dtype) == ((3, 16, 16, 2), np.uint8)
        assert file.attrs["maximum"] == greatest_count(tiles)


@pytest.mark.parametrize("greatest", [1.0, 255.0])
def test_files_as_the_published_notebooks_make_them_are_read(tmp_path, greatest):
    """Two files, one-hot maps in float64."""
    tiles = some_tiles(2)
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["images"] = np.stack([tile.pixels for tile in tiles])[..., None]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["maps"] = np.stack([np.stack([~t.label, t.label], -1) * greatest for t in tiles])
    back = list(read_hdf5(tmp_path / "i.h5", tmp_path / "m.h5"))
    for tile, same in zip(tiles, back, strict=True):
        np.testing.assert_array_equal(tile.pixels, same.pixels)
        np.testing.assert_array_equal(tile.label, same.label)


def test_a_single_map_is_particle_where_it_is_not_zero(tmp_path):
    tile = some_tiles(1)[0]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = tile.pixels[None, ..., None]
        file["maps"] = tile.label[None, ..., None].astype(np.uint8)
    np.testing.assert_array_equal(next(read_hdf5(tmp_path / "s.h5")).label, tile.label)


@pytest.mark.parametrize(
    ("images", "maps"),
    [(None, (2, 8, 8, 2)), ((2, 8, 8, 1), None), ((2, 8, 8), (2, 8, 8, 2)),
     ((2, 8, 8, 1), (1, 8, 8, 2)), ((2, 8, 8, 1), (2, 4, 4, 2)), ((2, 8, 8, 1), (2, 8, 8, 3))],
)  # fmt: skip
def test_other_shapes_are_refused_by_name(tmp_path, images, maps):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name, shape in (("images", images), ("maps", maps)):
            if shape:
                file[name] = np.zeros(shape, np.int16)
    said = rf"s\.h5: images {images or 'absent'}, maps {maps or 'absent'}; expected"
    with pytest.raises(DataSetError, match=said.replace("(", r"\(").replace(")", r"\)")):
        next(read_hdf5(tmp_path / "s.h5"))


def test_a_rotten_tile_is_refused_by_name(tmp_path):
    path = tmp_path / "s.h5"
    write_hdf5(path, some_tiles())
    with h5py.File(path) as file:
        offset = file["images"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 20] ^= 0xFF
    path.write_bytes(content)
    tiles = read_hdf5(path)
    assert [next(tiles).source[-2:] for _ in range(2)] == ["x0", "x0"]
    with pytest.raises(DataSetError, match=r"s\.h5: not a data set, or damaged"):
        next(tiles)


@pytest.mark.parametrize("odd", ["group", "scalar"])
def test_other_things_by_the_names_of_data_sets_are_refused(tmp_path, odd):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("images", "maps"):
            if odd == "group":
                file.create_group(name)
            else:
                file[name] = 1.0
    with pytest.raises(DataSetError, match=r"s\.h5"):
        next(read_hdf5(tmp_path / "s.h5"))


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    (tmp_path / "s.h5").write_text("no")
    with pytest.raises(DataSetError, match=r"s\.h5: cannot be read as HDF5"):
        next(read_hdf5(tmp_path / "s.h5"))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    small = Tile(np.zeros((4, 4), np.int16), np.ones((4, 4), bool))
    with pytest.raises(DataSetError, match=r"s\.h5: tiles of \(16, 16\) and \(4, 4\) px"):
        write_hdf5(tmp_path / "s.h5", [*some_tiles(1), small])
    with pytest.raises(DataSetError, match="not one tile"):
        write_hdf5(tmp_path / "s.h5", [])
    assert list(tmp_path.iterdir()) == []
