"""`nanostream models`: cards for people and for programs, and what may come in."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from nanostream.errors import ConfigError, ModelError
from nanostream.segmentation.models import find_model
from nanostream_services.cli import app


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("NANOSTREAM_MODELS", str(folder))
    return folder


@pytest.fixture(scope="module")
def shipped():
    return find_model("default")[1].parent


def ask(*arguments):
    return CliRunner().invoke(
        app, ["models", *map(str, arguments)], env={"COLUMNS": "160", "NO_COLOR": "1"}
    )


def rows(text):
    """Cells of the tables that were printed."""
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
        for line in text.splitlines()
        if line.startswith(("│", "┃"))
    ]


def test_a_card_is_shown_with_its_scores_by_material(shipped):
    card = json.loads((shipped / "card.json").read_text())
    shown = rows(ask("show", "default").output)
    facts = {row[0]: row[1] for row in shown if len(row) == 2}
    low, high = card["pixel_size_nm"]
    assert facts["pixel sizes"] == f"{low:g} to {high:g} nm; others are resampled"
    assert facts["threshold"] == f"{card['threshold']:g}"
    assert facts["materials"] == ", ".join(card["materials"])
    assert {"calibration", "architecture", "normalization", "command"} <= facts.keys()
    # Of a model that goes on from another, the scores of that one are shown as well.
    tables = [card["scores"]["by_material"]]
    if before := card["scores"].get("before"):
        tables.append(before["by_material"])
    for table, scored in enumerate(tables):
        for material, found in scored.items():
            cells = [row[1:] for row in shown if row[0] == material][table]
            shown_as = {f"{score:.3f}" for score in found.values() if isinstance(score, float)}
            assert shown_as <= {*cells}, material


def test_for_programs_the_card_is_as_it_is(shipped):
    shown = json.loads(ask("show", "default", "--json").output)
    assert shown.pop("folder") == str(shipped)
    assert shown == json.loads((shipped / "card.json").read_text())


def test_the_list_says_what_each_model_is_for():
    done = ask(
        "import", find_model("groschner2020")[1], "--name", "mine", "--normalization", "image-max",
        "--threshold", "0.7", "--pixel-size-nm", "0.02", "0.05",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    header, *listed = rows(ask("list").output)
    assert header == ["model", "architecture", "materials", "pixel size (nm)", "threshold"]
    assert listed[-1] == ["mine", "unet", "", "0.02 to 0.05", "0.7"]
    assert listed[0][0] == "default"


def test_a_folder_with_its_card_becomes_a_model(shipped, tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(shipped, folder)
    done = ask("import", folder, "--name", "mine")
    assert done.exit_code == 0, done.output
    assert find_model("mine")[0].scores == find_model("default")[0].scores


@pytest.mark.parametrize("damage", [b'{"name": "to', b'{"name": "\xff\xfe"}', b"[]"])
def test_a_damaged_card_is_said_and_leaves_the_others(models, damage):
    (models / "torn").mkdir(parents=True)
    (models / "torn" / "card.json").write_bytes(damage)

    listed = ask("list")

    assert listed.exit_code == 0
    assert "default" in listed.stdout
    assert "torn" in listed.stderr
    assert isinstance(ask("show", "torn").exception, ModelError)


def test_a_maximum_that_cannot_be_is_refused(tmp_path):
    weights = find_model("groschner2020")[1]

    done = ask("import", weights, "--name", "x", "--normalization", "dataset-max",
               "--threshold", 0.5, "--maximum", -5)  # fmt: skip

    assert isinstance(done.exception, ModelError)
    assert "maximum -5" in str(done.exception)


def test_what_is_missing_or_too_much_is_wrong_use(shipped):
    weights = ask("import", shipped / "weights.weights.h5", "--name", "mine")
    assert isinstance(weights.exception, ConfigError)
    assert "--normalization and --threshold" in str(weights.exception)
    folder = ask("import", shipped, "--name", "mine", "--threshold", "0.3")
    assert isinstance(folder.exception, ConfigError)
    assert "only --name goes with a folder" in str(folder.exception)
    taken = ask("import", shipped)
    assert isinstance(taken.exception, ModelError)


def test_a_name_that_is_mistyped_is_guessed(shipped):
    mistyped = ask("show", "defualt")
    assert isinstance(mistyped.exception, ModelError)
    assert "did you mean default? there are: default, groschner2020" in str(mistyped.exception)


def test_weights_that_are_not_there_are_said_before_options_that_are(tmp_path):
    result = ask("import", tmp_path / "unet.h5", "--name", "mine")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{tmp_path / 'unet.h5'}: no such file"


def test_scores_come_before_the_provenance_with_names_of_files_as_they_are():
    shown = ask("show", "default").output
    assert 0 < shown.index("calibration") < shown.index("by pixel") < shown.index("simulated sets")
    assert "bare-test (bare-test, seed 2027)" in " ".join(shown.replace("│", " ").split())


def test_a_model_of_the_users_is_removed_also_a_damaged_one(shipped, models):
    ask("import", shipped, "--name", "mine")
    (models / "torn").mkdir()
    (models / "torn" / "card.json").write_bytes(b"{")
    for name in ("mine", "torn"):
        removed = ask("remove", name)
        assert removed.exit_code == 0, removed.output
        assert str(models / name) in removed.output
        assert not (models / name).exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default", "came with nanostream"),
        ("mnie", "did you mean mine?"),
        ("..", "no model"),
        ("", "no model"),
        (".", "no model"),
        ("mine/../mine", "no model"),
    ],
)
def test_nothing_else_is_removed(shipped, models, name, said):
    ask("import", shipped, "--name", "mine")
    cards = [folder / "card.json" for folder in (models / "mine", models, models.parent)]
    for card in cards[1:]:  # else "." and ".." would be refused for want of one
        shutil.copy(cards[0], card)
    removed = ask("remove", name)
    assert isinstance(removed.exception, ModelError)
    assert said in str(removed.exception)
    assert all(card.exists() for card in cards)
    assert (shipped / "card.json").exists()
