"""One micrograph from pixels to numbers: the worker, ``nanostream segment`` and notebooks.

Filter, resample, scale, predict, label, measure, judge: everything live and offline shares, so that
both give the same masks and tables.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from time import perf_counter

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.acquisition.sections import installed_versions
from nanostream.config import Worker
from nanostream.particles.measures import measure_particles, summarize
from nanostream.records import Acquired, Frame, Segmentation, shared
from nanostream.segmentation.domain import Verdict, describe, doubt, judge
from nanostream.segmentation.handing_over import Look, models_in_use, other_answers
from nanostream.segmentation.inference import Engine, Network
from nanostream.segmentation.masks import Regions, label_regions
from nanostream.segmentation.models import ModelCard, load_network
from nanostream.segmentation.normalization import median_filter, normalize, without_shift
from nanostream.segmentation.resampling import needed_zoom, resample, to_shape, zoom_within
from nanostream.segmentation.separation import fill_dark_holes, separate
from nanostream.segmentation.separation_rule import SeparationRule
from nanostream.segmentation.tiles import predict_tiled
from nanostream.segmentation.weights import WITH_DEPTH

__all__ = ["Analyzer", "cached_analyzer", "used_threshold", "versions"]

logger = logging.getLogger(__name__)

#: Of a particle of fewer pixels neither size nor shape can be trusted, with a network whose card
#: says nothing else.
_MIN_AREA_PX = 100

#: What helps where particles are too small.
_FOR_SMALL = "set [worker] min_area_px or use a higher magnification"

#: So many regions that are too small are noise, more of them than particles may be particles.
_FEW_DROPPED = 20


class _Model:
    """A model as the settings use it; its network is loaded when it is first asked for."""

    def __init__(self, card: ModelCard, weights: Path, settings: Worker) -> None:
        self.card, self._weights, self._settings = card, weights, settings
        self.threshold = used_threshold(settings, card)
        self.min_area_px = _used_min_area_px(settings, card)
        # Who lowers the threshold wants to see what is faint.
        self.peak = card.peak if self.threshold >= card.threshold else 0.0

    @cached_property
    def network(self) -> Network:
        settings = self._settings
        return load_network(
            self.card,
            self._weights,
            engine=settings.engine,
            device=settings.device,
            mixed=settings.mixed,
        )

    def zoom(self, frame: Frame) -> float:
        """By how much the network sees a frame enlarged."""
        needed = needed_zoom(frame.pixel_size_nm, self.card.pixel_size_nm)
        return zoom_within(needed, (frame.pixels.shape[0], frame.pixels.shape[1]))

    def predict(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of the network for a micrograph as it sees it."""
        return predict_tiled(
            image,
            self.network,
            tile_px=self._settings.tile_px,
            margin_px=self.network.margin_px,
            step_px=self.network.step_px,
            batch=self._settings.batch,
        )


class Analyzer:
    """A loaded model, and the one it hands over to; call it with a frame.

    Parameters
    ----------
    settings : Worker
        Model, threshold, tiles, device.
    normalization_maximum : float, optional
        For models scaled by the data set's maximum: what the session has seen so far.
    model : tuple of ModelCard and Path, optional
        Card and weights of a model that has no name yet, instead of the settings'.

    Raises
    ------
    ModelError, ConfigError
        If the model or the device cannot be used.
    """

    def __init__(
        self,
        settings: Worker,
        *,
        normalization_maximum: float | None = None,
        model: tuple[ModelCard, Path] | None = None,
    ) -> None:
        self.settings = settings
        own, *others = (_Model(*one, settings) for one in models_in_use(settings, model))
        self._own, self._other = own, others[0] if others else None
        self.card, self.threshold, self.min_area_px = own.card, own.threshold, own.min_area_px
        self.engine: Engine = own.network.engine  # on its device
        self._running_maximum = normalization_maximum

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what computes a result, for its provenance."""
        engine = self.engine
        precision = "mixed" if self.settings.mixed else "float32"
        return versions() | {
            "engine": f"{engine.name} {engine.version}, {engine.device}, {precision}"
        }

    def raise_maximum(self, maximum: float | None) -> None:
        """Take over what other workers of the session have seen."""
        if maximum is not None:
            known = self._running_maximum
            self._running_maximum = maximum if known is None else max(maximum, known)

    def take_maximum(self, maximum: float | None) -> None:
        """Scale by what a stored section was scaled by, to make its mask again."""
        self._running_maximum = maximum

    def warm_up(self, shape: tuple[int, int] = (512, 512)) -> None:
        """Compile the network before the first frame is waited for."""
        self._own.predict(np.zeros(shape, np.float32))

    def work_px(self, frame: Frame) -> int:
        """Pixels that the network has to process: those of the frame as it is resampled."""
        zoom = 1.0  # where the pixel size is not known, whichever model answers
        if frame.pixel_size_nm:
            zoom = self._answering(frame, partial(describe, frame.pixels)).zoom(frame)
        return max(1, round(frame.pixels.size * zoom * zoom))

    def scaled(self, frame: Frame) -> tuple[NDArray[np.float32], float | None]:
        """A micrograph as the network sees it, and the maximum it was divided by, if by one."""
        return self._scaled(self._own, frame, median_filter(frame.pixels))

    def _scaled(
        self, model: _Model, frame: Frame, filtered: NDArray[np.generic]
    ) -> tuple[NDArray[np.float32], float | None]:
        if model.card.normalization in ("image-max", "dataset-max"):
            filtered = without_shift(filtered)
        filtered = resample(filtered, model.zoom(frame))
        maximum = self._maximum(model.card, filtered)
        return normalize(filtered, model.card.normalization, maximum=maximum), maximum

    def _answering(self, frame: Frame, look: Look) -> _Model:
        """The model for a micrograph."""
        own, other = self._own, self._other
        if other and other_answers(own.card, other.card, frame.pixel_size_nm, look):
            return other
        return own

    def __call__(self, frame: Frame) -> Segmentation:
        """Segment one micrograph."""
        timings = dict(frame.timings_s)
        frame, no_numbers = _finite(frame)
        shape = (frame.pixels.shape[0], frame.pixels.shape[1])
        with _timed(timings, "filter_s"):
            filtered = median_filter(frame.pixels)
            look: Look = cache(partial(describe, filtered))
            model = self._answering(frame, look)
            image, maximum = self._scaled(model, frame, filtered)
            if frame.pixel_size_nm or not self._other:  # nothing was chosen by it
                look = partial(describe, image)
        with _timed(timings, "predict_s"):
            outputs = model.predict(image)
            seen, deep = _parted(outputs)
            probability = to_shape(seen, shape)
        with _timed(timings, "label_s"):
            regions = label_regions(
                probability,
                model.threshold,
                min_area_px=model.min_area_px,
                peak=model.peak,
            )
            labels, split = regions.labels, None
            if self.settings.separate:
                labels = fill_dark_holes(labels, frame.pixels)
                depth = None if deep is None else to_shape(deep, shape)
                labels, split = separate(labels, depth, rule=_separation(self.settings, model.card))
        with _timed(timings, "measure_s"):
            particles = measure_particles(
                labels,
                frame.pixels,
                probability,
                pixel_size_nm=frame.pixel_size_nm,
                frame=frame.section.z,
                split=split,
            )
            mean = float(frame.pixels.mean(dtype=np.float64))
            summary = summarize(particles, shape=shape, mean_intensity=mean)
            verdict = _judge(model, frame, look, doubt(probability, labels))
        warnings = filter(None, [verdict.warning, *_left_out(model, regions, summary.count)])
        verdict = verdict._replace(warning="; ".join(warnings))
        if no_numbers == frame.pixels.size:
            verdict = verdict._replace(warning="no pixel is a finite number: check the file")
        elif no_numbers:
            were = "1 pixel was" if no_numbers == 1 else f"{no_numbers} pixels were"
            replaced = f"{were} NaN or infinite and replaced by the median of the image"
            warning = "; ".join(filter(None, [replaced, verdict.warning]))
            verdict = verdict._replace(warning=warning)
        return Segmentation(
            **shared(frame, Acquired, but=("timings_s",)),
            timings_s=timings,
            labels=labels,
            probability=probability,
            particles=particles,
            summary=summary,
            model=model.card.name,
            model_sha256=model.card.weights_sha256,
            threshold=model.threshold,
            normalization_maximum=maximum,
            dropped=regions.dropped,
            domain_score=verdict.domain_score,
            warning=verdict.warning,
        )

    def _maximum(self, card: ModelCard, filtered: NDArray[np.generic]) -> float | None:
        if card.normalization != "dataset-max":
            return None
        if card.normalization_maximum is not None:
            return card.normalization_maximum
        self.raise_maximum(max(0.0, float(filtered.max())))
        return self._running_maximum


def _judge(model: _Model, frame: Frame, look: Look, doubted: float) -> Verdict:
    """Domain score and warning, from what the network saw and how sure it is of the mask."""
    verdict = judge(model.card.domain, look, doubted)
    if value := _only_value(frame.pixels):
        # No other warning would be about a specimen.
        reason = f"all pixels are {value}: blanked, saturated, or not written"
        return verdict._replace(warning=reason)
    known_nm, size_nm = model.card.pixel_size_nm, frame.pixel_size_nm
    if known_nm and size_nm and needed_zoom(size_nm, known_nm) != model.zoom(frame):
        far = (
            f"pixel size {size_nm:.3g} nm is too far from the model's {known_nm[0]:.3g} to "
            f"{known_nm[1]:.3g} nm to be resampled: check the mask"
        )
        warning = "; ".join(filter(None, [far, verdict.warning]))
        return verdict._replace(warning=warning)
    return verdict


def _left_out(model: _Model, regions: Regions, count: int) -> Iterator[str]:
    """Warnings of regions that are not in the mask, where they are more than those that are."""
    if regions.dropped > max(_FEW_DROPPED, count):
        other = model.card.hands_over_to  # the shipped one for small particles
        advice = f'try model = "{other}", {_FOR_SMALL}' if other else _FOR_SMALL
        yield (
            f"{regions.dropped} regions below {model.min_area_px} px were left out: if they are "
            f"particles, {advice}"
        )
    if regions.withheld > count:
        yield (
            f"{regions.withheld} regions are nowhere above the minimum peak probability of "
            f"{model.peak:g} and were left out, {count or 'no'} "
            f"{'particle was' if count == 1 else 'particles were'} found; a threshold below "
            f"{model.threshold:g} shows them"
        )


def _separation(settings: Worker, card: ModelCard) -> SeparationRule:
    """The card's rule, with the settings' rise if they have one."""
    if settings.separation_rise is None:
        return card.separation
    name = "rise" if card.architecture in WITH_DEPTH else "distance_rise"
    return dataclasses.replace(card.separation, **{name: settings.separation_rise})


def used_threshold(settings: Worker, card: ModelCard) -> float:
    """The probability above which a pixel is particle: the settings', else the model card's."""
    return card.threshold if settings.threshold is None else settings.threshold


def _used_min_area_px(settings: Worker, card: ModelCard) -> int:
    """Pixels of the smallest particle: the settings', else the model card's, else 100."""
    if settings.min_area_px is not None:
        return settings.min_area_px
    return _MIN_AREA_PX if card.min_area_px is None else card.min_area_px


def _parted(
    outputs: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Probability, and depth if the network has it."""
    if outputs.ndim == 2:
        return outputs, None
    probability, depth = (np.ascontiguousarray(outputs[..., k]) for k in range(2))
    return probability, depth


def _finite(frame: Frame) -> tuple[Frame, int]:
    """The frame with the median where a pixel is not finite, and how many are not."""
    pixels = frame.pixels
    if pixels.dtype.kind != "f" or (good := np.isfinite(pixels)).all():
        return frame, 0
    usual = np.median(pixels[good]) if good.any() else 0.0
    mended = np.where(good, pixels, np.asarray(usual, pixels.dtype))
    return replace(frame, pixels=mended), int(pixels.size - np.count_nonzero(good))


def _only_value(pixels: NDArray[np.generic]) -> str:
    """The value that all pixels have; empty if they differ."""
    few = pixels[::61, ::61]
    if few.min() != few.max() or pixels.min() != pixels.max():
        return ""
    return f"{pixels.flat[0]:{'g' if pixels.dtype.kind == 'f' else ''}}"


@lru_cache(maxsize=2)
def cached_analyzer(model: str, threshold: float | None) -> Analyzer:
    """An analyzer kept between calls, for notebooks."""
    return Analyzer(Worker(model=model, threshold=threshold))


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the packages that every result is made with, and of some more."""
    packages = ("nanostream", "numpy", "opencv-python-headless", *more)
    return {"python": platform.python_version()} | installed_versions(*packages)


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[stage] = perf_counter() - start
