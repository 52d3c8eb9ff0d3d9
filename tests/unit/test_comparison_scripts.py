"""The scripts that compare two states of the code: results bit for bit, sizes, import cycles."""

import json
import shutil
from pathlib import Path

import fixed_set
import house
import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Result of one input with two sections and three particles."""
    folder = tmp_path / "before"
    folder.mkdir()
    labels = np.zeros((4, 5), np.uint16)
    names = ("a.mrc#0", "a.mrc#1")
    np.savez(folder / "one.npz", **{f"labels/{name}": labels for name in names})  # type: ignore[arg-type]
    tables = {
        "sections": pd.DataFrame({"section": names, "count": [1, 2], "warning": ["", "too far"]}),
        "particles": pd.DataFrame(
            {"section": [names[0], *[names[1]] * 2], "label": [1, 1, 2], "x": [0.1, 1 / 3, 7.0]}
        ),
        "drift": pd.DataFrame(columns=["stream", "frame", "dx_px"]),
        "quarantine": pd.DataFrame(columns=["section", "reason"]),
        "feedback": pd.DataFrame(columns=["file", "line", "text"]),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"one.{name}.csv", index=False)
    same = ("seed", "sections_of_a_kind", "streams", "left_out", "left_out_of_feedback")
    manifest = {
        **dict.fromkeys(same),
        "software": {"nanostream": "1"},
        "inputs": {"one": {"exit_code": 0, "sections": 2, "particles": 3}},
        "skipped": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def after(before: Path) -> Path:
    """The same result again."""
    return shutil.copytree(before, before.with_name("after"))


def change(table: Path, row: int, column: str, value: str) -> None:
    text = pd.read_csv(table, dtype=str, keep_default_na=False)
    text.loc[row, column] = value
    text.to_csv(table, index=False)


def test_a_result_is_equal_to_its_copy(before, after, capsys):
    assert fixed_set.compare(before, after)
    assert "1 inputs, 2 sections, 3 particles compared: the same" in capsys.readouterr().out


def test_the_last_bit_of_a_number_is_a_difference(before, after):
    change(after / "one.particles.csv", 1, "x", repr(float(np.nextafter(1 / 3, 1))))
    (row,) = fixed_set.compare_tables("one", "particles", before, after)
    assert (row.what, row.sections) == ("particles.x", "1 of 2: a.mrc#1")
    assert row.greatest.startswith("5.55e-17: 0.3333333333333333 -> ")
    assert not fixed_set.compare(before, after)


def test_texts_are_shown_and_a_lost_value_too(before, after):
    change(after / "one.sections.csv", 1, "warning", "far")
    change(after / "one.sections.csv", 0, "count", "")
    rows = {row.what: row for row in fixed_set.compare_tables("one", "sections", before, after)}
    assert rows["sections.warning"].greatest == "too far -> far"
    assert rows["sections.count"].greatest == "1 -> (nothing)"


def test_of_long_texts_the_place_where_they_differ_is_shown():
    same = "pixel size 1.25 nm is too far from the model's: check the mask; "
    shown = fixed_set.from_where_they_differ(same + "not sure", same + "uncertain")
    assert shown == ["...heck the mask; not sure", "...heck the mask; uncertain"]
    assert fixed_set.from_where_they_differ("", "0.026") == ["(nothing)", "0.026"]


def test_lost_and_new_rows_and_columns_are_named(before, after):
    text = pd.read_csv(after / "one.particles.csv")
    text.loc[2, "label"] = 3
    text.rename(columns={"x": "x_px"}).to_csv(after / "one.particles.csv", index=False)
    rows = fixed_set.compare_tables("one", "particles", before, after)
    assert [(row.what, row.sections or row.greatest) for row in rows] == [
        ("particles columns lost", "x"),
        ("particles columns new", "x_px"),
        ("particles rows lost", "1 of 3: a.mrc#1 2"),
        ("particles rows new", "1 of 3: a.mrc#1 3"),
    ]


def test_masks_are_compared_by_shape_type_and_value(before, after):
    arrays = dict(np.load(after / "one.npz"))
    arrays["labels/a.mrc#0"][1, 2:4] = 7
    arrays["labels/a.mrc#2"] = arrays.pop("labels/a.mrc#1")
    np.savez(after / "one.npz", **arrays)
    rows = list(fixed_set.compare_arrays("one", before, after))
    assert [(row.what, row.sections) for row in rows] == [
        ("labels lost", "1 of 2: a.mrc#1"),
        ("labels new", "1 of 2: a.mrc#2"),
        ("labels", "1 of 1: a.mrc#0"),
    ]
    assert rows[-1].greatest == "7, in up to 2 pixels of a section"
    arrays["labels/a.mrc#0"] = arrays["labels/a.mrc#0"].astype(np.uint32)
    np.savez(after / "one.npz", **arrays)
    *_, row = fixed_set.compare_arrays("one", before, after)
    assert row.greatest == "uint16 (4, 5) -> uint32 (4, 5)"


def test_what_depends_on_the_clock_is_left_out_of_tables_and_mask_attributes():
    names = ["section", "stored_s", "mask.acquired", "exposure_s", "version_numpy"]
    table = pd.DataFrame([range(len(names))], columns=names)
    assert list(fixed_set.without_left_out(table)) == ["section", "exposure_s"]


def test_an_import_cycle_is_found_through_functions_and_packages(tmp_path):
    package = tmp_path / "nanostream"
    package.mkdir()
    files = {
        "__init__": "from nanostream.a import f\n",
        "a": "import nanostream.b\n",
        "b": "def g():\n    from . import c\n",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import f\n",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    modules = {module.name: module for module in house.read_modules(tmp_path)}
    assert house.cycles(house.imports(modules, everything=False)) == []
    assert house.cycles(house.imports(modules, everything=True)) == [
        ["nanostream.a", "nanostream.b", "nanostream.c"]
    ]


def test_lines_of_a_definition_are_those_from_its_first_to_its_last(tmp_path):
    package = tmp_path / "nanostream"
    package.mkdir()
    (package / "a.py").write_text("class A:\n    def f(self):\n        return 1\n\n\nx = 1\n")
    (module,) = house.read_modules(tmp_path)
    assert {(part.kind, part.name, part.lines) for part in house.parts_of(module)} == {
        ("module", "nanostream.a", 6),
        ("class", "nanostream.a.A", 3),
        ("function", "nanostream.a.A.f", 2),
    }
