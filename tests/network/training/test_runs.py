"""A training from files to a model: begun, interrupted, resumed, refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.acquisition.simulator import demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import DataSetError
from nanostream.records import Frame, SectionId
from nanostream.segmentation.models import find_model
from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.segmentation.weights import read_weights
from nanostream.training import choosing, fit, runs
from nanostream.training.examples import Examples, read_examples
from nanostream.training.groschner2020.recipe import PaperRecipe
from nanostream.training.groschner2020.runs import train_by_paper
from nanostream.training.held_out import _carried_peak, _minimum_peak, _widened, settle
from nanostream.training.plans import Base, Plan
from nanostream.training.recipe import Cycle, Recipe, tuning_recipe
from nanostream.training.runs import train_model
from nanostream.training.sources import find_sources, read_frames
from nanostream.training.views import draw_batch

RECIPE = Recipe((Cycle(30),), batch=2, crop_px=64, learning_rate=1e-2, averaging=0.8, seed=1)


class StopError(Exception):
    pass


def make_discs(folder: Path, count: int, size_px: int) -> None:
    """Dark discs on noise, with their labels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size_px, :size_px]
    folder.mkdir()
    for number in range(count):
        cy, cx = rng.uniform(size_px / 3, 2 * size_px / 3, 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < (size_px / 4) ** 2
        pixels = (1000 + 60 * rng.standard_normal(disc.shape) - 400 * disc).astype(np.int16)
        np.save(folder / f"{number:02d}.npy", pixels)
        png = cv2.imencode(".png", (255 * disc).astype(np.uint8))[1]
        (folder / f"{number:02d}_label.png").write_bytes(png.tobytes())


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    make_discs(tmp_path / "discs", 3, 96)
    sources = find_sources([tmp_path / "discs"]).sources
    return Plan(
        name="discs",
        folder=tmp_path / "model",
        training=sources[:2],
        held_out=sources[2:],
        work=tmp_path / "work",
        features=(4, 8),
    )


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights as they began, for what does not depend on what is learnt."""
    monkeypatch.setattr(runs, "_fit", lambda *_: None)


def test_an_interrupted_training_is_resumed_from_its_checkpoint(plan: Plan) -> None:
    def interrupt(done: int, loss: float) -> None:
        if done == 7:
            raise StopError

    with pytest.raises(StopError):
        train_model(plan, RECIPE, on_step=interrupt)
    assert not plan.folder.exists()
    steps: list[int] = []

    card = train_model(plan, RECIPE, on_step=lambda done, _: steps.append(done))

    assert steps == list(range(8, RECIPE.steps + 1))
    assert read_weights(plan.folder / card.weights, (4, 8))
    assert card.scores["by_material"]["all"]["dice"] > 0.5
    assert card.domain is None  # fewer than 20 micrographs do not say what is usual


def test_a_network_with_depth_rehearses_and_is_resumed(plan: Plan) -> None:
    plan = replace(plan, architecture="unet-depth", features=(4, 6))
    recipe = replace(RECIPE, cycles=(Cycle(4),), rehearsal=3)

    def interrupt(done: int, loss: float) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        train_model(plan, recipe, on_step=interrupt)
    steps: list[int] = []
    card = train_model(plan, recipe, on_step=lambda done, _: steps.append(done))
    assert steps == [3, 4]
    assert card.architecture == "unet-depth"
    assert card.training["recipe"]["rehearsal"] == 3
    base = Base(msgspec.structs.replace(card, min_area_px=17), plan.folder / card.weights)
    tuned = train_model(
        replace(plan, base=base, folder=plan.folder / "tuned", work=plan.folder / "work"),
        replace(recipe, cycles=(Cycle(1),)),
    )
    assert (tuned.architecture, tuned.min_area_px) == ("unet-depth", 17)


def test_the_checkpoints_of_another_training_are_not_resumed(plan: Plan) -> None:
    def interrupt(stage: str) -> None:
        if stage == "training":
            raise StopError

    with pytest.raises(StopError):
        train_model(plan, RECIPE, on_stage=interrupt)

    with pytest.raises(DataSetError, match="begun with another recipe"):
        train_model(plan, replace(RECIPE, cycles=(Cycle(31),)))
    with pytest.raises(DataSetError, match="begun with another files"):
        train_model(replace(plan, training=plan.training[:1]), RECIPE)


@pytest.mark.parametrize("name", ["default", "groschner2020"])
def test_fine_tuning_begins_with_the_weights_and_scaling_of_its_base(plan: Plan, name: str) -> None:
    base = Base(*find_model(name))
    recipe = replace(
        tuning_recipe(base.card.normalization, steps=1, seed=3),
        batch=1,
        crop_px=64,
        learning_rate=0.0,
    )

    card = train_model(replace(plan, base=base), recipe)

    assert card.normalization == base.card.normalization
    assert (card.architecture, card.features) == (base.card.architecture, base.card.features)
    old, new = (
        read_weights(weights, card.features, architecture=card.architecture)
        for weights in (base.weights, plan.folder / card.weights)
    )
    for before, after in zip(old, new, strict=True):
        # Moments of the batch normalisation, the last two, follow the new images.
        for one, other in zip(before[:4], after[:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_model_that_divides_by_a_maximum_is_fine_tuned_as_it_is_live(plan: Plan) -> None:
    card, weights = find_model("groschner2020")
    frames = [frame for source in plan.training for frame, _, _ in read_frames(source)]
    greatest = 4.0 * max(float(frame.pixels.max()) for frame in frames)
    base = Base(
        msgspec.structs.replace(
            card, normalization="dataset-max", normalization_maximum=greatest, pixel_size_nm=None
        ),
        weights,
    )
    recipe = replace(
        tuning_recipe(base.card.normalization, steps=1), batch=1, crop_px=96, learning_rate=0.0
    )
    shown: list[NDArray[np.float32]] = []

    def keep(examples: Examples, recipe: Recipe, step: int) -> Any:
        batch = draw_batch(examples, recipe, step)
        shown.append(batch[0])
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "draw_batch", keep)
        train_model(replace(plan, base=base), recipe)

    live = np.mean([Analyzer(Worker(), model=(base.card, weights)).scaled(f)[0] for f in frames])
    assert 0.1 < live < 0.3
    assert np.mean(shown) == pytest.approx(live, rel=0.2)


def test_what_was_fine_tuned_on_gives_no_warning_but_for_what_is_odd(plan: Plan) -> None:
    base = find_model("default")[0].domain
    assert base is not None
    usual = np.array(base.mean)
    there = usual + 12.0 * np.linalg.pinv(np.array(base.whitening))[:, 0]
    far = usual + 40.0 * np.linalg.pinv(np.array(base.whitening))[:, 0]
    assert base.score(far) < base.score(there) < base.least_score

    widened = _widened(base, np.array([there] * 8 + [far]))

    assert widened is not None
    assert base.score(far) < widened.least_score <= base.score(there)
    assert _widened(base, np.array([usual] * 3)) == base
    assert _widened(base, np.full((2, len(usual)), np.nan)) == base
    assert _widened(None, usual[None]) is None


@pytest.mark.usefixtures("untrained")
def test_with_nothing_held_out_the_settings_of_the_base_are_kept(plan: Plan) -> None:
    base = Base(*find_model("default"))
    recipe = replace(tuning_recipe(base.card.normalization, steps=1), batch=1, crop_px=64)

    card = train_model(replace(plan, base=base, held_out=()), recipe)

    assert card.threshold == base.card.threshold
    assert card.calibration == base.card.calibration
    assert card.domain is not None
    assert base.card.domain is not None
    assert card.domain.mean == base.card.domain.mean
    assert card.scores == {}


@pytest.mark.usefixtures("untrained")
def test_fine_pixels_are_the_same_to_the_training_and_to_the_worker(
    plan: Plan, tmp_path: Path
) -> None:
    make_discs(tmp_path / "fine", 3, 160)
    sources = find_sources([tmp_path / "fine"]).sources
    fine = replace(
        plan,
        training=sources[:2],
        held_out=sources[2:],
        pixel_size_nm=0.01,
    )
    recipe = replace(RECIPE, cycles=(Cycle(1),))

    card = train_model(fine, recipe)
    tuned = train_model(
        replace(
            fine,
            base=Base(card, plan.folder / card.weights),
            work=tmp_path / "more",
            folder=tmp_path / "tuned",
        ),
        recipe,
    )

    assert card.pixel_size_nm == tuned.pixel_size_nm == (0.02, pytest.approx(0.02 / 0.7, abs=1e-4))
    frame, _, _ = next(read_frames(sources[0], pixel_size_nm=0.01))
    live, *_ = Analyzer(Worker(), model=(card, plan.folder / card.weights)).scaled(frame)
    examples, _ = read_examples(sources[:1], pixel_size_nm=0.01, finest_nm=0.02)
    assert live.shape == (80, 80)
    np.testing.assert_allclose(normalize(examples.images[0], "standardize"), live, atol=0.01)
    with pytest.raises(DataSetError, match="begun with another pixel size"):
        train_model(replace(fine, pixel_size_nm=0.05), recipe)


def test_the_papers_recipe_gives_a_model_scaled_by_the_greatest_count(plan: Plan) -> None:
    for path in plan.training[0].file.parent.glob("*.npy"):
        np.save(path, np.load(path).astype(np.uint16) * 4)
    recipe = PaperRecipe(tile_px=96, crop_px=64, samples_per_epoch=4, batch=2, epochs=2, seed=1)

    card = train_by_paper(plan, recipe)

    counts = [
        median_filter(np.load(source.file)).max()
        for source in find_sources([plan.training[0].file.parent]).sources
    ]
    assert (card.normalization, card.normalization_maximum) == ("dataset-max", max(counts))
    assert card.training["recipe"]["samples_per_epoch"] == 4
    assert len(card.training["history"]["validation_loss"]) == 2
    assert read_weights(plan.folder / card.weights, (4, 8))


def test_images_too_small_for_the_papers_tiles_are_refused(plan: Plan) -> None:
    with pytest.raises(DataSetError, match="no tile of 512 x 512 px"):
        train_by_paper(plan, PaperRecipe())


def test_a_card_says_how_sure_and_how_usual_micrographs_are(plan: Plan, tmp_path: Path) -> None:
    make_discs(tmp_path / "many", 24, 256)
    sources = find_sources([tmp_path / "many"]).sources

    card = train_model(replace(plan, training=sources[:21], held_out=sources[21:]), RECIPE)

    assert card.calibration is not None
    assert card.domain is not None
    analyzer = Analyzer(Worker(), model=(card, plan.folder / card.weights))
    rng = np.random.default_rng(5)
    usual = analyzer(as_frame(np.load(sources[21].file)))
    strange = analyzer(as_frame(rng.normal(1000, 60, (256, 256)).cumsum(0).astype(np.float32)))
    assert strange.domain_score < 0.01 < usual.domain_score
    assert "unlike the training data" in strange.warning


def as_frame(pixels: np.ndarray) -> Frame:
    return Frame(section=SectionId("disc.npy", 0), pixels=pixels, pixel_size_nm=None)


def test_the_minimum_peak_is_above_what_was_wrongly_found_and_below_what_was_rightly(
    plan: Plan, tmp_path: Path
) -> None:
    card, weights = find_model("default")
    anything = Base(msgspec.structs.replace(card, peak=0.0), weights)
    pixels, _ = next(demo_movie(1, shape=(640, 640), seed=11))
    found = Analyzer(Worker(), model=(anything.card, weights))(Frame(SectionId("a", 0), pixels))
    regions = range(1, int(found.labels.max()) + 1)
    peaks = np.array(ndimage.maximum(found.probability, found.labels, regions))
    least, *others = np.argsort(peaks)
    (tmp_path / "demo").mkdir()
    np.save(tmp_path / "demo" / "a.npy", pixels)
    truth = np.isin(found.labels, np.array(others) + 1).astype(np.uint8)
    (tmp_path / "demo" / "a_label.png").write_bytes(cv2.imencode(".png", truth)[1].tobytes())

    held_out = find_sources([tmp_path / "demo"]).sources
    chosen = _minimum_peak(anything, replace(plan, held_out=held_out))

    assert peaks[least] <= chosen <= peaks[least] + 0.01 < peaks[others].min()


@pytest.mark.parametrize(
    ("calibration", "threshold", "peak"),
    [((0.8, 0.4), 0.5, 0.87), ((1.6, 0.8), 0.5, 0.978), (None, 0.5, 0.867), ((0.8, 0.4), 0.9, 0.0)],
)
def test_a_fine_tuned_models_minimum_peak_is_its_bases_by_its_own_calibration(
    calibration: tuple[float, float] | None, threshold: float, peak: float
) -> None:
    card, _ = find_model("default")
    base = msgspec.structs.replace(card, calibration=(0.8, 0.4), peak=0.87)
    tuned = msgspec.structs.replace(card, calibration=calibration, threshold=threshold)

    assert _carried_peak(base, tuned) == pytest.approx(peak, abs=2e-3)
    assert _carried_peak(msgspec.structs.replace(base, peak=0.0), tuned) == 0.0


def test_the_fewer_are_held_out_the_more_the_base_counts(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base(*find_model("default"))
    trained = Base(msgspec.structs.replace(base.card, calibration=None), base.weights)
    plan = replace(plan, base=base)
    card = settle(trained, plan)
    monkeypatch.setattr(choosing, "_BASE_COUNTS_FOR", 0)
    alone = settle(trained, plan)

    assert card.calibration
    assert alone.calibration
    assert base.card.calibration
    (scale, shift), (old_scale, old_shift) = alone.calibration, base.card.calibration
    assert abs(shift - old_shift) > 0.1
    expected = (old_scale ** (8 / 9) * scale ** (1 / 9), (8 * old_shift + shift) / 9)
    assert card.calibration == pytest.approx(expected)
