"""Every kind of session the stand-in plays: its order, its bytes, and its faults."""

import re
from datetime import datetime
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from nanostream.acquisition import mrc
from nanostream.acquisition.autodoc import metadata_of, parse_mdoc
from nanostream.acquisition.frames import read_section
from nanostream.acquisition.mdoc import read_metadata
from nanostream.acquisition.simulator import FRAMES, Fault, Kind, StackWriter, play, script
from nanostream.errors import ConfigError, NotReadyError

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "serialem"
WHEN = datetime(2026, 2, 3, 4, 5, 6)
IMPOSSIBLE = {
    Kind.tiff: {Fault.torn_header, Fault.reordered},
    Kind.idoc: {Fault.torn_header, Fault.reordered},
    Kind.gatan: {Fault.reordered},
}
POSSIBLE = {kind: [f for f in Fault if f not in IMPOSSIBLE.get(kind, ())] for kind in Kind}


def genuine(name):
    path = GENUINE / name
    if not path.exists():
        pytest.skip(f"genuine SerialEM file {path} is not here")
    return path


def images(count, dtype=np.int16):
    rng = np.random.default_rng(1)
    return [rng.integers(1, 200, (5, 7)).astype(dtype) for _ in range(count)]


def steps(kind, count, dest, **options):
    return script(kind, images(count), dest, pixel_size_nm=0.05, clock=lambda: WHEN, **options)


def pixels_of(path, z):
    return read_section(path).pixels if path.suffix == ".tif" else mrc.read_section(path, z)[1]


RENAMING = ("renamed", "unsorted")
OPEN = "create, empty header, empty extended header"
FIRST = "pixels, header, extended header, empty mdoc, mdoc"
NEXT = "pixels, header, extended header, mdoc"
SORT = f"unsorted mdoc, marker removed, unsorted, open marker, {OPEN}, open marker"
SORTED = "marker removed, marker removed, unsorted removed, unsorted mdoc removed"
TIFF = "create, TIFF header, pixels, directory, TIFF pointer"


@pytest.mark.parametrize(
    ("kind", "count", "order"),
    [
        ("stack", 3, [OPEN, FIRST, NEXT, NEXT]),
        ("single", 2, [OPEN, FIRST, OPEN, FIRST]),
        ("tilt", 2, [OPEN, "open marker", FIRST, NEXT, "marker removed"]),
        ("dosesym", 2, [OPEN, "open marker", FIRST, NEXT, SORT, FIRST, NEXT, SORTED]),
        ("montage", 4, [OPEN, FIRST, NEXT, NEXT, NEXT, "empty mdoc, mdoc"]),
        ("gatan", 2, ["create, frame, header, frame, header, empty mdoc, mdoc"]),
        ("tiff", 2, [TIFF, "empty mdoc, mdoc", TIFF, "empty mdoc, mdoc"]),
        ("idoc", 2, [TIFF, "empty mdoc, mdoc", TIFF, "mdoc"]),
        ("overwrite", 4, [OPEN, FIRST, NEXT, FIRST, NEXT]),
        ("reuse", 4, [OPEN, FIRST, NEXT, NEXT, OPEN, "mdoc backup", FIRST]),
    ],
)
def test_steps_are_in_the_writers_order(tmp_path, kind, count, order):
    names = [step.name for step in steps(kind, count, tmp_path)]
    assert names == ", ".join(order).split(", ")


@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("kind", Kind)
def test_each_step_is_one_write(tmp_path, kind, faulty):
    before = {}
    for step in steps(kind, 10, tmp_path, faults=POSSIBLE[kind] if faulty else ()):
        after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
        renaming = step.name in ("mdoc backup", *RENAMING, "mdoc renamed", "unsorted mdoc")
        assert len(changed) == 2 if renaming else len(changed) <= 1
        # Of a header that is written again a part, or all of it, may be as it was.
        assert step.path in changed or "header" in step.name, step
        before = after


@pytest.mark.parametrize(
    "faults", [(), *((f,) for f in Fault), tuple(Fault)], ids=lambda f: " ".join(f) or "none"
)
@pytest.mark.parametrize("kind", Kind)
def test_complete_sections_hold_their_image_at_every_step(tmp_path, kind, faults):
    count = FRAMES + 2 if kind == "gatan" else 7
    options = {"faults": [f for f in faults if f in POSSIBLE[kind]], "seed": 3}
    rehearsal = steps(kind, count, tmp_path / "rehearsal", **options)
    upcoming = [section for step in rehearsal for section in step.completed]
    source, sections, moved = images(count), {}, {}
    if kind == "dosesym":  # and a copy, by tilt
        source += [source[i] for i in (6, 4, 2, 0, 1, 3, 5)]
    source = iter(source)
    for step in steps(kind, count, tmp_path / "x", **options):
        if step.name in ("create", "deleted", "unsorted removed", *RENAMING):
            moved = {z: pixels for (path, z), pixels in sections.items() if path == step.path}
            sections = {at: pixels for at, pixels in sections.items() if at[0] != step.path}
        for path, z, _ in step.completed:
            sections[path, z] = moved[z] if step.name.endswith(RENAMING) else next(source)
        del upcoming[: len(step.completed)]
        for at, pixels in sections.items():
            # What is in other files is as it was before the step.
            touched = step.path.startswith(at[0]) or step.path.endswith(".idoc") or not upcoming
            # What is overwritten in place is neither the old nor the new section for a while.
            if touched and (not upcoming or at != upcoming[0][:2]):
                np.testing.assert_array_equal(
                    pixels_of(tmp_path / "x" / at[0], at[1]), pixels, err_msg=f"{at}, {step}"
                )
    assert next(source, None) is None
    assert upcoming == []


@pytest.mark.parametrize("kind", ["stack", "single", "tilt", "montage"])
def test_a_section_completes_with_the_header_that_counts_it(tmp_path, kind):
    rehearsal = list(steps(kind, 5, tmp_path / "rehearsal"))
    for step, following in zip(steps(kind, 5, tmp_path / "x"), [*rehearsal[1:], None], strict=True):
        for path, z, _ in following.completed if following else ():
            assert (step.name, following.name) == ("pixels", "header")
            with pytest.raises(NotReadyError):
                mrc.read_section(tmp_path / "x" / path, z)


@pytest.mark.parametrize(
    ("kind", "count", "completed"),
    [
        ("tilt", 43, [f"session_0001.st#{z}" for z in range(41)] + ["session_0002.st#0"]),
        ("gatan", 9, [f"session_0001.mrcs#{z}" for z in range(8)] + ["session_0002.mrcs#0"]),
        ("tiff", 2, ["session_0001.tif#0", "session_0002.tif#0"]),
        ("idoc", 2, ["session0000.tif#0", "session0001.tif#0"]),
        ("overwrite", 6, [f"session.mrc{n}" for n in ("#0", "#1", "~2#0", "#2", "#3", "~2#1")]),
        ("reuse", 4, [f"session.mrc{n}" for n in ("#0", "#1", "#2", "~2#0")]),
    ],
)
def test_sections_are_named_by_file_and_generation(tmp_path, kind, count, completed):
    found = [
        f"{path}#{z}" if generation == 1 else f"{path}~{generation}#{z}"
        for step in steps(kind, count, tmp_path)
        for path, z, generation in step.completed
    ]
    assert found[: len(completed)] == completed
    assert len(found) == count


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["tilt", "dosesym", "montage", "gatan", "overwrite", "reuse"])
def test_mrcfile_reads_every_stack(tmp_path, kind, dtype):
    pixels = images(5, dtype)
    (path,) = play(pixels, tmp_path, kind=kind, interval_s=0, pixel_size_nm=0.05)
    kept = {"overwrite": [2, 1, 3, 4], "reuse": [3, 4], "dosesym": [4, 2, 0, 1, 3]}
    expected = kept.get(kind, range(5))
    with mrcfile.open(path) as reference:
        found = reference.data.view(np.uint8) if dtype is np.uint8 else reference.data
        np.testing.assert_array_equal(found, np.stack([pixels[i] for i in expected]))
        assert reference.voxel_size.x == pytest.approx(0.5)
    header, stat = mrc.read_header(path)
    assert (header.nz, header.data_end) == (len(expected), stat.st_size)
    assert header.montage == (kind == "montage")
    if kind == "overwrite":
        written = np.stack([pixels[i] for i in expected])
        assert (header.minimum, header.maximum) == (written.min(), written.max())
        assert header.mean == pytest.approx(written.mean(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["tiff", "idoc"])
def test_tifffile_reads_every_image(tmp_path, kind, dtype):
    pixels = images(3, dtype)
    paths = play(pixels, tmp_path, kind=kind, interval_s=0)
    for path, expected in zip(paths, pixels, strict=True):
        found = tifffile.imread(path)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_tilt_series_has_its_marker_while_it_is_open(tmp_path):
    marked = [(tmp_path / "session_0001.st.openTS").exists() for _ in steps("tilt", 2, tmp_path)]
    assert marked == [False] * 3 + [True] * 10 + [False]
    angles = [read_metadata(tmp_path / "session_0001.st", z)[1].tilt_deg for z in range(2)]
    assert angles == [-60, -57]


def test_montage_pieces_have_coordinates_in_header_and_mdoc(tmp_path):
    for _ in steps("montage", 6, tmp_path):
        pass
    path = tmp_path / "session.mrc"
    data = path.read_bytes()
    header = np.frombuffer(data, mrc.HEADER_DTYPE, 1)[0]
    assert (header["nint"], header["nreal"]) == (14, 1 | 2 | 4 | 16)
    assert header["next"] == 20 * 1024  # 1440 pieces of 14 bytes, in whole KiB
    records = np.frombuffer(data, "<i2", 6 * 7, 1024).reshape(6, 7)
    pieces = [(0, 0, 0), (0, 4, 0), (6, 0, 0), (6, 4, 0), (0, 0, 1), (0, 4, 1)]
    assert list(map(tuple, records[:, 1:4].tolist())) == pieces
    mdoc = (tmp_path / "session.mrc.mdoc").read_text(encoding="cp1252")
    parsed = parse_mdoc(mdoc)
    assert parsed.globals["Montage"] == "1"
    coordinates = [keys["PieceCoordinates"] for _, keys in sorted(parsed.sections.items())]
    assert coordinates == [" ".join(map(str, piece)) for piece in pieces]
    assert mdoc.count("[MontSection = 0]\n") == 1  # of the montage that is whole
    assert mdoc.count("MontSection") == 1


def test_header_of_frames_is_ahead_of_them_and_may_shrink(tmp_path):
    seen = []
    for step in steps("gatan", FRAMES + 2, tmp_path):
        path = tmp_path / step.path
        if path.suffix == ".mrcs" and step.name in ("frame", "header"):
            nz = int(np.frombuffer(path.read_bytes()[8:12].ljust(4, b"\0"), "<i4")[0])
            seen.append((step.path[8:12], nz, (path.stat().st_size - 1024) // 70))
    first = [("0001", 0, 1), *[("0001", 8, n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 8)]]
    assert seen == [*first, *[("0002", nz, n) for nz, n in ((0, 1), (8, 1), (8, 2), (2, 2))]]
    told = parse_mdoc((tmp_path / "session_0002.mrcs.mdoc").read_bytes())
    assert told.frame_sets[0]["NumSubFrames"] == "2"
    assert metadata_of(told, 1)[0] == pytest.approx(0.05)


def test_idoc_describes_each_image(tmp_path):
    for _ in steps("idoc", 2, tmp_path):
        pass
    text = (tmp_path / "session.idoc").read_bytes().decode("cp1252")
    assert text.startswith("ImageSeries = 1\r\n")
    assert re.findall(r"\r\n\r\n\[(\w+) = (session\d+\.tif)\]\r\n", text) == [
        ("Image", "session0000.tif"),
        ("Image", "session0001.tif"),
    ]
    low, high, mean = (f(images(1)[0]) for f in (np.min, np.max, np.mean))
    assert f"MinMaxMean = {low} {high} {mean:g}\r\n" in text


def test_overwriting_rewrites_the_whole_mdoc(tmp_path):
    sizes = []
    for step in steps("overwrite", 3, tmp_path):
        if step.path.endswith(".mdoc"):
            sizes.append((tmp_path / step.path).stat().st_size)
    assert [size == 0 for size in sizes] == [True, False, False, True, False]
    low, high, mean = (f(images(3)[2]) for f in (np.min, np.max, np.mean))
    parsed = parse_mdoc((tmp_path / "session.mrc.mdoc").read_bytes())
    assert parsed.sections[0]["MinMaxMean"] == f"{low} {high} {mean:g}"
    assert list(parsed.sections) == [0, 1]


@pytest.mark.parametrize("mdoc", [True, False])
def test_only_with_an_mdoc_are_overwritten_numbers_forgotten(tmp_path, mdoc):
    pixels = [np.full((2, 2), value, np.int16) for value in (9, 4, 5)]  # the 9 is overwritten
    (path,) = play(pixels, tmp_path, kind="overwrite", interval_s=0, mdoc=mdoc)
    header, _ = mrc.read_header(path)
    found = (header.minimum, header.maximum, header.mean)
    assert found == ((4, 5, 4.5) if mdoc else (4, 9, 6))


def test_without_mdoc_there_is_none_but_the_idoc(tmp_path):
    for kind in Kind:
        done = list(steps(kind, 3, tmp_path / kind, mdoc=False))
        assert sum(len(step.completed) for step in done) == (9 if kind == "dosesym" else 3)
        sidecars = {path.suffix for path in (tmp_path / kind).iterdir()} & {".mdoc", ".idoc"}
        assert sidecars == ({".idoc"} if kind == "idoc" else set())


@pytest.mark.parametrize(("kind", "fault"), [(k, f) for k in Kind for f in POSSIBLE[k]])
def test_every_fault_strikes_every_kind(tmp_path, kind, fault):
    plain = [step.name for step in steps(kind, 5, tmp_path / "plain")]
    names = [step.name for step in steps(kind, 5, tmp_path / "faulty", faults=[fault])]
    signs = {
        "pause": r"(pixels|frame), first part",
        "torn-header": "header, first part",
        "reordered": "early header",
        "rename": "renamed",
        "delete": "deleted",
    }
    assert any(re.fullmatch(signs[fault], name) for name in names)
    assert not any(re.fullmatch(signs[fault], name) for name in plain)


@pytest.mark.parametrize("kind", Kind)
def test_a_renamed_file_has_its_sections_again(tmp_path, kind):
    completed = []
    for step in steps(kind, 3, tmp_path, faults=["rename"]):
        if step.name in ("renamed", "mdoc renamed"):
            completed += [at for at in step.completed if (tmp_path / at[0]).exists()]
    # The renamed images of an idoc are in no sidecar; of 3 images one overwrites another.
    counts = {"idoc": 0, "overwrite": 2, "dosesym": 3}
    assert len(completed) >= counts.get(kind, 1)
    assert (completed == []) == (kind == "idoc")
    assert len(set(completed)) == len(completed)


def test_faults_come_again_with_their_seed(tmp_path):
    played = [
        [step.name for step in steps("stack", 30, tmp_path / str(i), faults=Fault, seed=seed)]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert played[0] == played[1] != played[2]


def test_a_reordered_section_is_counted_before_its_bytes(tmp_path):
    pixels = images(1)[0]
    states = {}
    for step in steps("single", 1, tmp_path, faults=["reordered"]):
        data = (tmp_path / "session_0001.mrc").read_bytes()
        states[step.name] = (data[8:9], data[3072:])
    assert states["early header"] == (b"\1", b"")
    assert states["zeros"] == (b"\1", bytes(pixels.nbytes))
    assert states["pixels"] == (b"\1", pixels.tobytes())


def test_a_torn_header_completes_a_section_only_if_it_can_be_read(tmp_path):
    seen = set()
    for kind, count in (("single", 30), ("stack", 30)):
        source = iter(images(count))
        for step in steps(kind, count, tmp_path, faults=["torn-header"]):
            if step.name == "pixels":
                expected = next(source)
            if step.name == "header, first part":
                try:
                    z = int((tmp_path / step.path).read_bytes()[8]) - 1
                    read = mrc.read_section(tmp_path / step.path, max(z, 0))[1]
                    readable = read.dtype == np.int16 and np.array_equal(read, expected)
                except NotReadyError:
                    readable = False
                assert readable == bool(step.completed), step
                seen.add((kind, readable))
    assert seen == {(kind, readable) for kind in ("single", "stack") for readable in (True, False)}


@pytest.mark.parametrize(
    ("kind", "faults", "says"),
    [
        ("film", [], "'film' is not a valid Kind; kinds: stack, single"),
        ("stack", ["fire"], "'fire' is not a valid Fault; kinds: .* faults: pause, torn-header"),
        ("tiff", ["reordered", "pause"], "fault reordered: cannot happen to files of kind tiff"),
    ],
)
def test_what_cannot_be_played_is_refused_at_once(tmp_path, kind, faults, says):
    with pytest.raises(ConfigError, match=says):
        script(kind, [], tmp_path, faults=faults)
    assert list(tmp_path.iterdir()) == []


def test_play_stays_halfway_for_a_while(tmp_path):
    slept: list[float] = []
    faults = [fault.value for fault in Fault]
    left = play(
        images(1), tmp_path, interval_s=1, faults=faults, seed=1, pause_s=0.3, sleep=slept.append
    )
    assert not left  # deleted in the end
    assert slept == [0.3] * 4  # header, size, zeros, pixels


def test_extended_header_is_byte_for_byte_that_of_a_genuine_tilt_series(tmp_path):
    data = genuine("mrc/test_002_mode1.st").read_bytes()
    real = np.frombuffer(data, mrc.HEADER_DTYPE, 1)[0]
    records = np.frombuffer(data, "<i2", 41 * 3, 1024).reshape(41, 3)
    with StackWriter(tmp_path / "a.st", flags=int(real["nreal"])) as writer:
        for tilt, x, y in records.tolist():
            writer.append(images(1)[0], TiltAngle=tilt / 100, StagePosition=(x / 25, y / 25))
    ours = (tmp_path / "a.st").read_bytes()
    header = np.frombuffer(ours, mrc.HEADER_DTYPE, 1)[0]
    for key in ("nint", "nreal", "nz", "axes", "angles", "map", "imod_stamp"):
        assert np.array_equal(header[key], real[key]), key
    assert ours[1024 : 1024 + 41 * 6] == data[1024 : 1024 + 41 * 6]
    titles = [
        rb"SerialEM: .{45} \d\d-[A-Z][a-z][a-z]-\d\d  \d\d:\d\d:\d\d +",
        rb"    Tilt axis angle = -?\d+\.\d, binning = \d  spot = \d  camera = \d +",
    ]
    for labels in (header["labels"], real["labels"]):
        assert [bool(re.fullmatch(t, label)) for t, label in zip(titles, labels, strict=False)] == [
            True,
            True,
        ]


@pytest.mark.parametrize(
    ("kind", "name", "section"),
    [
        ("stack", "pyem_tutorials_Tutorial1-sorting_map1.mrc.mdoc", "ZValue"),
        ("tilt", "mdocfile_tilt_series.mdoc", "ZValue"),
        ("montage", "pyserialem_gm.mrc.mdoc", "ZValue"),
        ("gatan", "mdcatch_frameset_tif.mdoc", "FrameSet"),
    ],
)
def test_mdoc_has_the_syntax_of_genuine_ones(tmp_path, kind, name, section):
    theirs = genuine(f"mdoc/{name}").read_text(encoding="cp1252").splitlines()
    for _ in steps(kind, 4, tmp_path):
        pass
    (path,) = tmp_path.glob("*.mdoc")
    mine = path.read_text(encoding="cp1252").splitlines()

    def keys(lines, begins):
        start = lines.index(begins) + 1
        end = lines.index("", start) if "" in lines[start:] else len(lines)
        return [line.split(" = ")[0] for line in lines[start:end]]

    def shape(lines):  # what precedes the first section: keys, blank lines, titles
        top = lines[: lines.index(f"[{section} = 0]")]
        return [re.sub(r" = .*?(\]?)$", r" = \1", line) for line in top]

    # Of 2015 to 2020: without Version, and the oldest without Voltage.
    assert [line for line in shape(mine) if line in shape(theirs)] == shape(theirs)
    ours, real = (keys(lines, f"[{section} = 0]") for lines in (mine, theirs))
    both = set(ours) & set(real)
    assert len(both) >= 18
    assert [k for k in ours if k in both] == [k for k in real if k in both]
