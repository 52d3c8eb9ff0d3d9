"""Which model answers: by pixel size, else by what is usual to each."""

from functools import partial

import numpy as np
import pytest
from msgspec.structs import replace

from nanostream.segmentation.domain import describe, fit_reference
from nanostream.segmentation.handing_over import other_answers
from nanostream.segmentation.models import ModelCard


def noise(seed, *, grain, side=512):
    """Noise whose neighbours within ``grain`` px are alike."""
    fine = np.random.default_rng(seed).normal(size=(side // grain, side // grain))
    return np.kron(fine, np.ones((grain, grain))).round(2)


def a_card(grain, **known):
    looks = [describe(noise(seed, grain=grain)) for seed in range(30)]
    reference = fit_reference(np.array(looks), np.zeros(1))
    card = ModelCard("m", (4,), "standardize", 0.5, "0", pixel_size_nm=(0.02, 0.1))
    return replace(card, domain=reference, **known)


FINE, COARSE = a_card(1), a_card(8)


def answers(card, other, size_nm, image):
    return other_answers(card, other, size_nm, partial(describe, image))


def no_look():
    raise AssertionError("looked at, though the pixel size says it")


@pytest.mark.parametrize(("grain", "other"), [(1, False), (8, True)])
def test_without_a_pixel_size_the_model_answers_that_the_look_is_usual_to(grain, other):
    image = noise(99, grain=grain)
    assert answers(FINE, COARSE, None, image) is other
    assert answers(FINE, COARSE, None, (100 * image).astype(np.int16)) is other
    assert answers(COARSE, FINE, None, image) is not other


@pytest.mark.parametrize(("size_nm", "other"), [(0.001, False), (0.1, False), (0.11, True)])
@pytest.mark.parametrize("grain", [1, 8])
def test_a_known_pixel_size_decides_alone(size_nm, other, grain):
    assert answers(FINE, COARSE, size_nm, noise(99, grain=grain)) is other
    assert other_answers(FINE, COARSE, size_nm, no_look) is other


def test_what_is_unusual_to_both_or_too_small_to_be_judged_stays():
    strange = np.zeros((512, 512), np.int16)
    strange[::64] = 1000
    assert not answers(FINE, FINE, None, strange)
    assert not answers(FINE, COARSE, None, noise(99, grain=8, side=200))
    assert not answers(replace(FINE, domain=None), COARSE, None, noise(99, grain=8))
    assert answers(replace(FINE, pixel_size_nm=None), COARSE, 0.05, noise(99, grain=8))
