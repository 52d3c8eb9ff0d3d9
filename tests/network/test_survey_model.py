"""The model for survey magnification, on what `default` fails on: many small particles."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.training.evaluation import match_particles
from nanostream.training.survey import draw_survey_picture
from tests.factories import a_frame

AU750 = Path(__file__).resolve().parents[3] / "shared" / "data" / "au750"


def labels_of(image, model):
    return Analyzer(Worker(model=model))(a_frame("scene.mrc#0", image)).labels


def f1_score(truth, labels):
    both = sum(len(np.unique(mask[mask > 0])) for mask in (truth, labels))
    return 2 * len(match_particles(truth, labels)) / both


@pytest.mark.skipif(not AU750.exists(), reason=f"no real images in {AU750}")
def test_eight_hundred_particles_of_8_px_are_found_in_a_real_frame():
    mask = min(AU750.glob("*_label.png"))
    image = cv2.imread(str(mask.with_name(mask.name.replace("_label", ""))), cv2.IMREAD_UNCHANGED)
    truth, count = ndimage.label(np.asarray(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)))
    assert count > 700
    labels = labels_of(image, "survey")
    assert f1_score(truth, labels) > 0.85
    assert labels.max() == pytest.approx(count, rel=0.1)


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
