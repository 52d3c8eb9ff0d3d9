"""TIFF of every kind: the right sections, or the reason; never more than is written."""

import io
import logging
import re
import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from nanostream.acquisition import tiffs
from nanostream.acquisition.frames import count_sections, read_section
from nanostream.acquisition.tiff_directories import MOST_PAGES, Source, page_offsets
from nanostream.errors import MicrographError, NotReadyError
from tests.effort import examples
from tests.tiff_files import COUNTS, KINDS, SHAPE, STACK, page_tags, tiff_bytes

#: Of the pixel size of one kind of file: in a fraction of whole numbers, or in single precision.
ROUNDED = 1e-6


@pytest.mark.parametrize("kind", [pytest.param(k, id=name) for name, k in KINDS.items()])
def test_each_kind_is_read_right_or_refused_in_words(tmp_path, kind, capfd):
    path = tmp_path / "a.tif"
    kind.write(path)
    if kind.says:
        with pytest.raises(MicrographError) as caught:
            read_section(path)
        assert str(caught.value).startswith("a.tif: ")
        assert kind.says in str(caught.value)
    else:
        assert count_sections(path) == (len(kind.sections), False)
    for z, expected in enumerate(kind.sections):
        frame = read_section(path, z)
        assert frame.pixels.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(frame.pixels, expected)
        size_nm = kind.pixel_size_nm
        assert frame.pixel_size_nm == (size_nm and pytest.approx(size_nm, rel=ROUNDED))
        assert frame.metadata.first_row == "top"
    assert capfd.readouterr() == ("", "")


def test_what_the_library_says_of_a_file_is_for_developers(tmp_path, caplog):
    KINDS["compression: JPEG"].write(tmp_path / "a.tif")
    read_section(tmp_path / "a.tif")
    library = logging.getLogger("tifffile")
    library.warning("nothing that an operator could do")
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG):
        library.warning("nothing that an operator could do")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


# --- what is not there yet


@pytest.mark.parametrize(
    "name", ["form: pages", "form: strips", "form: tiles, LZW", "form: BigTIFF"]
)
def test_a_file_that_is_being_written_is_not_ready(tmp_path, name):
    path = tmp_path / "a.tif"
    KINDS[name].write(path)
    whole = path.read_bytes()
    last = len(KINDS[name].sections) - 1
    for cut in range(0, len(whole) - 300, 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(NotReadyError), tiffs.open_tiff(path) as file:
            file.read(last)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "lzma", "jpeg"])
def test_a_strip_of_zeros_where_a_copy_goes_on_is_not_ready(tmp_path, compression):
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(3).integers(0, 255, (256, 256), dtype=np.uint8)
    tifffile.imwrite(path, pixels, compression=compression, rowsperstrip=64, metadata=None)
    with tifffile.TiffFile(path) as file:
        end = max(file.pages[0].dataoffsets)
    whole = path.read_bytes()
    path.write_bytes(whole[:end] + bytes(len(whole) - end))
    with tiffs.open_tiff(path) as file:
        assert not file.has_arrived(0)
        if compression:
            with pytest.raises(NotReadyError, match="strip 3 of 4"):
                file.read(0)
    path.write_bytes(whole)
    with tiffs.open_tiff(path) as file:
        assert file.has_arrived(0)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "jpeg", "packbits"])
def test_a_copy_that_stalls_anywhere_is_not_ready_while_it_may_go_on(tmp_path, compression):
    """The size is set first, and the rest is zero; of a file at rest that is damage."""
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(3).integers(1, 60, (64, 64), dtype=np.uint8)
    options = {"compression": compression, "rowsperstrip": 16, "metadata": None}
    tifffile.imwrite(path, pixels, **options)
    whole = path.read_bytes()
    with tiffs.open_tiff(path) as file:
        right = file.read(0)[0]
    # An unpacked run of PackBits has up to 128 bytes, whatever they are.
    for cut in range(8, len(whole) - 130, 311):
        path.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        with pytest.raises(NotReadyError), tiffs.open_tiff(path) as file:
            np.testing.assert_array_equal(file.read(0)[0], right)
        with pytest.raises(MicrographError), tiffs.open_tiff(path, at_rest=True) as file:
            np.testing.assert_array_equal(file.read(0)[0], right)


def test_zeros_that_zstandard_would_store_as_they_are_are_waited_for(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(3).integers(0, 256, (128, 512), dtype=np.uint8)
    pixels.reshape(-1)[-700:] = 0
    tifffile.imwrite(path, pixels, compression="zstd", rowsperstrip=128, metadata=None)
    with tiffs.open_tiff(path) as file, pytest.raises(NotReadyError, match="strip 0 of 1"):
        file.read(0)
    np.testing.assert_array_equal(read_section(path).pixels, pixels)


def test_a_strip_that_is_damaged_is_refused_once_the_file_is_at_rest(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COUNTS, compression="lzw", rowsperstrip=8, metadata=None)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[1]
    data = bytearray(path.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    words = "strip 1 of 6 (LZW)"
    with (
        pytest.raises(NotReadyError, match=re.escape(f"{words} has not arrived, or is damaged")),
        tiffs.open_tiff(path) as file,
    ):
        file.read(0)
    with pytest.raises(MicrographError, match=re.escape(f"{words} is damaged")) as caught:
        read_section(path)
    assert not isinstance(caught.value, NotReadyError)


@pytest.mark.parametrize("tag", [258, 273, 279])
def test_a_list_of_zeros_outside_its_directory_has_not_arrived(tmp_path, tag):
    path = tmp_path / "a.tif"
    pixels = np.repeat(COUNTS.astype(np.uint16)[..., None], 3, axis=-1)
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=4, metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        of = file.pages[0].tags[tag]
    size = of.count * {3: 2, 4: 4}[of.dtype]
    data[of.valueoffset : of.valueoffset + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(NotReadyError), tiffs.open_tiff(path) as file:
        file.has_arrived(0)
    with pytest.raises(MicrographError):
        read_section(path)


@pytest.mark.parametrize("head", [b"", b"II", bytes(8), b"II*\0", b"II*\0\0\0\0\0"])
def test_a_file_without_its_first_bytes_is_not_ready(tmp_path, head):
    path = tmp_path / "a.tif"
    path.write_bytes(head)
    with pytest.raises(NotReadyError), tiffs.open_tiff(path):
        pass


def test_a_file_of_another_kind_is_refused_at_once(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and more")
    with pytest.raises(MicrographError, match="not a TIFF") as caught, tiffs.open_tiff(path):
        pass
    assert not isinstance(caught.value, NotReadyError)


# --- directories


def test_directories_that_form_a_ring_end(tmp_path):
    path = tmp_path / "a.tif"
    data = bytearray(tiff_bytes(page_tags(SHAPE, 16), [COUNTS.tobytes()]))
    end = 8 + 2 + 12 * 9
    data[end : end + 4] = struct.pack("<I", 8)
    path.write_bytes(data)
    assert count_sections(path) == (1, False)


def directory(*tags, following=0):
    """Bytes of a directory of long values: tag, count, value or its place."""
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def test_a_chain_of_more_pages_than_anybody_saves_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    size = len(directory((256, 1, 8)))
    chain = (directory((256, 1, 8), following=8 + size * (n + 1)) for n in range(MOST_PAGES + 1))
    path.write_bytes(b"II*\0\x08\0\0\0" + b"".join(chain))
    with pytest.raises(MicrographError, match="10000 pages"), tiffs.open_tiff(path):
        pass


def counted(path):
    """Offsets of a file's pages, and how many reads they cost."""

    class Counting(io.FileIO):
        reads = 0

        def readinto(self, view):
            self.reads += 1
            return super().readinto(view)

    with Counting(path) as file:
        offsets = page_offsets(Source.of(file, path.name))
        return offsets, file.reads


def test_a_section_of_a_long_stack_does_not_cost_a_walk_over_all_of_it(tmp_path):
    path = tmp_path / "a.tif"
    reads = []
    for z in range(60):
        tifffile.imwrite(path, STACK[z % 3], append=z > 0, metadata=None)
        offsets, cost = counted(path)
        assert len(offsets) == z + 1
        reads.append(cost)
    assert max(reads) <= 5
    offsets, cost = counted(path)
    assert len(offsets) == 60
    assert cost <= 5
    for z in (0, 31, 59):
        np.testing.assert_array_equal(read_section(path, z).pixels, STACK[z % 3])


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_file_written_anew_under_its_name_is_walked_anew(tmp_path, compression):
    path = tmp_path / "a.tif"
    whole = np.stack(STACK)
    for stack in (whole, whole[::-1], whole[:, :20], whole[:2], whole):
        with path.open("wb") as file:  # the inode stays
            tifffile.imwrite(
                file, stack, compression=compression, photometric="minisblack", metadata=None
            )
        assert count_sections(path) == (len(stack), False)
        for z, pixels in enumerate(stack):
            np.testing.assert_array_equal(read_section(path, z).pixels, pixels)


# --- hostile sizes


PLAIN = page_tags(SHAPE, 16)
PIXELS = COUNTS.astype("<u2").tobytes()
HOSTILE = {
    "wide": tiff_bytes(PLAIN | {256: (4, [2**31])}, [PIXELS]),
    "high": tiff_bytes(PLAIN | {257: (4, [2**31])}, [PIXELS]),
    "large": tiff_bytes(PLAIN | {256: (4, [2**19]), 257: (4, [2**19])}, [PIXELS]),
    "of no width": tiff_bytes(PLAIN | {256: (4, [0])}, [PIXELS]),
    "many channels": tiff_bytes(PLAIN | {277: (3, [65_535])}, [PIXELS]),
    "many bits": tiff_bytes(PLAIN | {258: (3, [65_535])}, [PIXELS]),
    "no bits": tiff_bytes(PLAIN | {258: (3, [0])}, [PIXELS]),
    "many strips": tiff_bytes(PLAIN | {278: (4, [1]), 257: (4, [2**20])}, [PIXELS]),
    "large tiles": tiff_bytes(PLAIN | {322: (4, [2**30]), 323: (4, [2**30])}, [PIXELS], tiled=True),
    "tiles of nothing": tiff_bytes(PLAIN | {322: (4, [0]), 323: (4, [16])}, [PIXELS], tiled=True),
    "strips over one another": tiff_bytes(
        PLAIN | {278: (4, [1]), 273: (4, [8] * 41), 279: (4, [300] * 41)}, [PIXELS]
    ),
    "far away": tiff_bytes(PLAIN | {273: (4, [2**32 - 1])}, [PIXELS]),
    "long beyond all": tiff_bytes(PLAIN | {279: (16, [2**63]), 259: (3, [5])}, [PIXELS], big=True),
    "a bomb": tiff_bytes(
        PLAIN | {256: (4, [2**14]), 257: (4, [2**15]), 278: (4, [2**15]), 259: (3, [50000])},
        [bytes(imagecodecs.zstd_encode(bytes(2**24), level=19))],
    ),
    "a JPEG larger than its page": tiff_bytes(
        page_tags(SHAPE, 8) | {259: (3, [7])},
        [bytes(imagecodecs.jpeg8_encode(np.zeros((3000, 3000), np.uint8)))],
    ),
    "many tags": b"II*\0\x08\0\0\0" + directory(*[(n, 1, 1) for n in range(5000)]),
    "tags without end": b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + bytes(50),
    "a place of text": tiff_bytes(PLAIN | {273: (2, [65] * 9)}, [PIXELS]),
    "a width below zero": tiff_bytes(PLAIN, [PIXELS]).replace(
        struct.pack("<HHIi", 256, 4, 1, SHAPE[1]), struct.pack("<HHIi", 256, 9, 1, -5)
    ),
    "a page without pixels": b"II*\0\x08\0\0\0" + directory((256, 1, 5), (257, 1, 5)),
    "a palette without its numbers": tiff_bytes(PLAIN | {262: (3, [3])}, [PIXELS]),
    "a compressed page without lengths": tiff_bytes(PLAIN | {259: (3, [5])}, [PIXELS]).replace(
        struct.pack("<HHI", 279, 4, 1), struct.pack("<HHI", 280, 4, 1)
    ),
    "predictor of real numbers for whole ones": tiff_bytes(PLAIN | {317: (3, [3])}, [PIXELS]),
    "predictor of no kind": tiff_bytes(PLAIN | {317: (3, [77])}, [PIXELS]),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in HOSTILE.items()])
def test_what_a_file_claims_takes_no_memory(tmp_path, data):
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(MicrographError) as caught:
        read_section(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).startswith("a.tif: ")
    assert peak < 2**23


SEEDS = {name: kind for name, kind in KINDS.items() if not name.startswith("damage")}
#: What stands in a directory, and what a field of it may be changed to.
FIELDS = [0, 1, 3, 4, 5, 12, 16, 40, 255, 256, 257, 258, 259, 262, 273, 277, 279, 317, 322, 339]
FIELDS += [2**15, 2**16 - 1]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    path, files = tmp_path_factory.mktemp("seeds") / "a.tif", {}
    for name, kind in SEEDS.items():
        kind.write(path)
        files[name] = path.read_bytes()
    return path, files


@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8))
        | st.tuples(
            st.floats(0, 0.05), st.sampled_from(FIELDS).map(lambda n: n.to_bytes(2, "little"))
        ),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.5, 1),
)
@settings(examples(200))
def test_whatever_is_wrong_in_a_file_is_said_in_words(seeds, name, changes, length):
    path, files = seeds
    data = bytearray(files[name])
    for place, change in changes:
        start = int(place * len(data)) & ~1
        data[start : start + len(change)] = change
    path.write_bytes(data[: int(length * len(data))] if length < 0.9 else data)
    says = ""
    try:
        for z in range(min(count_sections(path).sections, 3)):
            assert read_section(path, z).pixels.size
    except MicrographError as error:
        says = str(error)
    assert not says or says.startswith("a.tif: ")
    assert "Error" not in says


def test_the_last_section_of_a_stack_above_4_gb_is_read(tmp_path):
    """ImageJ's: one directory, and the pictures one after the other. The file has holes."""
    side, count = 1024, 2100
    pixels = np.random.default_rng(1).integers(0, 60_000, (side, side)).astype(">u2")
    text = list(f"ImageJ=1.54f\nimages={count}\nslices={count}\nunit=nm\n\0".encode())
    tags = page_tags((side, side), 16) | {270: (2, text), 282: (5, [(20, 1)])}
    data = tiff_bytes(tags, [pixels.tobytes()], order=">")
    path = tmp_path / "movie.tif"
    with path.open("wb") as file:
        file.write(data)
        file.seek(len(data) + (count - 2) * pixels.nbytes)
        file.write(pixels.tobytes())
    assert path.stat().st_size > 2**32
    assert count_sections(path) == (count, False)
    frame = read_section(path, count - 1)
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert frame.pixel_size_nm == pytest.approx(0.05)


@pytest.mark.parametrize("side_px", [32, 64, 256])
def test_a_stack_of_one_directory_has_all_its_pictures_however_small(tmp_path, side_px):
    stack = np.arange(4 * side_px**2, dtype=np.uint8).reshape(4, side_px, side_px)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", truncate=True)
    assert count_sections(tmp_path / "a.tif") == (4, False)
    np.testing.assert_array_equal(read_section(tmp_path / "a.tif", 3).pixels, stack[3])


@pytest.mark.parametrize("varies", [False, True])
def test_a_second_channel_that_nobody_calls_opacity_is_none_where_it_varies(tmp_path, varies):
    grey = STACK[0].astype("<u2")
    second = STACK[1].astype("<u2") if varies else np.full_like(grey, 65535)
    tags = page_tags(SHAPE, 16, 1) | {258: (3, [16, 16]), 277: (3, [2])}
    strip = np.stack([grey, second], -1).tobytes()
    (tmp_path / "a.tif").write_bytes(tiff_bytes(tags, [strip], order="<"))
    if varies:
        with pytest.raises(MicrographError, match="a second image at each pixel"):
            read_section(tmp_path / "a.tif")
    else:
        np.testing.assert_array_equal(read_section(tmp_path / "a.tif").pixels, grey)
