"""A network says where it is out of its depth."""

import math
import time
from functools import partial

import msgspec
import numpy as np
import pytest

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie
from nanostream.segmentation import domain
from nanostream.segmentation.domain import (
    FEATURES,
    DomainReference,
    describe,
    doubt,
    fit_reference,
    judge,
)
from nanostream.segmentation.normalization import median_filter, normalize

RNG = np.random.default_rng(8)


def scaled(pixels, method="standardize"):
    return normalize(median_filter(pixels), method)


def windows(count, seed, *, name="gold", side=512):
    """Exposures of places of a demo micrograph, of one dose and another."""
    micrograph, rng = DemoMicrograph.load(name), np.random.default_rng(seed)
    for _ in range(count):
        top, left = rng.integers(0, 1024 - side + 1, 2)
        counts = micrograph.expected_counts[top : top + side, left : left + side]
        yield rng.poisson(counts * rng.uniform(0.5, 2.0)).astype(np.int16)


@pytest.fixture(scope="module")
def reference():
    looks = [
        describe(scaled(pixels))
        for name in ("gold", "cdse", "gold-and-cdse")
        for pixels in windows(25, seed=1, name=name)
    ]
    return fit_reference(np.array(looks), np.linspace(0.0, 0.3, 100))


def test_micrographs_of_the_kind_it_was_trained_on_score_high(reference):
    scores = [
        reference.score(describe(scaled(pixels)))
        for name in ("gold", "cdse")
        for pixels, _ in demo_movie(4, shape=(640, 700), seed=77, name=name)
    ]
    assert min(scores) > 0.1


ROWS, COLUMNS = np.mgrid[:700, :800]
STRANGE = {
    "nothing but noise": RNG.poisson(300, (700, 800)),
    "a gradient as of a photograph": ROWS + COLUMNS + RNG.normal(0, 3, ROWS.shape),
    "a gradient without noise": ROWS + COLUMNS,
    "beam blanked": np.zeros((700, 800)),
    "stripes": 100 * np.sin(COLUMNS / 3) + RNG.normal(0, 5, ROWS.shape),
    "half of it saturated": np.where(ROWS < 350, 0, 30000) + RNG.normal(0, 10, ROWS.shape),
}


@pytest.mark.parametrize("pixels", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_such_micrograph_scores_low_and_is_warned_of(reference, pixels):
    image = scaled(np.round(pixels).astype(np.int16))
    verdict = judge(reference, partial(describe, image), 0.0)
    assert 0 <= verdict.domain_score < 0.001
    assert verdict.warning.startswith("unlike the training data (domain score ")


def test_one_in_a_hundred_of_its_kind_is_warned_of_and_not_many_more(reference):
    scores = [reference.score(describe(scaled(pixels))) for pixels in windows(50, seed=3)]
    assert np.mean(np.array(scores) < reference.least_score) <= 0.04
    assert 0.2 < np.median(scores) < 1


def test_the_score_is_the_part_of_the_training_images_that_are_less_usual():
    looks = np.random.default_rng(5).normal(size=(4000, len(FEATURES))) * np.arange(1, 17)
    reference = fit_reference(looks, np.array([0.1]))
    fresh = np.random.default_rng(6).normal(size=(4000, len(FEATURES))) * np.arange(1, 17)
    scores = np.sort([reference.score(look) for look in fresh])
    # Of what is drawn alike, a tenth scores below 0.1, a half below 0.5, ...
    for part in (0.02, 0.1, 0.5, 0.9):
        assert np.mean(scores < part) == pytest.approx(part, abs=0.03)


def test_farther_away_scores_lower_also_beyond_all_training_images(reference):
    direction = np.ones(len(FEATURES))
    mean = np.array(reference.mean)
    scores = [reference.score(mean + step * direction) for step in np.linspace(0, 20, 60)]
    assert scores[0] == 1
    assert (np.diff(scores) <= 0).all()
    assert scores[-1] < 1e-12
    assert all(0 <= score <= 1 for score in scores)


def test_brightness_and_contrast_do_not_matter():
    pixels = next(windows(1, seed=4))
    one, other = (describe(scaled(pixels, method)) for method in ("standardize", "image-max"))
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)


def test_a_large_micrograph_looks_like_a_small_one_of_its_kind(reference):
    """Nine tiles of a 1024 px image against four of a 512 px one."""
    large = reference.score(describe(scaled(next(windows(1, seed=9, side=1024)))))
    assert large > 0.2


@pytest.mark.parametrize(
    "image",
    [np.ones((255, 4000), np.float32), np.full((300, 300), np.nan, np.float32)],
    ids=["too small to tell", "not finite"],
)
def test_what_cannot_be_told_has_no_score_and_no_warning(reference, image):
    verdict = judge(reference, partial(describe, image), 0.0)
    assert math.isnan(verdict.domain_score)
    assert verdict.warning == ""


def particle(inside, *, rim=0.5):
    """A square of 100 x 100 px of one probability, except at its outline."""
    probability = np.full((512, 512), 0.01, np.float32)
    probability[64:164, 64:164] = rim
    probability[65:163, 65:163] = inside
    return probability


@pytest.mark.parametrize(("doubted", "said"), [(0.06, ""), (0.2, "uncertain: the mean prob")])
def test_without_a_reference_there_is_no_score_and_guesses_are_still_said(doubted, said):
    verdict = judge(None, partial(describe, np.zeros((512, 512), np.float32)), doubted)
    assert math.isnan(verdict.domain_score)
    assert verdict.warning.startswith(said)
    assert bool(verdict.warning) == bool(said)


@pytest.mark.parametrize("inside", [1.0, 0.75, 0.5])
def test_the_doubt_is_of_the_inside_and_not_of_the_outline(inside):
    probability = particle(inside)
    assert doubt(probability, probability > 0.4) == pytest.approx(1 - inside, abs=1e-3)


def test_an_empty_mask_is_no_doubt_and_a_thin_one_counts_as_it_is():
    probability = np.full((64, 64), 0.6, np.float32)
    mask = np.zeros((64, 64), np.int32)
    assert doubt(probability, mask) == 0
    mask[10:12, 10:40] = 3  # no pixel has eight neighbours
    assert doubt(probability, mask) == pytest.approx(0.4, abs=1e-3)


def test_a_network_that_is_not_sure_is_warned_of_with_its_number(reference):
    image = scaled(next(windows(1, seed=10)))
    limit = 1 - reference.most_doubt
    assert judge(reference, partial(describe, image), 1 - limit).warning == ""
    assert judge(reference, partial(describe, image), 0.3).warning == (
        "uncertain: the mean probability inside the particles is 0.70, less than "
        f"{limit:.2f}: check the mask"
    )


@pytest.mark.parametrize(("doubts", "limit"), [(0.0, 0.05), (0.08, 0.08), (0.4, 0.12)])
def test_no_validation_set_makes_every_mask_suspect_or_none(doubts, limit):
    looks = np.random.default_rng(0).normal(size=(40, len(FEATURES)))
    assert fit_reference(looks, np.full(30, doubts)).most_doubt == pytest.approx(limit)


def test_a_reference_survives_a_card(reference):
    text = msgspec.json.encode(reference)
    again = msgspec.json.decode(text, type=DomainReference)
    assert again == reference
    assert len(text) < 10_000


def test_a_reference_of_another_descriptor_gives_no_score(reference):
    older = msgspec.structs.replace(reference, descriptor="look-0")
    assert math.isnan(older.score(np.zeros(len(FEATURES))))


@pytest.mark.parametrize(
    "change",
    [
        {"whitening": [[1.0]]},
        {"distances": [1.0]},
        {"tails": [0.5] * 13},
        {"distances": list(range(13, 0, -1))},
    ],
    ids=["whitening", "lengths", "tails that stay", "distances that fall"],
)
def test_a_damaged_reference_is_refused(reference, change):
    tree = msgspec.to_builtins(reference) | change
    with pytest.raises(msgspec.ValidationError, match="domain"):
        msgspec.convert(tree, DomainReference)


def test_too_few_images_make_no_reference():
    with pytest.raises(ValueError, match="at least 20"):
        fit_reference(np.full((100, len(FEATURES)), np.nan), np.array([0.1]))
    with pytest.raises(ValueError, match="0 validation"):
        fit_reference(np.eye(len(FEATURES)).repeat(3, 0), np.array([]))


def test_images_that_are_all_alike_make_a_reference_that_works():
    look = describe(scaled(next(windows(1, seed=2))))
    reference = fit_reference(np.tile(look, (30, 1)), np.array([0.1]))
    assert reference.score(look) == pytest.approx(1, abs=0.01)
    assert reference.score(look + 1) < 1e-3


def test_looking_at_a_4k_micrograph_takes_few_tiles_of_it(monkeypatch):
    """The bound of the cost: 9 tiles of 256 px of 4096 x 4096 are 3.5 % of the pixels."""
    image = np.zeros((4096, 4096), np.float32)
    assert domain._tiles(image).shape == (9, 256, 256)
    describe(image)
    start_s = time.thread_time()
    describe(image)
    assert time.thread_time() - start_s < 0.1  # 7 ms; generous for a busy machine
