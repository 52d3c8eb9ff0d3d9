"""MRC headers and sections: genuine SerialEM files, hostile headers, files that grow."""

import struct
import tracemalloc
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition import mrc
from nanostream.acquisition.frames import read_section
from nanostream.errors import MicrographError, NotReadyError

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "serialem" / "mrc"


def genuine(name):
    path = GENUINE / name
    if not path.exists():
        pytest.skip(f"genuine SerialEM file {path} is not here")
    return path


def header_bytes(order="<", **fields):
    header = np.zeros(1, mrc.HEADER_DTYPE)
    header["map"], header["stamp"] = b"MAP ", np.void(b"\x44\x44\0\0")
    header["labels"][0, 0] = b"SerialEM: a test"
    defaults = {"nx": 6, "ny": 4, "nz": 2, "mode": 1, "mx": 6, "my": 4, "mz": 2, "xlen": 12.0}
    for key, value in (defaults | fields).items():
        header[key] = value
    if order == ">":
        header["stamp"] = np.void(b"\x11\x11\0\0")
    return header.astype(mrc.HEADER_DTYPE.newbyteorder(order)).tobytes()


def test_header_table_has_the_offsets_of_the_format():
    assert mrc.HEADER_DTYPE.itemsize == mrc.HEADER_BYTES
    offsets = {key: mrc.HEADER_DTYPE.fields[key][1] for key in ("xlen", "next", "exttyp", "nint")}
    assert offsets == {"xlen": 40, "next": 92, "exttyp": 104, "nint": 128}
    offsets = {key: mrc.HEADER_DTYPE.fields[key][1] for key in ("imod_stamp", "stamp", "labels")}
    assert offsets == {"imod_stamp": 152, "stamp": 212, "labels": 224}


@pytest.mark.parametrize("mode", [0, 1, 2, 6])
@pytest.mark.parametrize("stem", ["test_001_mode{}.mrc", "test_002_mode{}.st"])
def test_every_section_of_a_genuine_file_equals_mrcfile(stem, mode):
    path = genuine(stem.format(mode))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as reference:
            expected = reference.data
    if mode == 0:  # mrcfile reads SerialEM's unsigned bytes as signed
        expected = expected.view(np.uint8)
    header, _ = mrc.read_header(path)
    assert header.complete_sections(path.stat().st_size) == header.nz == len(expected)
    for z in range(header.nz):
        _, pixels = mrc.read_section(path, z)
        assert pixels.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(pixels, expected[z])


def test_genuine_extended_header_pixel_size_and_titles():
    header, stat = mrc.read_header(genuine("test_002_mode1.st"))
    assert (header.nx, header.ny, header.nz) == (24, 24, 41)
    assert header.pixel_size_nm == pytest.approx(0.2604)
    assert header.extended_bytes == 246  # 41 sections of 6 bytes: tilt and stage
    assert not header.montage
    assert header.labels[0].startswith("SerialEM: Digitized by Gatan Camera")
    assert header.data_end == stat.st_size


@pytest.mark.parametrize("mode", [0, 1, 2, 6, 12])
def test_big_endian_file_reads_as_its_little_endian_twin(tmp_path, mode):
    dtype = {0: "u1", 1: "<i2", 2: "<f4", 6: "<u2", 12: "<f2"}[mode]
    pixels = np.arange(48, dtype=dtype).reshape(2, 4, 6) + np.array(100, dtype)
    swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
    little, big = tmp_path / "little.mrc", tmp_path / "big.mrc"
    little.write_bytes(header_bytes(mode=mode, maximum=255) + pixels.tobytes())
    big.write_bytes(header_bytes(">", mode=mode, maximum=255) + swapped.tobytes())
    for path in (little, big):
        header, read = mrc.read_section(path, 1)
        assert header.pixel_size_nm == pytest.approx(0.2)
        assert read.dtype == pixels.dtype.newbyteorder("=")
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, pixels[1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_bad_machine_stamp_does_not_matter(order):
    data = bytearray(header_bytes(order, nx=300))
    data[212:216] = b"\x44\0\0\0" if order == ">" else b"\x11\x11\0\0"
    header = mrc.parse_header(bytes(data), name="a.mrc")
    assert (header.nx, header.dtype.newbyteorder("=")) == (300, np.dtype(np.int16))


def test_stamp_decides_where_both_orders_make_sense():
    data = header_bytes(">", nx=256, ny=512, mode=0, nz=256)  # 65536 x 131072 the other way round
    header = mrc.parse_header(data, name="a.mrc")
    assert (header.nx, header.ny) == (256, 512)


def bytes_file(order, side, *, sections=2, stamp=b"DD\0\0", axes=(1, 2, 3), more=b""):
    """A file of 8 bits, whose mode is the same in both byte orders."""
    header = bytearray(
        header_bytes(order, mode=0, nx=side, ny=side, nz=sections, axes=axes, mx=side, my=side)
    )
    header[212:216] = stamp
    return bytes(header) + bytes(sections * side * side) + more


SIDES = [1, 127, 255, 256, 257, 300, 511, 512, 768, 1000, 1024, 2048]


@pytest.mark.parametrize("stamp", [b"DD\0\0", b"DA\0\0", b"\x11\x11\0\0", bytes(4), b"junk"])
@pytest.mark.parametrize("order", "<>")
def test_bytes_of_any_side_are_read_whatever_the_stamp_says(tmp_path, order, stamp):
    path = tmp_path / "a.mrc"
    for side in SIDES:
        for data in (
            bytes_file(order, side, stamp=stamp),
            bytes_file(order, side, stamp=stamp, axes=(0, 0, 0)),
            bytes_file(order, side, stamp=stamp, more=bytes(side * side)),  # the header lags
            bytes_file(order, side, stamp=stamp)[:-1],  # cut off
        ):
            path.write_bytes(data)
            header, _ = mrc.read_header(path)
            assert (header.nx, header.ny, header.nz) == (side, side, 2), (side, len(data))


def test_an_extended_header_that_is_counted_but_absent_is_refused(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(header_bytes(next=4096) + bytes(2 * 48))
    with pytest.raises(NotReadyError, match="extended header of 4096 bytes"):
        mrc.read_header(path)  # a copy may just have come so far
    with pytest.raises(MicrographError, match="it is as long as its pixels alone") as caught:
        mrc.read_header(path, at_rest=True)
    assert not isinstance(caught.value, NotReadyError)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"imod_stamp": mrc.IMOD_STAMP, "imod_flags": 0, "minimum": -128, "maximum": 127}, "u1"),
        ({"imod_stamp": mrc.IMOD_STAMP, "imod_flags": 1, "maximum": 255}, "i1"),
        ({"minimum": -5, "maximum": 100}, "i1"),  # no stamp: the range decides, as in IMOD
        ({"minimum": 0, "maximum": 200}, "u1"),
        ({"minimum": -100, "maximum": 130}, "i1"),
        ({"minimum": 0, "maximum": 100}, "u1"),
    ],
)
def test_bytes_are_signed_only_where_the_file_says_so(fields, expected):
    header = mrc.parse_header(header_bytes(mode=0, **fields), name="a.mrc")
    assert header.dtype == np.dtype(expected)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mode": 16}, "mode 16"),
        ({"mode": 4}, "mode 4"),
        ({"mode": 101}, "mode 101"),
        ({"mode": 7}, "mode 7"),
        ({"mode": -1}, "mode -1"),
        ({"mode": 0, "imod_stamp": mrc.IMOD_STAMP, "imod_flags": 16}, "4-bit"),
        ({"nx": -6}, "-6 x 4"),
        ({"nz": -1}, "-1 sections"),
        ({"nx": 2**19, "ny": 2**19}, "524288"),
        ({"ny": 2**31 - 1}, "2147483647"),
        ({"nz": 2**31 - 1}, "2147483647 sections"),
        ({"next": -1}, "extended header of -1"),
        ({"next": 2**31 - 1}, "extended header of 2147483647"),
    ],
)
def test_headers_that_cannot_be_right_are_refused_by_value(fields, says):
    with pytest.raises(MicrographError, match=r"a\.mrc") as caught:
        mrc.parse_header(header_bytes(**fields), name="a.mrc")
    assert says in str(caught.value)
    assert not isinstance(caught.value, NotReadyError)


@pytest.mark.parametrize("data", [b"", bytes(1023), bytes(1024), header_bytes(nz=0)])
def test_a_file_without_a_section_is_not_ready(data):
    with pytest.raises(NotReadyError):
        mrc.parse_header(data, name="a.mrc")


@given(st.binary(min_size=1024, max_size=1024))
def test_no_bytes_break_the_parser(data):
    try:
        header = mrc.parse_header(data, name="a.mrc")
    except MicrographError:
        return
    assert 0 < header.section_bytes < 2**31
    assert header.complete_sections(0) == 0


@pytest.mark.parametrize("fields", [{"mx": 0}, {"xlen": 0}, {"xlen": np.nan}, {"xlen": -3}])
def test_no_pixel_size_is_none(fields):
    assert mrc.parse_header(header_bytes(**fields), name="a.mrc").pixel_size_nm is None


def test_montage_flag_needs_serialems_bytes_per_section():
    montage = {"exttyp": b"SERI", "nreal": 1 | 2 | 16}
    assert mrc.parse_header(header_bytes(**montage, nint=10), name="a.mrc").montage
    assert not mrc.parse_header(header_bytes(**montage, nint=9), name="a.mrc").montage


def test_complete_sections_need_both_header_and_bytes():
    header = mrc.parse_header(header_bytes(nz=3, next=1024), name="a.mrc")
    sizes = [0, 2048, 2048 + 47, 2048 + 48, 2048 + 143, 2048 + 144, 2048 + 1000]
    assert [header.complete_sections(size) for size in sizes] == [0, 0, 0, 1, 2, 3, 3]


def test_incomplete_section_is_not_ready_and_the_file_is_left_closed(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(header_bytes(nz=2) + bytes(48 + 47))
    mrc.read_section(path, 0)
    with pytest.raises(NotReadyError, match="section 1 is not there yet; the file has 1 complete"):
        mrc.read_section(path, 1)
    with pytest.raises(MicrographError, match="the first is 0"):
        mrc.read_section(path, -1)
    if Path("/proc/self/fd").exists():
        names = {str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}
        assert str(path) not in names


def test_pixels_are_writable_memory_of_their_own(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(header_bytes(nz=1) + bytes(48))
    _, pixels = mrc.read_section(path, 0)
    pixels += 1
    assert mrc.read_section(path, 0)[1].max() == 0


def write_stack(path, sections, **fields):
    data = np.arange(sections * 24, dtype="<i2").reshape(sections, 4, 6)
    extended = bytes(fields.get("next", 0))
    path.write_bytes(header_bytes(nz=sections, **fields) + extended + data.tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_fingerprint_on_disk_is_that_of_the_pixels_and_tells_which_section_changed(tmp_path, order):
    path = tmp_path / "a.mrc"
    data = np.arange(3 * 24, dtype=f"{order}i2").reshape(3, 4, 6)
    path.write_bytes(header_bytes(order, nz=3) + data.tobytes())
    prints = {z: mrc.fingerprint(mrc.read_section(path, z)[1]) for z in range(3)}
    header, _ = mrc.read_header(path)
    assert mrc.changed_sections(path, header, prints) == []
    data[1, 3, 5] += 1
    path.write_bytes(header_bytes(order, nz=3) + data.tobytes())
    assert mrc.changed_sections(path, header, prints) == [1]
    assert mrc.changed_sections(path, header, {0: prints[0]}) == []


def test_rows_of_a_large_section_are_few_and_include_both_ends():
    pixels = np.zeros((1000, 10), np.int16)
    before = mrc.fingerprint(pixels)
    for row in (0, 999):
        pixels[row, 4] = 1
        assert mrc.fingerprint(pixels) != before
        pixels[row, 4] = 0
    pixels[1] = 1
    assert mrc.fingerprint(pixels) == before


def test_section_that_changes_while_it_is_read_is_not_ready(tmp_path, monkeypatch):
    path = tmp_path / "a.mrc"
    write_stack(path, 1)
    monkeypatch.setattr(mrc, "_fingerprint_on_disk", lambda *_: -1)  # somebody wrote meanwhile
    with pytest.raises(NotReadyError, match="written while it was read"):
        mrc.read_section(path, 0)


@pytest.mark.parametrize("cut", range(4, 1024, 4))
def test_first_header_that_is_half_written_gives_no_wrong_section(tmp_path, cut):
    whole = header_bytes(exttyp=b"SERI", nz=1)
    opened = header_bytes(exttyp=b"SERI", nx=0, ny=0, nz=0, mode=0, mx=0, my=0, mz=0, xlen=0)
    opened = opened[:224] + bytes(800)
    torn = whole[:cut] + opened[cut:]
    try:
        header = mrc.parse_header(torn, name="a.mrc")
    except NotReadyError:
        return
    assert (header.nx, header.ny, header.nz, header.mode) == (6, 4, 1, 1)
    assert "SerialEM: a test".startswith(header.title)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"nx": -6}, MicrographError),
        ({"ny": 2**30}, MicrographError),
        ({"nx": 2**19, "ny": 2**19}, MicrographError),
        ({"nz": -1}, MicrographError),
        ({"nz": 2**31 - 1}, MicrographError),
        ({"next": -1}, MicrographError),
        ({"next": 2**30}, MicrographError),
    ],
)
def test_impossible_sizes_are_refused_by_name(fields, error):
    with pytest.raises(error, match=r"a\.mrc"):
        mrc.parse_header(header_bytes(**fields), name="a.mrc")


@pytest.mark.parametrize("order", "<>")
def test_a_bare_header_is_read_at_rest_if_it_describes_the_file_to_the_byte(tmp_path, order):
    """No map string, no stamp and no labels: ../shared/cases/13."""
    path = tmp_path / "bare.mrc"
    header = bytearray(header_bytes(order, map=b"", labels=b"", stamp=np.void(bytes(4))))
    header[212:216] = bytes(4)
    pixels = np.arange(48, dtype=f"{order}i2").reshape(2, 4, 6)
    whole = bytes(header) + pixels.tobytes()
    path.write_bytes(whole)
    with pytest.raises(NotReadyError, match="half written; try again"):
        mrc.read_header(path)
    parsed, _ = mrc.read_header(path, at_rest=True)
    assert parsed.dtype == np.dtype(f"{order}i2")
    assert (mrc.read_section(path, 1, at_rest=True)[1] == pixels[1]).all()
    for wrong in (whole[:-1], whole + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(NotReadyError, match="is not whole"):
            mrc.read_header(path, at_rest=True)


def test_sizes_beyond_the_file_allocate_nothing(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(header_bytes(nx=30_000, ny=30_000, nz=4) + bytes(100))
    tracemalloc.start()
    with pytest.raises(NotReadyError, match="0 complete sections"):
        mrc.read_section(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_extended_header_longer_than_declared_leaves_bytes_that_no_section_counts(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(header_bytes(nz=1, next=0) + bytes(1024) + bytes(48))
    header, status = mrc.read_header(path)
    assert header.lags(status.st_size)  # read again and again; its mdoc tells wrong pixels
    path.write_bytes(header_bytes(nz=1, next=4096) + bytes(1024) + bytes(48))
    header, status = mrc.read_header(path)
    assert header.lacks(status.st_size)
    assert header.complete_sections(status.st_size) == 0


@pytest.mark.parametrize(("flags", "size"), [(1 | 2 | 4 | 16, 14), (2, 6), (2 | 16, 8)])
def test_montage_coordinates_come_from_the_extended_header(tmp_path, flags, size):
    path = tmp_path / "a.mrc"
    write_stack(path, 2, exttyp=b"SERI", nreal=flags, nint=size, next=1024)
    with path.open("r+b") as file:
        file.seek(1024 + size + 2 * (flags & 1))
        file.write(struct.pack("<HHh", 40_000, 7, 3))
    header, _ = mrc.read_header(path)
    assert mrc.read_piece(path, header, 1) == (40_000, 7, 3)
    assert mrc.read_piece(path, header, 1024 // size) is None  # beyond the extended header


def agard(sizes, *, integers=0, floats=32):
    """Older records of FEI, UCSF's Agard: the pixel size is the twelfth float."""
    records = np.zeros((len(sizes), integers + floats), "<f4")
    records[:, integers + 11] = sizes
    return records.tobytes()


def fei(sizes, *, size=768, given=True):
    records = np.zeros((len(sizes), size), np.uint8)
    records[:, 8:12].view("<u4")[:] = given << 14
    records[:, 156:164].view("<f8")[:] = np.reshape(sizes, (-1, 1))
    return records.tobytes()


@pytest.mark.parametrize(
    ("fields", "extended", "expected"),
    [
        # ../shared/cases/11: the header has 1 Å, FEI's records 0.204 nm.
        ({"nreal": 32}, agard([2.04e-10, 2.05e-10]), (0.204, 0.205)),
        ({"nreal": 32, "nint": 8}, agard([2.04e-10] * 2, integers=8), (0.204, 0.204)),
        ({"nreal": 32, "xlen": 12.0}, agard([2.04e-10] * 2), (0.408, 0.408)),  # binned by 2
        ({"nreal": 32, "xlen": 0.0}, agard([2.04e-10] * 2), (0.204, 0.204)),
        ({"nreal": 32}, agard([2.04] * 2), (0.204, 0.204)),  # UCSF: in Å
        ({"nreal": 32, "xlen": 12.24}, agard([5e-10] * 2), (0.204, 0.204)),  # header set since
        ({"nreal": 32}, agard([0.0, np.nan]), (0.1, 0.1)),
        ({"nreal": 32}, agard([-1.0, 3e30]), (0.1, 0.1)),
        ({"nreal": 32}, agard([2.04e-10]), (0.204, 0.1)),  # ends before the second
        ({"exttyp": b"FEI1"}, fei([2.04e-10] * 2), (0.204, 0.204)),
        ({"exttyp": b"FEI2"}, fei([2.04e-10] * 2, size=888), (0.204, 0.204)),
        ({"exttyp": b"FEI1"}, fei([2.04e-10] * 2, given=False), (0.1, 0.1)),
        # SerialEM's own records have no pixel size, and 16 flags are not 12 floats.
        ({"exttyp": b"SERI", "nint": 4, "nreal": 17}, bytes(1024), (0.1, 0.1)),
    ],
)
def test_the_pixel_size_of_an_extended_header_stands_for_an_unset_one(
    tmp_path, fields, extended, expected
):
    path = tmp_path / "a.mrc"
    header = header_bytes(**({"xlen": 6.0, "next": len(extended)} | fields))
    path.write_bytes(header + extended + bytes(2 * 6 * 4 * 2))
    parsed, _ = mrc.read_header(path)
    found = [mrc.read_pixel_size_nm(path, parsed, z) for z in range(2)]
    assert found == pytest.approx(expected)


def test_the_records_of_fei_are_as_long_as_the_first_one_says(tmp_path):
    # EPU's specification: newer versions add to a record; readers go by its Metadata Size.
    path = tmp_path / "a.mrc"
    for length, expected in ((1024, 0.205), (0, 0.1), (100, 0.1), (2**30, 0.1)):
        extended = bytearray(fei([2.04e-10, 2.05e-10], size=1024))
        extended[:4] = np.array([length], "<i4").tobytes()
        header = header_bytes(xlen=6.0, next=len(extended), exttyp=b"FEI2")
        path.write_bytes(header + extended + bytes(2 * 6 * 4 * 2))
        parsed, _ = mrc.read_header(path)
        assert mrc.read_pixel_size_nm(path, parsed, 0) == pytest.approx(0.204)
        assert mrc.read_pixel_size_nm(path, parsed, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ((1, 2, 3), 0.1),
        ((2, 1, 3), 0.3),
        ((3, 2, 1), 0.7),
        ((1, -2, 3), 0.1),
        ((0, 0, 0), 0.1),
        ((1, 1, 1), 0.1),
        ((4, 2, 3), 0.1),
        ((-2147483648, 2, 3), 0.1),
    ],
)
def test_the_pixel_size_is_that_of_the_axis_of_the_columns(axes, expected):
    # Volumes of crystallography have them along z (salilab/imp issue 1053).
    fields = {"mx": 10, "my": 20, "mz": 30, "xlen": 10.0, "ylen": 60.0, "zlen": 210.0}
    header = mrc.parse_header(header_bytes(axes=axes, **fields), name="a.mrc")
    assert header.pixel_size_nm == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "bottom"),
        ({"exttyp": b"SERI"}, "bottom"),
        ({"exttyp": b"AGAR"}, "bottom"),
        ({"exttyp": b"FEI1"}, "top"),
        ({"exttyp": b"FEI2"}, "top"),
        ({"exttyp": b"FEI1", "imod_stamp": mrc.IMOD_STAMP}, "bottom"),  # newstack has turned it
        ({"axes": (1, -2, 3)}, "top"),
    ],
)
def test_the_first_row_is_at_the_top_where_imod_takes_it_so(tmp_path, fields, expected):
    path = tmp_path / "a.mrc"
    header = header_bytes(**({"imod_stamp": 0, "labels": b"another program"} | fields))
    path.write_bytes(header + bytes(2 * 6 * 4 * 2))
    assert read_section(path).metadata.first_row == expected


def test_an_extended_header_has_the_byte_order_of_its_file(tmp_path):
    path = tmp_path / "a.mrc"
    extended = np.frombuffer(agard([2.04e-10] * 2), "<f4").astype(">f4").tobytes()
    header = header_bytes(">", xlen=6.0, next=len(extended), nreal=32)
    path.write_bytes(header + extended + bytes(2 * 6 * 4 * 2))
    parsed, _ = mrc.read_header(path)
    assert mrc.read_pixel_size_nm(path, parsed, 1) == pytest.approx(0.204)


def test_the_pixel_size_of_fei_is_that_which_ncempy_reads(tmp_path):
    path = tmp_path / "a.mrc"
    extended = agard([2.04e-10] * 1024)
    header = header_bytes(xlen=6.0, next=len(extended), nreal=32, labels=b"Fei Company (C)")
    path.write_bytes(header + extended + bytes(2 * 6 * 4 * 2))
    from ncempy.io import mrc as ncempy_mrc  # takes matplotlib along, 1.5 s

    size_m = ncempy_mrc.mrcReader(str(path))["pixelSize"][-1] * 1e-10
    parsed, _ = mrc.read_header(path)
    assert mrc.read_pixel_size_nm(path, parsed, 0) == pytest.approx(size_m * 1e9)


def test_who_wrote_a_file_last_is_told_by_its_labels():
    assert mrc.parse_header(header_bytes(nlabl=1), name="a").by_serialem
    header = np.frombuffer(header_bytes(nlabl=2), mrc.HEADER_DTYPE).copy()
    header["labels"][0, 1] = b"NEWSTACK: Images copied, transformed.      22-Feb-18  09:36:56"
    assert not mrc.parse_header(header.tobytes(), name="a").by_serialem
    header["labels"][0, 0] = b"SerialEMCCD: Frames . ., scaled by 1.00  r/f 0"
    assert mrc.parse_header(header.tobytes(), name="a").frames
