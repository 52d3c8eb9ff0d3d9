"""Navigator files: real ones read, points merged by SerialEM's rules, on the right pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanostream.errors import ConfigError, MessageError
from nanostream.results.file_names import Files, matching
from nanostream.results.navigator import (
    Chart,
    MapItem,
    NavigatorItem,
    OnMap,
    OnStage,
    find_map,
    maps_of,
    navigator_text,
    parse_navigator,
    point_item,
    read_chart,
    read_navigator,
    stable_id,
)
from tests.serialem_emulation import Navigator, RejectedError, numbers, pixel_of, stage_of

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "serialem" / "nav"
NAV1 = "pyem_tutorials_Tutorial1-sorting_nav1.nav"


def genuine(name):
    path = GENUINE / name
    if not path.exists():
        pytest.skip(f"genuine Navigator file {path} is not here")
    return path


@pytest.mark.parametrize(
    ("name", "items", "maps"),
    [
        (NAV1, 21, [("map1.mrc", 0, 2048, 2048)]),
        ("pyem_test_test_files_sort.nav", 7, [("examplemap.mrc", 0, 924, 958)]),
        ("pyem_test_test_files_sort_xml.nav", 6, [("examplemap.mrc", 0, 924, 958)]),
        ("pyem_tutorials_Tutorial2-coordinates_nav.nav", 1, [("serialemlogo.tif", 0, 128, 128)]),
        ("pyserialem_nav.nav", 1, [("map.mrc", 0, 4096, 4096)]),
    ],
)
def test_real_files_have_all_their_items_and_maps(name, items, maps):
    found = read_navigator(genuine(name))
    text = genuine(name).read_text("cp1252")
    assert len(found) == items == text.count("[Item") + text.count("<Item ")
    assert all(len(item.values) == len(set(item.values)) > 5 for item in found)
    singles = maps_of(found)
    assert [
        (m.file.replace("\\", "/").rpartition("/")[2], m.section, m.width_px, m.height_px)
        for m in singles
    ] == maps


def test_the_same_file_as_autodoc_and_as_xml_has_the_same_items():
    autodoc = read_navigator(genuine("pyem_test_test_files_sort.nav"))
    xml = {
        item.label: item for item in read_navigator(genuine("pyem_test_test_files_sort_xml.nav"))
    }
    assert len(xml) == 6
    assert [item for item in autodoc if item.label in xml] == list(xml.values())


def merged_on(path, places):
    """Positions that SerialEM gives points on the first map of a real file."""
    table = Navigator()
    table.load(path.read_text("cp1252"))
    before = len(table.items)
    items = [
        point_item(place, item_id=stable_id(n), group_id=200_000, note="a note")
        for n, place in enumerate(places)
    ]
    added = table.load(navigator_text(items, saved_as="nanostream"))
    assert added == len(places) == len(table.items) - before
    return table.items[0], table.items[before:]


@pytest.mark.parametrize(
    "name",
    [NAV1, "pyserialem_nav.nav", "pyem_tutorials_Tutorial2-coordinates_nav.nav"],
)
def test_a_point_on_a_real_map_is_where_the_maps_own_corners_say(name):
    path = genuine(name)
    on = maps_of(read_navigator(path))[0]
    width, height = on.width_px, on.height_px
    rng = np.random.default_rng(4)
    pixels = [(0, 0), (width, height), (width, 0), *rng.uniform(0, (width, height), (50, 2))]
    item, points = merged_on(path, [OnMap(on, *pixel) for pixel in pixels])
    # Independently of MapScaleMat: PtsX and PtsY are the map's corners on the stage, the first at
    # the lower left of the display, anticlockwise or clockwise as the first two tell.
    corners = np.column_stack([numbers(item["PtsX"]), numbers(item["PtsY"])])[:4]
    at = np.array([pixel_of(item, *corner) for corner in corners])
    origin = int(np.argmin(np.hypot(*at.T)))
    along_x = corners[int(np.argmin(np.hypot(at[:, 0] - width, at[:, 1])))] - corners[origin]
    along_y = corners[int(np.argmin(np.hypot(at[:, 0], at[:, 1] - height)))] - corners[origin]
    pixel_um = min(np.hypot(*along_x) / width, np.hypot(*along_y) / height)
    for (x, y), point in zip(pixels, points, strict=True):
        expected = corners[origin] + along_x * (x / width) + along_y * (y / height)
        found = np.array(numbers(point["StageXYZ"])[:2])
        assert np.hypot(*(found - expected)) < 0.1 * pixel_um
        np.testing.assert_allclose(pixel_of(item, *found), (x, y), atol=0.1)
        assert [point["PtsX"], point["PtsY"]] == point["StageXYZ"].split()[:2]


def test_a_point_of_the_real_file_has_the_pixel_that_serialem_clicked():
    table = Navigator()
    table.load(genuine(NAV1).read_text("cp1252"))
    on, clicked = table.items[0], table.items[1]
    pixel = pixel_of(on, *numbers(clicked["StageXYZ"])[:2])
    assert all(pixel > 0)
    assert all(pixel < 2048)
    np.testing.assert_allclose(stage_of(on, *pixel), numbers(clicked["StageXYZ"])[:2], atol=1e-6)


RECTANGULAR = MapItem(
    map_id=7,
    file="D:\\m.mrc",
    section=0,
    registration=3,
    stage_z_um=1.5,
    width_px=300,
    height_px=100,
)
MAP_ITEM = {
    "Color": "2",
    "StageXYZ": "10 20 1.5",
    "NumPts": "1",
    "Regis": "3",
    "Type": "2",
    "MapFile": "D:\\m.mrc",
    "MapID": "7",
    "MapSection": "0",
    "MapScaleMat": "10 0 0 -10",
    "MapWidthHeight": "300 100",
    "PtsX": "10",
    "PtsY": "20",
}


def test_on_a_map_that_is_not_square_up_is_up():
    table = Navigator()
    table.load(navigator_text([NavigatorItem("1", MAP_ITEM)], saved_as="x"))
    items = [point_item(OnMap(RECTANGULAR, x, y), item_id=stable_id(x, y), group_id=1, note="")
             for x, y in ((150.0, 50.0), (150.0, 90.0), (250.0, 50.0))]  # fmt: skip
    table.load(navigator_text(items, saved_as="x"))
    assert [item["StageXYZ"] for item in table.items[1:]] == ["10 20 1.5", "10 24 1.5", "20 20 1.5"]
    assert {item["Regis"] for item in table.items[1:]} == {"3"}


def test_merging_a_file_again_adds_nothing():
    place = OnStage(1.0, 2.0, 0.5, 1)
    items = [point_item(place, item_id=stable_id(n), group_id=1, note="") for n in range(3)]
    table = Navigator()
    assert [table.load(navigator_text(items, saved_as="x")) for _ in range(2)] == [3, 0]
    assert {item["Acquire"] for item in table.items} == {"0"}


def test_a_point_without_its_map_in_the_table_is_rejected_by_serialem():
    item = point_item(OnMap(RECTANGULAR, 1, 1), item_id=stable_id(1), group_id=1, note="")
    with pytest.raises(RejectedError, match="no map with id 7"):
        Navigator().load(navigator_text([item], saved_as="x"))


def test_ids_are_stable_and_none_of_serialems_reserved():
    ids = {stable_id("a.mrc#0", n) for n in range(20_000)}
    assert len(ids) > 19_995
    assert min(ids) >= 100_000
    assert max(ids) < 2**31
    assert stable_id("a.mrc#0", 1) == stable_id("a.mrc#0", 1) == 1_742_960_442


@given(st.text(max_size=300))
def test_a_note_never_becomes_anything_but_a_note(note):
    item = point_item(OnStage(0, 0, 0, 1), item_id=100_001, group_id=100_002, note=note)
    (again,) = parse_navigator(navigator_text([item], saved_as="x").encode("cp1252"))
    assert again == item
    assert len(item.values["Note"]) <= 200


@pytest.mark.parametrize(
    "item",
    [
        NavigatorItem("a\nb", {"Color": "1"}),
        NavigatorItem("a", {"Color": "1\n[Item = 2]"}),
        NavigatorItem("a", {"Co=lor": "1"}),
        NavigatorItem("", {}),
        NavigatorItem("a" * 17, {}),
    ],
)
def test_an_item_that_would_be_read_as_something_else_is_not_written(item):
    with pytest.raises(ValueError, match="cannot be written"):
        navigator_text([item], saved_as="x")


ODD = ["inf inf", "nan nan nan", "1e999 2", "1e999", "-1 -1", "9" * 5000, "\xb2 3", ""]


@given(st.binary(max_size=400), st.sampled_from(list(MAP_ITEM)), st.sampled_from(ODD))
@example(b"", "MapWidthHeight", "inf inf")
def test_any_bytes_after_the_first_line_are_read_or_refused_with_words(data, key, odd):
    whole = navigator_text([NavigatorItem("1", MAP_ITEM | {key: odd})], saved_as="x")
    for head in (whole.encode("cp1252"), b"<?xml version='1.0'?>", b""):
        try:
            maps_of(parse_navigator(head + data))
        except ValueError as error:
            assert "not a Navigator file" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><navigator/>"],
)
def test_what_is_no_navigator_file_is_refused_with_its_name(tmp_path, data):
    path = tmp_path / "my.nav"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"my\.nav: not a Navigator file"):
        read_navigator(path)
    with pytest.raises(ConfigError, match=r"absent\.nav cannot be read"):
        read_navigator(tmp_path / "absent.nav")


def test_the_registration_is_that_of_the_last_item(tmp_path):
    path = tmp_path / "my.nav"
    for last, registration in (("4", 4), ("x", 1)):
        point = NavigatorItem("2", {"Type": "0", "Regis": last})
        path.write_text(navigator_text([NavigatorItem("1", MAP_ITEM), point], saved_as="x"))
        assert read_chart(path) == Chart((RECTANGULAR,), registration)


def a_map(**changes):
    import msgspec

    return msgspec.structs.replace(RECTANGULAR, **changes)


FOUND = [
    ("the last of two of one image", [a_map(map_id=1), a_map(map_id=2)], 2),
    ("another section", [a_map(section=1)], None),
    ("another size", [a_map(width_px=150, height_px=50)], None),
    ("another name", [a_map(file="D:\\n.mrc")], None),
    ("a longer path", [a_map(file="D:\\day\\m.mrc"), a_map(map_id=2, file="day2/m.mrc")], 7),
    ("none", [], None),
]


@pytest.mark.parametrize(("what", "maps", "map_id"), FOUND, ids=[f[0] for f in FOUND])
def test_the_map_of_a_section_is_found_by_file_section_and_size(what, maps, map_id):
    path = "day/m.mrc" if "longer" in what else "m.mrc"
    found = find_map(maps, path, 0, shape=(100, 300))
    assert (found and found.map_id) == map_id


def test_two_files_of_one_name_are_not_guessed():
    maps = [a_map(file="D:\\a\\m.mrc"), a_map(file="D:\\b\\m.mrc")]
    with pytest.raises(ConfigError, match="can be the map"):
        find_map(maps, "m.mrc", 0, shape=(100, 300))


WINDOWS = "D:\\data\\Today\\gold.mrc"


@pytest.mark.parametrize(
    ("name", "candidates", "found"),
    [
        (WINDOWS, ["gold.mrc"], ["gold.mrc"]),
        (WINDOWS, ["gold.mrc", "today/gold.mrc"], ["today/gold.mrc"]),
        (WINDOWS, ["monday/gold.mrc"], []),
        (WINDOWS, ["ld.mrc", "xtoday/gold.mrc"], []),
        ("\\\\server\\share\\gold.mrc", ["share/gold.mrc"], ["share/gold.mrc"]),
        ("gold.mrc", ["a/gold.mrc"], ["a/gold.mrc"]),
        ("/", ["gold.mrc"], []),
    ],
)
def test_a_file_is_found_by_the_end_of_its_path(name, candidates, found):
    assert matching(name, candidates) == found


def test_below_the_watched_folder_a_name_is_taken_at_its_word():
    files = Files(["gold.mrc"], root="D:\\data")
    assert files.find("d:/DATA/gold.mrc") == "gold.mrc"
    assert files.find(WINDOWS) is None  # not yet: the other gold.mrc is another file
    files.add("today/gold.mrc")
    assert files.find(WINDOWS) == "today/gold.mrc"
    assert files.find("gold.mrc") == "gold.mrc"
    with pytest.raises(MessageError, match=r"gold\.mrc' or 'today/gold\.mrc'"):
        files.find("E:\\gold.mrc")
