"""A model is weights and a card; what does not fit is refused by name."""

import hashlib
import json

import pytest

from nanostream.errors import ModelError
from nanostream.segmentation.models import find_model, import_model, list_models
from nanostream.segmentation.unet import build_unet


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("NANOSTREAM_MODELS", str(folder))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.weights.h5"
    build_unet().save_weights(path)
    return path


def bring(weights, name="mine", **options):
    return import_model(
        weights, name=name, **({"normalization": "image-max", "threshold": 0.4} | options)
    )


def test_the_package_ships_a_default_model_that_is_what_its_card_says():
    card, weights = find_model("default")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == card.weights_sha256
    assert card.features == (4, 8, 16, 32)
    assert card.materials
    assert card.training
    assert card.scores
    assert 0 < card.threshold < 1


def test_an_imported_model_is_listed_with_its_scaling(weights, models):
    bring(weights, normalization="dataset-max", normalization_maximum=3000.0)
    card = next(card for card in list_models() if card.name == "mine")
    assert (card.normalization, card.normalization_maximum, card.threshold) == (
        "dataset-max",
        3000.0,
        0.4,
    )
    assert find_model("mine")[1].parent == models / "mine"


@pytest.mark.parametrize("name", ["default", "", "../up", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_taken_or_no_name_is_refused(weights, name):
    with pytest.raises(ModelError, match="name"):
        bring(weights, name)


@pytest.mark.parametrize("name", ["absent", "../default", ""])
def test_a_model_that_is_not_there_is_said_with_those_that_are(name):
    with pytest.raises(ModelError, match="default"):
        find_model(name)


def test_weights_that_were_changed_after_the_import_are_refused(weights, models):
    bring(weights)
    with next((models / "mine").glob("*.h5")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="import the model again"):
        find_model("mine")


def test_a_damaged_card_is_named(weights, models):
    bring(weights)
    card = models / "mine" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"threshold": "high"}))
    with pytest.raises(ModelError, match=r"card\.json"):
        find_model("mine")


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.0}, {"threshold": 1.0}, {"normalization_maximum": 5.0}],
    ids=["threshold 0", "threshold 1", "a maximum that is not used"],
)
def test_a_card_that_makes_no_sense_is_refused(weights, options):
    with pytest.raises(ModelError):
        bring(weights, **options)


def test_a_file_that_is_no_weights_leaves_no_model(tmp_path, models):
    (tmp_path / "notes.h5").write_text("not weights")
    with pytest.raises(ModelError, match=r"notes\.h5"):
        bring(tmp_path / "notes.h5")
    assert not (models / "mine").exists()
