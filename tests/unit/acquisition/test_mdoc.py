"""SerialEM metadata: real mdoc files, torn files, odd values."""

import os
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition import mdoc as mdoc_module
from nanostream.acquisition import sidecars
from nanostream.acquisition.autodoc import metadata_of, parse_mdoc
from nanostream.acquisition.mdoc import (
    read_listing,
    read_metadata,
    read_metadata_of,
)
from nanostream.acquisition.sidecars import find_sidecar

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "serialem" / "mdoc"
MAP1 = "pyem_tutorials_Tutorial1-sorting_map1.mrc.mdoc"


def genuine(name):
    path = GENUINE / name
    if not path.exists():
        pytest.skip(f"genuine mdoc {path} is not here")
    return path.read_bytes()


def section(z, *, date="22-Feb-18  09:36:56", **keys):
    lines = [f"[ZValue = {z}]", *(f"{k} = {v}" for k, v in keys.items()), f"DateTime = {date}"]
    return "\r\n" + "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize(
    ("name", "sections", "frame_sets", "titles"),
    [
        (MAP1, 1, 0, 2),
        ("mdocfile_tilt_series.mdoc", 41, 0, 2),
        ("mdocfile_montage_section.mdoc", 62, 0, 2),
        ("mdocfile_frame_set_single.mdoc", 0, 1, 1),
        ("mdocfile_frame_set_multiple.mdoc", 20, 1, 1),
        ("mdcatch_frameset_tif.mdoc", 0, 1, 1),
        ("pyserialem_gm.mrc.mdoc", 25, 0, 2),
    ],
)
def test_real_files_have_all_their_sections(name, sections, frame_sets, titles):
    mdoc = parse_mdoc(genuine(name))
    assert (len(mdoc.sections), len(mdoc.frame_sets), len(mdoc.titles)) == (
        sections,
        frame_sets,
        titles,
    )
    assert list(mdoc.sections) == list(range(sections))


@pytest.mark.parametrize("number", ["0\x1f", "9" * 5000, "-1", "1.5", "\xb2"])
def test_a_section_without_a_number_is_left_out(number):
    assert parse_mdoc(f"[ZValue = {number}]\nTiltAngle = 1\n".encode("cp1252")).sections == {}


def test_real_single_image():
    mdoc = parse_mdoc(genuine(MAP1))
    assert mdoc.titles[1] == "Tilt axis angle = -5.2, binning = 1  spot = 1  camera = 0"
    pixel_size_nm, metadata = metadata_of(mdoc, 0)
    assert pixel_size_nm == pytest.approx(10.65)
    assert (metadata.stage_x_um, metadata.stage_y_um, metadata.stage_z_um) == (
        197.436,
        -299.454,
        6.91424,
    )
    assert metadata.voltage_kv == 200
    assert metadata.min_max_mean == (23458, 51745, 38867.4)
    assert metadata.acquired == "2018-02-22T09:35:55"
    assert metadata.pixel_size_source == "mdoc"
    assert metadata.dose_e_per_a2 is None  # written as 0: not calibrated


def test_real_frame_set_describes_every_frame():
    mdoc = parse_mdoc(genuine("mdocfile_frame_set_single.mdoc"))
    pixel_size_nm, metadata = metadata_of(mdoc, 7)
    assert pixel_size_nm == pytest.approx(0.12827)
    assert metadata.dose_e_per_a2 == 7.65892


def test_three_digit_exponent_of_old_builds():
    _, metadata = metadata_of(parse_mdoc(genuine("mdcatch_frameset_tif.mdoc")), 0)
    assert metadata.defocus_um == 1.04811e-5


def test_every_real_section_gives_its_stage_position():
    for path in sorted(GENUINE.glob("*.mdoc")):
        mdoc = parse_mdoc(path.read_bytes())
        for z in mdoc.sections:
            _, metadata = metadata_of(mdoc, z)
            keys = mdoc.section(z) or {}
            assert (metadata.stage_x_um is None) == ("StagePosition" not in keys), path.name


def test_frames_of_a_real_tilt_series_have_the_tilt_that_they_are_of():
    mdoc = parse_mdoc(genuine("mdocfile_frame_set_multiple.mdoc"))
    found = [metadata_of(mdoc, frame) for frame in range(432)]
    assert [nm for nm, _ in found] == pytest.approx([0.12827] * 432)
    assert {metadata.stage_x_um for _, metadata in found} == {-142.831}
    assert {metadata.acquired for _, metadata in found} == {"2021-10-08T07:47:29"}
    tilts = [metadata.tilt_deg for _, metadata in found]
    for keys in mdoc.sections.values():
        first, last = map(int, keys["FrameTSStartEndFrames"].split())
        assert set(tilts[first : last + 1]) == {float(keys["TiltAngle"])}
    assert tilts[13:22] == [None] * 9  # between two tilts


def test_frames_of_a_tilt_series_are_read_beside_their_file(tmp_path):
    (tmp_path / "f.mrc.mdoc").write_bytes(genuine("mdocfile_frame_set_multiple.mdoc"))
    for frame in (0, 12, 13, 34, 431):
        expected = metadata_of(parse_mdoc(genuine("mdocfile_frame_set_multiple.mdoc")), frame)
        assert read_metadata(tmp_path / "f.mrc", frame) == expected


FORMS = {
    "as SerialEM writes it": lambda text: text,
    "line ends of Linux": lambda text: text.replace("\r\n", "\n"),
    "line ends of old Macs": lambda text: text.replace("\r\n", "\r"),
    "blanks at the ends": lambda text: text.replace("\r\n", "  \r\n"),
    "blank behind the bracket": lambda text: text.replace("]\r\n", "] \r\n"),
    "tabs at the ends": lambda text: text.replace("\r\n", "\t\r\n"),
    "no blanks around =": lambda text: text.replace(" = ", "="),
    "two blanks around =": lambda text: text.replace(" = ", "  =  "),
    "tabs around =": lambda text: text.replace(" = ", "\t=\t"),
    "indented": lambda text: text.replace("\r\n", "\r\n  "),
    "blanks in brackets": lambda text: text.replace("[", "[ ").replace("]", " ]"),
    "mark of UTF-8": lambda text: "\ufeff" + text,
    "no last line end": lambda text: text.rstrip(),
    "a line without meaning": lambda text: text + "   \r\n\t\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_that_imods_autodoc_takes_is_read(tmp_path, name):
    """Blanks, tabs and line ends do not count (autodoc.c, AdocRead); ../shared/cases/02 and 03."""
    keys = {"PixelSpacing": 3, "StagePosition": "12.5 -3.25"}
    text = f"PixelSpacing = 9\r\nVoltage = 300\r\n\r\n[T = {TITLE}]\r\n"
    text += "".join(section(z, TiltAngle=10 * z, **keys) for z in range(3))
    path = tmp_path / "gold.mrc"
    path.with_name("gold.mrc.mdoc").write_bytes(FORMS[name](text).encode())
    for z in range(3):
        found = read_metadata(path, z, title=TITLE)
        assert found is not None
        pixel_size_nm, metadata = found
        assert pixel_size_nm == pytest.approx(0.3)
        assert (metadata.tilt_deg, metadata.voltage_kv) == (10 * z, 300)
        assert metadata.stage_y_um == -3.25
        assert metadata.acquired == "2018-02-22T09:36:56"
    assert read_metadata(path, 3, title=TITLE) is None


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_an_idoc_is_read(tmp_path, name):
    text = "PixelSpacing = 9\r\n" + "".join(
        f"\r\n[Image = gold{z:04}.tif]\r\nPixelSpacing = {z + 1}\r\n"
        "DateTime = 22-Feb-18  09:36:56\r\n"
        for z in range(3)
    )
    (tmp_path / "gold.idoc").write_bytes(FORMS[name](text).encode())
    found = [read_metadata(tmp_path / f"gold{z:04}.tif", 0)[0] for z in range(3)]
    assert found == pytest.approx([0.1, 0.2, 0.3])


def test_the_letters_of_utf_16_are_read(tmp_path):
    text = section(0, NavigatorLabel="über") + section(1, NavigatorLabel="größer")
    (tmp_path / "a.mrc.mdoc").write_bytes(text.encode("utf-16"))
    assert read_metadata(tmp_path / "a.mrc", 1)[1].navigator_label == "größer"


@pytest.mark.parametrize(
    ("keys", "expected", "source"),
    [
        ({"RefinedPixelSpacing": 2, "PixelSpacing": 3}, 0.2, "mdoc refined"),
        ({"PixelSpacing": 3}, 0.3, "mdoc"),
        ({"PixelSpacing": "?"}, 0.5, "mdoc"),
        ({}, 0.5, "mdoc"),
    ],
)
def test_refined_pixel_size_before_nominal_before_global(keys, expected, source):
    mdoc = parse_mdoc("PixelSpacing = 5\r\n" + section(0, **keys))
    pixel_size_nm, metadata = metadata_of(mdoc, 0)
    assert pixel_size_nm == pytest.approx(expected)
    assert metadata.pixel_size_source == source


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("22-Feb-18  09:36:56", "2018-02-22T09:36:56"),
        ("08-Oct-2024  07:47:29", "2024-10-08T07:47:29"),
        (" 2-Nov-15  10:53:53", "2015-11-02T10:53:53"),
        ("22-Fev-18  09:36:56", None),
        ("99-Feb-18  09:36:56", None),
        ("", None),
    ],
)
def test_date_in_both_forms_of_year(text, iso):
    assert metadata_of(parse_mdoc(section(0, date=text)), 0)[1].acquired == iso


@pytest.mark.parametrize("bad", ["x", "", "nan", "1 2 3 4", "1_0", "inf"])
def test_a_bad_value_costs_only_its_own_key(bad):
    keys = dict.fromkeys(
        ("TiltAngle", "StagePosition", "MinMaxMean", "Defocus", "PixelSpacing", "Binning"), bad
    )
    pixel_size_nm, metadata = metadata_of(parse_mdoc(section(0, **keys, Magnification=1000)), 0)
    assert pixel_size_nm is None
    assert (metadata.tilt_deg, metadata.stage_x_um, metadata.min_max_mean) == (None, None, None)
    assert metadata.magnification == 1000


@pytest.mark.parametrize("far", ["1e300 0 0", "0 -1e19 0", "0 0 2147483648"])
def test_a_place_that_no_montage_has_is_left_out(far):
    metadata = metadata_of(parse_mdoc(section(0, PieceCoordinates=far, Binning=2)), 0)[1]
    assert (metadata.piece_x_px, metadata.piece_z, metadata.binning) == (None, None, 2)
    msgspec.msgpack.encode(metadata)


def test_last_of_two_sections_with_one_number_counts():
    text = section(0, Binning=1) + section(0, Binning=2)
    assert metadata_of(parse_mdoc(text), 0)[1].binning == 2


def test_windows_code_page():
    mdoc = parse_mdoc(b"\r\n[ZValue = 0]\r\nNavigatorLabel = 5\xb5m\r\n")
    assert metadata_of(mdoc, 0)[1].navigator_label == "5µm"


def test_a_title_after_a_section_and_unknown_sections_end_it():
    text = (
        section(0, Binning=1) + "\r\n[T = a = b]c]\r\n" + "\r\n[MontSection = 0]\r\nBinning = 9\r\n"
    )
    mdoc = parse_mdoc(text)
    assert mdoc.titles == ("a = b]c",)
    assert mdoc.sections[0]["Binning"] == "1"


def test_missing_section_is_a_key_error():
    with pytest.raises(KeyError):
        metadata_of(parse_mdoc(section(0)), 1)


def test_a_torn_line_discards_its_section():
    text = section(0, TiltAngle=1) + section(1, TiltAngle=25)
    for torn in (text[:-5], text.partition("TiltAngle = 2")[0] + "TiltAngle = 2"):
        assert list(parse_mdoc(torn).sections) == [0]
    assert parse_mdoc(section(0)[:-5]).sections == {}


def test_a_last_line_without_its_end_counts_only_if_nobody_writes_any_more():
    text = section(0, TiltAngle=1) + section(1, TiltAngle=25)
    assert list(parse_mdoc(text.rstrip()).sections) == [0, 1]
    assert list(parse_mdoc(text.rstrip(), dated=True).sections) == [0]


def test_the_torn_head_of_a_section_shows_that_the_one_before_is_complete():
    text = section(0, TiltAngle=1) + section(1, TiltAngle=25)
    for end in ("\r\n[", "\r\n[ZVal", "\r\n[ZValue = 2]"):
        assert list(parse_mdoc(text + end, dated=True).sections) == [0, 1]


@given(st.data())
def test_a_file_cut_anywhere_gives_only_whole_sections(data):
    text = "PixelSpacing = 5\r\n" + "".join(
        section(z, TiltAngle=z, StagePosition="1.5 -2.5", Binning=2) for z in range(3)
    )
    whole = parse_mdoc(text).sections
    cut = parse_mdoc(text[: data.draw(st.integers(0, len(text)))].encode("cp1252")).sections
    # The first section alone could lack keys only where the cut falls on a line end.
    assert all(keys == whole[z] for z, keys in cut.items() if z > 0)
    assert all(keys.items() <= whole[z].items() for z, keys in cut.items())


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(junk):
    mdoc = parse_mdoc(b"[ZValue = 0]\n" + junk + b"\n")
    if mdoc.section(0) is not None:
        metadata_of(mdoc, 0)


def test_sidecar_absent_or_behind_is_none(tmp_path):
    path = tmp_path / "a.mrc"
    assert read_metadata(path, 0) is None
    (tmp_path / "a.mrc.mdoc").write_bytes((section(0, PixelSpacing=2)).encode())
    assert read_metadata(path, 1) is None
    found = read_metadata(path, 0)
    assert found is not None
    assert found[0] == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["mdocfile_tilt_series.mdoc", "mdocfile_montage_section.mdoc"])
def test_one_section_is_read_as_from_the_whole_file_wherever_it_is_cut(tmp_path, name):
    data = genuine(name)
    path = tmp_path / "stack.mrc"
    for end in (*range(1500, 4000, 7), len(data) - 3, len(data)):
        (tmp_path / "stack.mrc.mdoc").write_bytes(data[:end])
        whole = parse_mdoc(data[:end])
        for z in (0, 1, 2, 3, len(whole.sections) - 1, len(whole.sections)):
            expected = None if whole.section(z) is None else metadata_of(whole, z)
            assert read_metadata(path, z) == expected


TITLE = "SerialEM: JEOL Matataki                  22-Feb-18  09:36:56"


def mdoc_of(path, *sections, title=TITLE):
    top = (
        f"PixelSpacing = 2\r\nVoltage = 200\r\n\r\n[T = {title}    ]\r\n"
        if title
        else "DataMode = 1\r\n"
    )
    path.with_name(path.name + ".mdoc").write_bytes((top + "".join(sections)).encode("cp1252"))
    return path


def test_mdoc_of_an_older_file_of_the_same_name_is_left_alone(tmp_path):
    path = mdoc_of(tmp_path / "a.mrc", section(0, MinMaxMean="1 2 1.5"))
    assert read_metadata(path, 0, title=TITLE)[1].min_max_mean == (1, 2, 1.5)
    assert read_metadata(path, 0, title=TITLE.replace("09:36", "11:02")) is None
    assert read_metadata(path, 0, title="made by hand")[0] == 0.2


def test_title_beyond_the_80_letters_of_a_label_and_outside_ascii_is_the_same_title(tmp_path):
    long = "SerialEM: M\xfcnchen " + "x" * 70
    path = mdoc_of(tmp_path / "a.mrc", section(0), title=long)
    label = long.encode("shift_jis", "replace")[:80].decode("latin-1").replace("?", "")
    assert read_metadata(path, 0, title=label) is not None


def test_mdoc_that_does_not_say_of_which_file_it_is_vouches_for_no_pixels(tmp_path):
    path = mdoc_of(tmp_path / "a.mrc", section(0, MinMaxMean="1 2 1.5", StageZ=3), title="")
    found = read_metadata(path, 0, title=TITLE)[1]
    assert (found.min_max_mean, found.stage_z_um) == (None, 3)


def test_montage_position_and_stage_matrix_are_read(tmp_path):
    keys = {"PieceCoordinates": "3686 0 2", "ImageToStageMatrix": "1e-004 2e-4 -3e-4 4e-4 12.5 -7"}
    found = metadata_of(parse_mdoc(section(5, **keys)), 5)[1]
    assert (found.piece_x_px, found.piece_y_px, found.piece_z) == (3686, 0, 2)
    assert found.image_to_stage == (1e-4, 2e-4, -3e-4, 4e-4, 12.5, -7)


def test_minimum_and_maximum_of_a_frame_set_are_not_those_of_a_frame():
    text = "[FrameSet = 0]\r\nMinMaxMean = 1 2 1.5\r\nDateTime = 22-Feb-18  09:36:56\r\n"
    assert metadata_of(parse_mdoc(text), 7)[1].min_max_mean is None


def idoc(*names):
    parts = [
        f"\r\n[Image = {n}]\r\nTiltAngle = {i}\r\nDateTime = 22-Feb-18  09:36:5{i}\r\n"
        for i, n in enumerate(names)
    ]
    return ("ImageSeries = 1\r\nPixelSpacing = 2\r\n" + "".join(parts)).encode()


@pytest.mark.parametrize("root", ["gold", "gold2", "2026"])
def test_idoc_describes_each_image_of_its_series(tmp_path, root):
    names = [f"{root}{z:04}.tif" for z in range(3)]
    (tmp_path / f"{root}.idoc").write_bytes(idoc(*names))
    tilts = [read_metadata(tmp_path / name, 0)[1].tilt_deg for name in names]
    assert tilts == [0, 1, 2]
    assert read_metadata(tmp_path / f"{root}0003.tif", 0) is None
    assert read_metadata(tmp_path / names[0], 1) is None
    assert read_metadata(tmp_path / f"{root}0000.mrc", 0) is None


@pytest.mark.parametrize("cut", range(0, 240, 3))
def test_image_of_an_idoc_that_is_being_written_is_there_whole_or_not(tmp_path, cut):
    whole = idoc("gold0000.tif", "gold0001.tif")
    (tmp_path / "gold.idoc").write_bytes(whole[:cut])
    found = read_metadata(tmp_path / "gold0001.tif", 0)
    assert found is None or found[1].acquired == "2018-02-22T09:36:51"


def test_section_without_its_date_is_being_written_while_there_is_time_to_wait(tmp_path):
    path, whole = tmp_path / "a.mrc", section(0, TiltAngle=1, Binning=2)
    lines = whole.splitlines(keepends=True)
    for count in range(len(lines)):
        (tmp_path / "a.mrc.mdoc").write_text("".join(lines[:count]), newline="")
        assert list(read_metadata_of(path, [0], dated=True)) == [None]
    assert read_metadata(path, 0)[1].binning == 2  # when it was waited for in vain
    (tmp_path / "a.mrc.mdoc").write_text(whole, newline="")
    assert list(read_metadata_of(path, [0], dated=True)) == [read_metadata(path, 0)]


@pytest.mark.parametrize("name", ["mdocfile_tilt_series.mdoc", "mdocfile_frame_set_single.mdoc"])
def test_real_sections_all_have_their_date(tmp_path, name):
    (tmp_path / "a.mrc.mdoc").write_bytes(genuine(name))
    numbers = range(len(parse_mdoc(genuine(name)).sections) or 1)
    found = list(read_metadata_of(tmp_path / "a.mrc", numbers, dated=True))
    assert found == [read_metadata(tmp_path / "a.mrc", z) for z in numbers]
    assert None not in found


def test_many_sections_are_read_once(tmp_path, monkeypatch):
    (tmp_path / "a.mrc.mdoc").write_text("".join(section(z, TiltAngle=z) for z in range(50)))
    reads = []
    read = sidecars.read_file
    monkeypatch.setattr(mdoc_module, "read_file", lambda path: reads.append(path) or read(path))
    found = list(read_metadata_of(tmp_path / "a.mrc", [3, 49, 50, 0]))
    assert [one and one[1].tilt_deg for one in found] == [3, 49, None, 0]
    assert len(reads) == 1


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    if sys.platform == "win32":
        pytest.skip("pipes of POSIX")
    os.mkfifo(path)


def a_ring(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [a_folder, a_pipe, a_ring])
def test_what_is_no_file_is_no_mdoc(tmp_path, make):
    make(tmp_path / "a.mrc.mdoc")
    assert read_metadata(tmp_path / "a.mrc", 0) is None
    assert not find_sidecar(tmp_path / "a.mrc")


def test_name_that_is_too_long_for_an_mdoc_has_none(tmp_path):
    path = tmp_path / ("a" * 248 + ".mrc")
    assert read_metadata(path, 0) is None
    assert not find_sidecar(path)


def test_too_long_an_mdoc_is_not_read_and_that_is_reported_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sidecars, "MOST_BYTES", 50)
    (tmp_path / "a.mrc.mdoc").write_text(section(0, TiltAngle=1))
    for _ in range(2):
        assert read_metadata(tmp_path / "a.mrc", 0) is None
    (word,) = caplog.messages
    assert "a.mrc.mdoc is not read: it has more than" in word


@pytest.mark.parametrize("end", ["", "\r\n"])
@pytest.mark.parametrize("lacking", ["DateTime", "TiltAngle"])
def test_at_rest_a_last_section_counts_whatever_it_lacks(tmp_path, end, lacking):
    keys = {"PixelSpacing": 5, "TiltAngle": 25, "DateTime": "22-Feb-18  09:36:56"}
    lines = [f"{key} = {value}" for key, value in keys.items() if key != lacking]
    last = "\r\n".join(["\r\n[ZValue = 1]", *lines]) + end
    (tmp_path / "a.mrc.mdoc").write_text(section(0, TiltAngle=1) + last, newline="")
    entry = read_metadata(tmp_path / "a.mrc", 1, at_rest=True)
    listing = read_listing(tmp_path / "a.mrc", at_rest=True)
    assert entry is not None
    assert listing is not None
    (size_nm, found), (_, count) = entry, listing
    assert (size_nm, count) == (0.5, 2)
    assert found.tilt_deg == (None if lacking == "TiltAngle" else 25)
    assert (found.acquired is None) == (lacking == "DateTime")
    assert read_metadata(tmp_path / "a.mrc", 0, at_rest=True)[1].tilt_deg == 1
