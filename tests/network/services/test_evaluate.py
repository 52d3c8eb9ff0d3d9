"""`nanostream evaluate`: labelled images through the analyzer that live and offline use."""

import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

import nanostream as ns
from nanostream.acquisition.simulator import StackWriter, demo_movie
from nanostream.errors import ConfigError, DataSetError, MicrographError, ModelError
from nanostream_services.cli import app

MOVIE = list(demo_movie(3, shape=(320, 320), seed=5))
PIXEL_NM = 0.026


def evaluate(*arguments):
    return CliRunner().invoke(
        app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "100", "NO_COLOR": "1"}
    )


def png(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())


@pytest.fixture
def labelled(tmp_path):
    """Two materials: a stack with a label for two of three sections, and a NumPy file."""
    (tmp_path / "set" / "Au").mkdir(parents=True)
    with StackWriter(tmp_path / "set" / "Au" / "gold.mrc", pixel_size_nm=PIXEL_NM) as stack:
        for pixels, _ in MOVIE:
            stack.append(pixels)
    for z in (0, 2):
        png(tmp_path / "set" / "Au" / f"gold.z{z}.png", MOVIE[z][1].astype(np.uint16))
    png(tmp_path / "set" / "Pd" / "label_p.png", np.uint8(MOVIE[1][1] > 0))
    np.save(tmp_path / "set" / "Pd" / "p.npy", MOVIE[1][0])
    return tmp_path / "set"


def test_scores_are_those_of_the_masks_that_every_other_way_gives(labelled, tmp_path):
    json, figure = tmp_path / "scores.json", tmp_path / "scores.svg"
    done = evaluate(labelled, "--json", json, "--figure", figure)
    assert done.exit_code == 0, done.output
    scores = msgspec.json.decode(json.read_bytes())
    masks = [ns.segment(pixels).labels > 0 for pixels, _ in MOVIE]
    truths = [truth > 0 for _, truth in MOVIE]

    def dice(*sections):
        both = sum(np.sum(masks[z] & truths[z]) for z in sections)
        return 2 * both / sum(masks[z].sum() + truths[z].sum() for z in sections)

    assert list(scores["groups"]) == ["Au", "Pd"]
    assert scores["groups"]["Au"]["dice"] == pytest.approx(dice(0, 2), abs=1e-12)
    assert scores["groups"]["Pd"]["dice"] == pytest.approx(dice(1), abs=1e-12)
    assert scores["all"]["dice"] == pytest.approx(dice(0, 1, 2), abs=1e-12)
    assert [section["dice"] for section in scores["sections"]] == [dice(0), dice(2), dice(1)]
    assert (scores["model"], scores["all"]["sections"]) == ("default", 3)
    assert scores["groups"]["Au"]["diameter_unit"] == "nm"
    assert scores["all"]["diameter_unit"] == "px"
    assert figure.read_bytes().startswith(b"<?xml")
    assert f"{dice(0, 1, 2):.3f}" in done.output
    for group in ("Au", "Pd", "all"):
        assert re.search(rf"│ {group} +│", done.output)
    assert "gold.mrc#1" in done.stderr
    assert "without a label" in done.stderr


def test_groups_of_a_pattern_threshold_and_pixel_size(labelled, tmp_path):
    json = tmp_path / "scores.json"
    by = ("--group-by", r"/(gold|p)\.", "--pixel-size", PIXEL_NM, "--threshold", 0.99)
    assert evaluate(labelled, *by, "--json", json).exit_code == 0
    scores = msgspec.json.decode(json.read_bytes())
    assert list(scores["groups"]) == ["gold", "p"]
    assert scores["threshold"] == 0.99
    assert scores["all"]["diameter_unit"] == "nm"
    mask = ns.segment(MOVIE[1][0], threshold=0.99).labels > 0
    assert scores["groups"]["p"]["confusion"]["true_positive"] == np.sum(mask & (MOVIE[1][1] > 0))


def test_it_warns_of_what_segment_warns_of(labelled):
    scores = labelled / "scores.json"
    done = evaluate(labelled, "--pixel-size", 1000 * PIXEL_NM, "--json", scores)
    assert done.exit_code == 0
    warning = r"nanostream: warning: .*p\.npy#0: pixel size 26 nm is too far from the model's"
    assert re.search(warning, done.stderr)
    sections = msgspec.json.decode(scores.read_bytes())["sections"]
    assert "too far from the model's" in sections[-1]["warning"]


def test_a_label_without_a_particle_is_named(labelled):
    png(labelled / "Pd" / "label_p.png", np.zeros((320, 320), np.uint8))
    done = evaluate(labelled)
    assert done.exit_code == 0
    said = r"nanostream: 1 without a particle in the label; [a-z ]* false: .*/Pd/p\.npy#0"
    assert re.search(said, done.stderr)


@pytest.mark.parametrize("threshold", ["1.7", "0", "1", "-0.2", "nan"])
def test_a_threshold_that_is_no_probability_is_refused_by_its_option(labelled, threshold):
    done = evaluate(labelled, "--threshold", threshold)
    assert done.exit_code == 2
    assert "--threshold" in done.stderr
    assert f"{threshold} is not a probability above 0 and below 1" in done.stderr


def test_a_label_of_another_size_is_refused_with_both_names(labelled):
    png(labelled / "Pd" / "label_p.png", np.zeros((32, 64), np.uint8))
    done = evaluate(labelled / "Pd")
    assert isinstance(done.exception, DataSetError)
    assert re.search(r"label_p\.png is 64 x 32 px, .*p\.npy#0 320 x 320 px", str(done.exception))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["."], DataSetError, "neither a micrograph with its label nor a scene of"),
        (["absent"], MicrographError, "absent: no such file or folder"),
        ([".", "--figure", "a.jpg"], ConfigError, "a.jpg: a figure is written as"),
        ([".", "--json", "."], ConfigError, "is a folder; give the name of a file"),
        ([".", "--json", "absent/a.json"], ConfigError, "there is no folder absent"),
    ],
)
def test_a_mistake_is_said_before_a_network_is_loaded(
    tmp_path, monkeypatch, arguments, error, said
):
    monkeypatch.chdir(tmp_path)
    done = evaluate(*arguments)
    assert isinstance(done.exception, error)
    assert said in str(done.exception)


def test_a_pattern_that_is_none_is_said(labelled):
    done = evaluate(labelled, "--group-by", "(")
    assert isinstance(done.exception, ConfigError)
    assert "--group-by (: neither folder nor a regular expression" in str(done.exception)


def test_folders_are_named_below_what_contains_them(tmp_path, monkeypatch):
    from nanostream_services.commands.evaluate import _folder_names

    monkeypatch.chdir(tmp_path)
    paths = [Path("a"), Path("a/b"), tmp_path / "a" / "c" / "d"]
    assert list(_folder_names(set(paths[1:])).values()) in (["b", "c/d"], ["c/d", "b"])
    assert _folder_names(set(paths))[paths[0]] == "a"
    assert _folder_names({Path("a/b")}) == {Path("a/b"): "b"}


def test_an_unknown_model_is_said(labelled):
    done = evaluate(labelled, "--model", "unheard-of")
    assert isinstance(done.exception, ModelError)
    assert "unheard-of" in str(done.exception)
