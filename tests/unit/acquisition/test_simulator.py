"""The SerialEM stand-in: bytes, order of writes, and files that other readers accept."""

from datetime import datetime
from itertools import pairwise

import mrcfile
import numpy as np
import pytest

from nanostream.acquisition import mrc
from nanostream.acquisition.autodoc import metadata_of, parse_mdoc
from nanostream.acquisition.mdoc import read_metadata
from nanostream.acquisition.simulator import (
    DemoMicrograph,
    StackWriter,
    demo_fields,
    demo_movie,
    load_images,
    play,
)
from nanostream.errors import MicrographError, NotReadyError

WHEN = datetime(2026, 2, 3, 4, 5, 6)


def images(count=3, dtype=np.int16, seed=0, shape=(5, 7)):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 200, shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_written_stack_is_valid_and_reads_back(tmp_path, dtype):
    path, sections = tmp_path / "a.mrc", images(dtype=dtype)
    with StackWriter(path, pixel_size_nm=0.05) as writer:
        assert [writer.append(pixels) for pixels in sections] == [0, 1, 2]
    with mrcfile.open(path, header_only=True) as reference:
        assert reference.header.exttyp == b"SERI"
        assert reference.header.nversion == (0 if dtype is np.uint8 else 20140)
        assert reference.voxel_size.x == pytest.approx(0.5)
    header, stat = mrc.read_header(path)
    assert header.data_offset == 3072  # SerialEM's default: 2048 bytes of extended header
    assert header.data_end == stat.st_size
    stack = np.stack(sections)
    assert (header.minimum, header.maximum) == (stack.min(), stack.max())
    assert header.mean == pytest.approx(stack.mean(), rel=1e-6)
    for z, pixels in enumerate(sections):
        read = mrc.read_section(path, z)[1]
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, pixels)


def test_each_step_is_one_write_in_serialems_order(tmp_path):
    path = tmp_path / "a.mrc"
    mdoc = tmp_path / "a.mrc.mdoc"
    steps = []

    def record(names):
        for name in names:
            data = path.read_bytes()
            nz = int(np.frombuffer(data[8:12], "<i4")[0]) if data else -1
            size = mdoc.stat().st_size if mdoc.exists() else -1
            steps.append((name, len(data), nz, np.sign(size)))

    writer = StackWriter(path, clock=lambda: WHEN)
    record(writer.open_steps())
    for pixels in images(2):
        record(writer.append_steps(pixels))
    writer.__exit__()
    assert steps == [
        ("create", 0, -1, -1),
        ("empty header", 1024, 0, -1),
        ("empty extended header", 3072, 0, -1),
        ("pixels", 3142, 0, -1),
        ("header", 3142, 1, -1),
        ("extended header", 3142, 1, -1),
        ("empty mdoc", 3142, 1, 0),
        ("mdoc", 3142, 1, 1),
        ("pixels", 3212, 1, 1),
        ("header", 3212, 2, 1),
        ("extended header", 3212, 2, 1),
        ("mdoc", 3212, 2, 1),
    ]


def test_empty_header_is_serialems(tmp_path):
    path = tmp_path / "a.mrc"
    with StackWriter(path):
        header = np.frombuffer(path.read_bytes(), mrc.HEADER_DTYPE, 1)[0]
        assert [int(header[key]) for key in ("nx", "ny", "nz", "mode")] == [0, 0, 0, 0]
        assert (header["next"], header["nint"], header["nreal"]) == (2048, 4, 17)
        assert (bytes(header["map"]), bytes(header["stamp"])) == (b"MAP ", b"\x44\x44\0\0")
        with pytest.raises(NotReadyError):
            mrc.read_header(path)


def test_titles_and_extended_record(tmp_path):
    path = tmp_path / "a.mrc"
    with StackWriter(path, flags=1 | 4 | 16, clock=lambda: WHEN) as writer:
        writer.append(images()[0], TiltAngle=-12.34, StagePosition=(10.0, -2.0), Intensity=0.5)
    header, _ = mrc.read_header(path)
    assert header.labels[0] == f"SerialEM: {'nanostream simulator':<45} 03-Feb-26  04:05:06"
    assert header.labels[1].startswith("    Tilt axis angle = -5.2, binning = 1")
    record = np.frombuffer(path.read_bytes(), "<i2", 4, offset=1024)
    assert record.tolist() == [-1234, 250, -50, 12500]


def test_mdoc_is_crlf_and_complete_and_an_old_one_is_kept_aside(tmp_path):
    path, sidecar = tmp_path / "a.mrc", tmp_path / "a.mrc.mdoc"
    sidecar.write_text("old")
    first, second = images(2)
    with StackWriter(path, pixel_size_nm=0.05, clock=lambda: WHEN) as writer:
        assert not sidecar.exists()
        writer.append(first, TiltAngle=1.5)
        writer.append(second, NavigatorLabel="17")
    assert (tmp_path / "a.mrc.mdoc~").read_text() == "old"
    data = sidecar.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > 40
    mdoc = parse_mdoc(data)
    assert len(mdoc.titles) == 2
    assert mdoc.globals["ImageFile"] == "a.mrc"
    pixel_size_nm, metadata = metadata_of(mdoc, 0)
    assert (pixel_size_nm, metadata.tilt_deg) == (pytest.approx(0.05), 1.5)
    assert metadata.min_max_mean == pytest.approx((first.min(), first.max(), first.mean()), 1e-5)
    found = read_metadata(path, 1)
    assert found is not None
    assert (found[1].navigator_label, found[1].acquired) == ("17", "2026-02-03T04:05:06")


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((5, 7), np.int32), "int32"),
        (np.zeros((5, 7, 3), np.uint8), "shape"),
        (np.zeros((5, 8), np.int16), "does not fit"),
        (np.zeros((5, 7), np.uint16), "does not fit"),
    ],
)
def test_what_serialem_would_not_write_is_refused(tmp_path, pixels, says):
    with StackWriter(tmp_path / "a.mrc") as writer:
        writer.append(np.zeros((5, 7), np.int16))
        with pytest.raises(MicrographError, match=says):
            writer.append(pixels)


def test_full_extended_header_is_save_error_3(tmp_path):
    with StackWriter(tmp_path / "a.mrc", max_sections=256) as writer:
        for _ in range(256):
            writer.append(np.zeros((1, 1), np.uint8))
        with pytest.raises(MicrographError, match="room for 256"):
            writer.append(np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize(
    ("kind", "names", "sections"),
    [
        ("stack", ["session.mrc"], 3),
        ("single", ["session_0001.mrc", "session_0002.mrc", "session_0003.mrc"], 1),
    ],
)
def test_play_keeps_the_rate_of_saves(tmp_path, kind, names, sections):
    time_s, sleeps = [0.0], []

    def sleep(seconds):
        sleeps.append(seconds)
        time_s[0] += seconds

    paths = play(
        images(), tmp_path / "x", kind=kind, interval_s=2.0, sleep=sleep, now=lambda: time_s[0]
    )
    assert [path.name for path in paths] == names
    assert sleeps == [2.0, 2.0]
    assert all(mrc.read_header(path)[0].nz == sections for path in paths)


def test_load_images_cycles_to_a_count(tmp_path):
    np.save(tmp_path / "a.npy", np.stack(images(2)))
    np.save(tmp_path / "b.npy", images(1, seed=1)[0])
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    once = list(load_images(paths))
    assert len(once) == 3
    seven = list(load_images(paths, count=7))
    assert all(np.array_equal(image, once[i % 3]) for i, image in enumerate(seven))
    with pytest.raises(MicrographError, match="no images"):
        list(load_images([]))


def test_demo_fields_are_those_of_the_micrograph_with_noise():
    micrograph = DemoMicrograph.load("gold")
    fields = list(demo_fields("gold", seed=3))
    counts, labels = (
        np.block([[one[0], one[1]], [one[2], one[3]]]) for one in zip(*fields, strict=True)
    )
    np.testing.assert_array_equal(labels, micrograph.labels)
    assert counts.dtype == np.int16
    assert (counts != micrograph.expected_counts).mean() > 0.9
    assert counts.mean() == pytest.approx(micrograph.expected_counts.mean(), rel=1e-3)
    np.testing.assert_array_equal(next(demo_fields("gold", seed=3))[0], fields[0][0])


def test_demo_movie_is_reproducible_noise_over_drifting_truth():
    first = list(demo_movie(40, shape=(512, 600), seed=3))
    again = demo_movie(3, shape=(512, 600), seed=3)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first[:3], again, strict=True))
    assert {p.dtype for p, _ in first} == {np.dtype(np.int16)}
    assert {(p.shape, t.shape) for p, t in first} == {((512, 600), (512, 600))}
    assert not np.array_equal(first[0][0], first[1][0])
    micrograph = DemoMicrograph.load("gold")
    assert micrograph.pixel_size_nm == 0.026

    areas = np.bincount(micrograph.labels.ravel())

    def corner(labels):  # from a particle that lies wholly in the window
        whole = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(areas)) == areas)[0]
        where = [np.argwhere(image == whole).min(axis=0) for image in (micrograph.labels, labels)]
        y, x = where[0] - where[1]
        np.testing.assert_array_equal(labels, micrograph.labels[y : y + 512, x : x + 600])
        return y, x

    corners = [corner(labels) for _, labels in first]
    steps = np.abs([np.subtract(b, a) for a, b in pairwise(corners)]).max(axis=1)
    assert 1 <= np.mean(steps[steps <= 2]) <= 2
    assert np.sum(steps > 2) <= 3  # jumps
    y, x = corners[0]
    window = micrograph.expected_counts[y : y + 512, x : x + 600].astype(float)
    residual = (first[0][0] - window) / np.sqrt(window)
    # Poisson: zero mean, unit variance; 307,200 pixels put both within 0.01 (5 sigma).
    assert abs(residual.mean()) < 0.01
    assert abs(residual.std() - 1) < 0.01


@pytest.mark.parametrize("arguments", [{"shape": (2000, 10)}, {"name": "lead"}])
def test_impossible_demo_is_refused(arguments):
    with pytest.raises(MicrographError):
        next(demo_movie(1, seed=0, **arguments))
