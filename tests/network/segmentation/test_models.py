"""A model is weights and a card; what does not fit is refused by name."""

import hashlib
import json
import shutil
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.special import expit, logit

from nanostream.errors import ModelError
from nanostream.segmentation.models import (
    find_model,
    import_folder,
    import_model,
    list_models,
    load_network,
    read_card,
)
from nanostream.segmentation.unet import build_unet
from nanostream.segmentation.weights import DEPTH_FEATURES, PAPER_FEATURES, QUARTER_FEATURES


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
    how: dict[str, Any] = {"normalization": "image-max", "threshold": 0.4}
    return import_model(weights, name=name, **(how | options))


@pytest.mark.parametrize("name", ["default", "survey", "groschner2020"])
def test_the_package_ships_models_that_are_what_their_cards_say(name):
    card, weights = find_model(name)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == card.weights_sha256
    expected = {
        "default": ("unet-quarter-residual", QUARTER_FEATURES),
        "survey": ("unet-depth", DEPTH_FEATURES),
        "groschner2020": ("unet", PAPER_FEATURES),
    }
    assert (card.architecture, card.features) == expected[name]
    network = load_network(card, weights, device="cpu", mixed=False)
    outputs = (2,) if name == "survey" else ()
    assert network(np.zeros((1, 64, 128, 1), np.float32)).shape == (1, 64, 128, *outputs)
    assert card.calibration
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
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"normalization_maximum": 5.0},
        {"pixel_size_nm": (0.1, 0.01)},
        {"pixel_size_nm": (0.0, 0.1)},
    ],
    ids=[
        "threshold 0",
        "threshold 1",
        "a maximum that is not used",
        "pixel sizes the wrong way round",
        "a pixel size of nothing",
    ],
)
def test_a_card_that_makes_no_sense_is_refused(weights, options):
    with pytest.raises(ModelError):
        bring(weights, **options)


def test_a_file_that_is_no_weights_leaves_no_model(tmp_path, models):
    (tmp_path / "notes.h5").write_text("not weights")
    with pytest.raises(ModelError, match=r"notes\.h5"):
        bring(tmp_path / "notes.h5")
    assert not (models / "mine").exists()


# --- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", [(0.6, -0.8), (1.7, 0.4)])
@pytest.mark.parametrize("name", ["default", "groschner2020"])
def test_a_calibrated_network_gives_the_sigmoid_of_the_scaled_and_shifted_logit(name, calibration):
    card, weights = find_model(name)
    card = msgspec.structs.replace(card, calibration=None)
    calibrated = msgspec.structs.replace(card, calibration=calibration)
    tiles = np.random.default_rng(1).normal(size=(1, 64, 96, 1)).astype(np.float32)
    tiles[:, 16:48, 32:64] -= 3.0  # a dark square
    plain, honest = (
        load_network(which, weights, device="cpu", mixed=False)(tiles)
        for which in (card, calibrated)
    )
    scale, shift = calibration
    expected = expit(scale * logit(plain.astype(np.float64)) + shift)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(honest, expected, atol=1e-5)


# --- import --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_either_file_of_keras_3_becomes_the_same_network(tmp_path, name):
    model = build_unet()
    path = tmp_path / name
    if name.endswith("keras"):
        model.save(path)
    else:
        model.save_weights(path)
    bring(path, pixel_size_nm=(0.02, 0.05))
    card, weights = find_model("mine")
    assert card.pixel_size_nm == (0.02, 0.05)
    tiles = np.random.default_rng(2).normal(size=(1, 32, 32, 1)).astype(np.float32)
    found = load_network(card, weights, device="cpu", mixed=False)(tiles)
    np.testing.assert_allclose(found, model(tiles).numpy()[..., 1], atol=1e-5)


def test_weights_of_another_network_are_refused_with_the_layer(tmp_path):
    build_unet((4, 8, 16, 24)).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ModelError, match=r"layer conv2d_4 does not fit.*24"):
        bring(tmp_path / "other.weights.h5")


@pytest.fixture
def trained(weights, tmp_path):
    """A folder as training leaves it, with more in its card than this version knows."""
    folder = tmp_path / "trained"
    folder.mkdir()
    shutil.copy(weights, folder / "weights.weights.h5")
    card = {
        "name": "gold-2027",
        "features": [4, 8, 16, 32],
        "normalization": "standardize",
        "threshold": 0.45,
        "calibration": [0.8, -0.1],
        "pixel_size_nm": [0.01, 0.1],
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "materials": ["Au"],
        "scores": {"by_material": {"Au": {"dice": 0.9}}},
        "from_the_future": [1, 2],
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_folder_comes_with_all_that_its_card_says(trained, models, name):
    known_as = name or "gold-2027"
    assert import_folder(trained, name=name).name == known_as
    card, weights = find_model(known_as)
    assert weights.parent == models / known_as
    assert (card.calibration, card.threshold) == ((0.8, -0.1), 0.45)
    expected = json.loads((trained / "card.json").read_text()) | {"name": known_as}
    assert read_card(models / known_as / "card.json") == expected


def test_an_imported_folder_can_be_imported_again_from_where_it_is(trained, models):
    import_folder(trained)
    import_folder(models / "gold-2027")
    assert find_model("gold-2027")[0].materials == ("Au",)


def altered(folder, **changes):
    card = json.loads((folder / "card.json").read_text()) | changes
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"weights_sha256": "0" * 64}, "not the file"),
        ({"weights": "../../secret.h5"}, "name of a file"),
        ({"weights": "absent.h5"}, "missing"),
        ({"features": [4, 8, 16]}, "layer conv2d_4 does not fit"),
        ({"name": "default"}, "a shipped model has it"),
        ({"name": "../up"}, "not of letters, digits"),
        ({"calibration": [-1.0, 0.0]}, "positive scale"),
        ({"threshold": 40}, "threshold 40"),
        ({"domain": {"mean": [0.0]}}, "domain"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_folder_that_does_not_hold_together_is_refused_and_leaves_nothing(
    trained, models, changes, word
):
    altered(trained, **changes)
    with pytest.raises(ModelError, match=word):
        import_folder(trained)
    assert not models.exists() or not list(models.rglob("card.json"))


def test_a_folder_without_a_card_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"card\.json"):
        import_folder(tmp_path)
