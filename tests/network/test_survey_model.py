"""Many small particles: the model for survey magnification, and who hands over to it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

import nanostream as ns
from nanostream.acquisition.simulator import demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.segmentation.models import find_model
from nanostream.training.evaluation import match_particles
from nanostream.training.survey import draw_survey_picture
from nanostream_services.cli import app
from tests.factories import a_frame

AU750 = Path(__file__).resolve().parents[3] / "shared" / "data" / "au750"


def labels_of(image, model):
    return Analyzer(Worker(model=model, hand_over=False))(a_frame("scene.mrc#0", image)).labels


def f1_score(truth, labels):
    both = sum(len(np.unique(mask[mask > 0])) for mask in (truth, labels))
    return 2 * len(match_particles(truth, labels)) / both


@pytest.mark.skipif(not AU750.exists(), reason=f"no real images in {AU750}")
def test_eight_hundred_particles_of_8_px_are_found_in_a_real_frame():
    mask = min(AU750.glob("*_label.png"))
    image = cv2.imread(str(mask.with_name(mask.name.replace("_label", ""))), cv2.IMREAD_UNCHANGED)
    truth, count = ndimage.label(np.asarray(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)))
    assert count > 700
    assert image is not None
    found = ns.segment(np.asarray(image))  # by default, which hands over
    assert found.model == "survey"
    assert f1_score(truth, found.labels) > 0.85
    assert found.labels.max() == pytest.approx(count, rel=0.1)


def test_more_is_found_in_scenes_of_a_seed_that_was_not_learnt_from_than_by_default():
    scores = []
    for number in range(12):
        picture = draw_survey_picture(np.random.default_rng([77, number]), size_px=384)
        truth = np.where(picture.truth.ignored, 0, picture.truth.instances).astype(np.int32)
        if truth.any():
            labels = (labels_of(picture.pixels, model) for model in ("survey", "default"))
            scores.append([f1_score(truth, mask) for mask in labels])
    survey, default = np.mean(scores, axis=0)
    assert survey > default + 0.15


@pytest.mark.parametrize(
    ("pixel_size_nm", "settings", "answers"),
    [
        (0.03, {}, "default"),
        (0.5, {}, "survey"),
        (0.5, {"hand_over": False}, "default"),
        (0.5, {"model": "groschner2020"}, "groschner2020"),
    ],
)
def test_a_known_pixel_size_says_which_model_answers(pixel_size_nm, settings, answers):
    picture = draw_survey_picture(np.random.default_rng(3), size_px=256)
    analyzer = Analyzer(Worker(**settings))
    frame = a_frame("scene.mrc#0", picture.pixels, pixel_size_nm=pixel_size_nm)
    found, card = analyzer(frame), find_model(answers)[0]
    assert (found.model, found.model_sha256) == (answers, card.weights_sha256)
    assert found.threshold == card.threshold


def test_lattice_images_that_say_no_pixel_size_stay_with_default():
    for pixels, _ in demo_movie(3, shape=(640, 640), seed=5):
        assert ns.segment(pixels).model == "default"


def test_sections_of_two_models_are_known_when_they_are_segmented_again(tmp_path):
    pixels, _ = next(demo_movie(1, shape=(300, 300), seed=5))
    np.save(tmp_path / "near.npy", pixels)
    for name, size_nm in (("near", "0.03"), ("far", "0.6")):
        np.save(tmp_path / f"{name}.npy", pixels + (name == "far"))
        again = ("segment", tmp_path / f"{name}.npy", "--root", tmp_path, "--pixel-size", size_nm)
        for _ in range(2):
            done = CliRunner().invoke(
                app, [str(w) for w in (*again, "--out", tmp_path / "session")]
            )
            assert done.exit_code == 0, done.output
    assert ns.open_session(tmp_path / "session").sections["model"].tolist() == ["survey", "default"]
