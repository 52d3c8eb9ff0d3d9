"""Size distributions: what is known of a population by the particles of it that were measured.

Number-weighted: each particle counts once. `Population` takes particles as they come, at a cost
that does not grow with those before; `describe` takes them at once and is exact. Definitions and
how often the intervals hold are in docs/reference/populations.md, the choice of the interval in
docs/decisions/0014-the-interval-of-a-median.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nanostream.records import RELATIVE_WIDTH, Statistics

__all__ = ["Population", "describe", "edge_weights", "known_sizes"]

Floats = NDArray[np.float64]

#: In nm or px. Sizes beyond are damage, and their squares and ratios overflow.
_LEAST, _GREATEST = 1e-12, 1e15
#: Two-sided 95 % of a normal distribution, in standard deviations.
_Z = 1.959964
#: With fewer the least and the greatest value hold the median with less than 95 %.
_FEWEST = 6
#: Bins are 0.27 % wide, a quarter of that of the diameter of a disc of 200 px by one pixel more.
_PER_OCTAVE = 256
#: 0.001 to 1,000,000, in nm or px; what lies beyond is counted in the last bin of its side.
_FIRST_OCTAVE, _LAST_OCTAVE = -10, 20
_BINS = (_LAST_OCTAVE - _FIRST_OCTAVE) * _PER_OCTAVE


@dataclass(eq=False)
class Population:
    """Sizes of a population, at constant memory and constant cost per particle.

    Attributes
    ----------
    edge : int
        Particles that were left out because they touch the edge.
    unsized : int
        Particles that were left out because their size is not known, see `known_sizes`.
    sums : (5,) float64
        Of 1, d, d², ln d and (ln d)² over the sizes d.
    bins : (7680,) int64
        Histogram from 0.001 to 1,000,000, 256 bins to a factor of two.
    least, greatest : float
        Sizes that were ever in it.

    Notes
    -----
    Moments are sums, exact but for rounding; quantiles come from a histogram whose bins are 0.27 %
    wide, and are right to within half a bin. Two of them add up to that of both.

    Examples
    --------
    >>> gold = Population()
    >>> gold.add([2.1, 2.4, 2.2, 2.6, 2.3, 2.5], edge=1)
    >>> numbers = (gold + gold).statistics("nm")
    >>> numbers.count, numbers.edge, round(numbers.d50, 2)
    (12, 2, 2.35)
    """

    edge: int = 0
    unsized: int = 0
    sums: Floats = field(default_factory=lambda: np.zeros(5))
    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    least: float = math.inf
    greatest: float = 0.0

    def __add__(self, other: Population) -> Population:
        return Population(
            self.edge + other.edge,
            self.unsized + other.unsized,
            self.sums + other.sums,
            self.bins + other.bins,
            min(self.least, other.least),
            max(self.greatest, other.greatest),
        )

    @property
    def count(self) -> int:
        """Values that it holds."""
        return round(float(self.sums[0]))

    def add(self, sizes: ArrayLike, *, edge: int = 0) -> None:
        """Count whole particles, and how many were left out because they touch the edge.

        Parameters
        ----------
        sizes : (n,) floating
            In one unit. What is not among `known_sizes`, such as NaN, is counted in `unsized`.
        edge : int, default 0
            Particles that touch the edge.
        """
        self.edge += edge
        known = self._known(sizes, 1)
        if known.size:
            self.least = min(self.least, float(known.min()))
            self.greatest = max(self.greatest, float(known.max()))
            self._count(known, 1)

    def remove(self, sizes: ArrayLike) -> None:
        """Take back sizes that were added, such as that of a track before its latest frame."""
        self._count(self._known(sizes, -1), -1)

    def statistics(
        self,
        unit: str,
        *,
        calibration_percent: float = 0.0,
        relative_width: float = RELATIVE_WIDTH,
    ) -> Statistics:
        """Numbers of what was counted so far; parameters as in `describe`."""
        wanted = _Wanted(unit, self.edge, self.unsized, calibration_percent, relative_width)
        count = self.count
        if not count:
            return _nothing(wanted)
        mean, mean_square, log_mean, log_mean_square = (self.sums[1:] / self.sums[0]).tolist()
        unbiased = count / (count - 1) if count > 1 else math.nan
        moments = _Moments(
            count,
            float(count),
            mean,
            math.sqrt(unbiased * max(mean_square - mean**2, 0.0)),
            log_mean,
            math.sqrt(unbiased * max(log_mean_square - log_mean**2, 0.0)),
        )
        below = np.concatenate([[0], np.cumsum(self.bins)])
        filled = np.flatnonzero(self.bins)
        edges = np.union1d(filled, filled + 1)
        distance = _distance(_edge(edges), below[edges] / count, below[edges] / count, moments)

        def quantiles(shares: Floats) -> Floats:
            # The least has the share 1/2 N, as in `describe`.
            ranks = np.clip(shares * count + 0.5, 1, count)
            low = np.floor(ranks)
            first, second = self._of_rank(low, below), self._of_rank(np.ceil(ranks), below)
            return first + (ranks - low) * (second - first)

        return _statistics(moments, quantiles, distance, wanted)

    def needed(
        self, relative_width: float = RELATIVE_WIDTH, *, calibration_percent: float = 0.0
    ) -> float:
        """Particles that are still missing until the interval of the median is so narrow.

        `Statistics.needed` of these two; see `describe`.
        """
        return self.statistics(
            "", calibration_percent=calibration_percent, relative_width=relative_width
        ).needed

    def _known(self, sizes: ArrayLike, times: int) -> Floats:
        """Those of the sizes that count; the others are put down, or taken back, as unsized."""
        checked = known_sizes(sizes)
        unknown = np.isnan(checked)
        self.unsized += times * int(unknown.sum())
        return checked[~unknown]

    def _count(self, known: Floats, times: int) -> None:
        logs = np.log(known)
        powers = (np.ones_like(known), known, known**2, logs, logs**2)
        self.sums += times * np.array([power.sum() for power in powers])
        bins = np.floor((np.log2(known) - _FIRST_OCTAVE) * _PER_OCTAVE).astype(np.int64)
        np.add.at(self.bins, np.clip(bins, 0, _BINS - 1), times)

    def _of_rank(self, ranks: Floats, below: NDArray[np.int64]) -> Floats:
        """Sizes by their ranks from 1; those of a bin are spread over it evenly."""
        bins = np.searchsorted(below, ranks - 0.5, side="right") - 1
        sizes = _edge(bins + (ranks - 0.5 - below[bins]) / self.bins[bins])
        return np.clip(sizes, self.least, self.greatest)


def describe(
    sizes: ArrayLike,
    unit: str,
    *,
    edge: int = 0,
    weights: ArrayLike | None = None,
    calibration_percent: float = 0.0,
    relative_width: float = RELATIVE_WIDTH,
) -> Statistics:
    """Numbers of a population by the sizes of its particles.

    Parameters
    ----------
    sizes : (n,) floating
        Of whole particles, in one unit. What is not among `known_sizes`, such as NaN, is counted in
        ``unsized``.
    unit : str
        Of the sizes.
    edge : int, default 0
        Particles that were left out because they touch the edge.
    weights : (n,) floating, optional
        For example `edge_weights`; by default each counts alike.
    calibration_percent : float, default 0
        Standard uncertainty (one standard deviation) of the pixel size. It widens the interval of
        the median, however many particles there are.
    relative_width : float
        Width of the interval of the median, over the median, that would be enough.

    Raises
    ------
    ValueError
        If a weight is not above 0, or another value is out of its range.

    Notes
    -----
    With values in ascending order x_1 .. x_n the interval is that of Hettmansperger and Sheather
    [1]_: of the two intervals (x_d, x_n+1-d) whose confidence is next to 95 %, by the binomial
    distribution, it lies between. It assumes nothing of the distribution. With fewer than 6 there
    is none. Quantiles are those in which x_i has the share (i - 1/2) / n. Of weights w the
    effective number (sum w)² / sum w² takes the place of n [2]_.

    The number that is needed follows from the density f at the median, whose interval is
    1.96 / (f sqrt(n)) wide. The density is the slope of the quantiles around the median, over a
    width of n^(-1/5) by Bofinger [3]_.

    References
    ----------
    .. [1] T. P. Hettmansperger, S. J. Sheather, Confidence intervals based on interpolated order
       statistics, Statistics & Probability Letters 4, 75-79 (1986),
       doi:10.1016/0167-7152(86)90021-0
    .. [2] L. Kish, Survey Sampling, Wiley 1965: the effective number of a weighted sample.
    .. [3] E. Bofinger, Estimation of a density function using order statistics, Australian Journal
       of Statistics 17, 1-7 (1975), doi:10.1111/j.1467-842X.1975.tb01366.x
    """
    checked = known_sizes(sizes)
    is_known = ~np.isnan(checked)
    known = np.sort(checked[is_known])
    unsized = checked.size - known.size
    wanted = _Wanted(unit, edge, unsized, calibration_percent, relative_width)
    if not known.size:
        return _nothing(wanted)
    weight = np.ones(known.size)
    if weights is not None:
        some = np.asarray(weights, np.float64)[is_known]
        if not ((some > 0) & np.isfinite(some)).all():
            msg = "weights: expected a positive number for each size"
            raise ValueError(msg)
        weight = some[np.argsort(checked[is_known], kind="stable")]
    moments = _moments(known, weight)
    upto = np.cumsum(weight) / weight.sum()
    before = upto - weight / weight.sum()

    def quantiles(shares: Floats) -> Floats:
        return np.interp(shares, (before + upto) / 2, known)

    return _statistics(moments, quantiles, _distance(known, before, upto, moments), wanted)


def known_sizes(sizes: ArrayLike) -> Floats:
    """The sizes, NaN where one can be none: not from 1e-12 to 1e15 (nm or px).

    Sessions can hold such: results of earlier versions were not checked, and files get damaged.

    Examples
    --------
    >>> known_sizes([2.5, 0.0, -2.5, np.inf])
    array([2.5, nan, nan, nan])
    """
    given = np.asarray(sizes, np.float64)
    return np.where((given >= _LEAST) & (given <= _GREATEST), given, np.nan)


def edge_weights(
    width_px: ArrayLike, height_px: ArrayLike, *, shape: tuple[ArrayLike, ArrayLike]
) -> Floats:
    """Weights that make up for the large particles, which are cut by the edge more often.

    Parameters
    ----------
    width_px, height_px : (n,)
        Of the particles' bounding boxes.
    shape : (H, W)
        Of the micrograph in px, or of that of each particle.

    Returns
    -------
    (n,) float64
        W H / ((W - width) (H - height)), as Miles and Lantuéjoul derived [1]_ [2]_: one over the
        chance that such a particle lies in the micrograph as a whole.

    Raises
    ------
    ValueError
        If a box is as large as the micrograph.

    Notes
    -----
    A box of w px touches neither edge at W - w - 1 places of W; the particle that touches is not
    whole here, so the weights take w + 1.

    References
    ----------
    .. [1] R. E. Miles, On the elimination of edge effects in planar sampling, in: Stochastic
       Geometry, Wiley 1974, 228-247.
    .. [2] C. Lantuéjoul, On the estimation of mean values in individual analysis of particles,
       Microscopica Acta Suppl. 4, 266-273 (1980).
    """
    height, width = (np.asarray(side, np.float64) for side in shape)
    free = (width - np.asarray(width_px) - 1) / width, (height - np.asarray(height_px) - 1) / height
    if not ((free[0] > 0) & (free[1] > 0)).all():
        msg = "a whole particle is smaller than its micrograph; width, height and shape are in px"
        raise ValueError(msg)
    return np.asarray(1 / (free[0] * free[1]), np.float64)


class _Wanted(NamedTuple):
    unit: str
    edge: int
    unsized: int
    calibration_percent: float
    relative_width: float

    def check(self) -> None:
        if not 0 <= self.calibration_percent < 100:
            msg = f"calibration_percent = {self.calibration_percent}: expected 0 to 100"
            raise ValueError(msg)
        if not 0 < self.relative_width < math.inf:
            msg = f"relative_width = {self.relative_width}: expected a share, such as 0.05"
            raise ValueError(msg)


class _Moments(NamedTuple):
    """Of n sizes; `effective` is n where all weights are one."""

    number: int
    effective: float
    mean: float
    sd: float
    log_mean: float
    log_sd: float


def _edge(bins: NDArray[np.integer] | Floats) -> Floats:
    return np.asarray(np.exp2(bins / _PER_OCTAVE + _FIRST_OCTAVE), np.float64)


def _moments(known: Floats, weight: Floats) -> _Moments:
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    spreads = []
    for values in (known, np.log(known)):
        mean = float(np.average(values, weights=weight))
        variance = float(np.average((values - mean) ** 2, weights=weight))
        unbiased = effective / (effective - 1) if known.size > 1 else math.nan
        spreads += [mean, math.sqrt(variance * unbiased)]
    return _Moments(known.size, effective, *spreads)


def _distance(sizes: Floats, before: Floats, upto: Floats, moments: _Moments) -> float:
    """Kolmogorov's distance from the log-normal distribution of the same moments."""
    if not moments.log_sd > 0:
        return math.nan
    fitted = special.ndtr((np.log(sizes) - moments.log_mean) / moments.log_sd)
    return float(max(np.abs(fitted - before).max(), np.abs(upto - fitted).max()))


def _ranks(count: int) -> tuple[float, float]:
    """Ranks, from 1, between which the median lies with 95 %: by Hettmansperger and Sheather."""
    inner = int(special.bdtrik(0.025, count, 0.5)) + 1
    # Confidence of (x_d, x_n+1-d) for the inner one, above 95 %, and the next, not above.
    wide, narrow = 1 - 2 * special.bdtr(np.array([inner - 1.0, inner]), count, 0.5)
    part = (wide - 0.95) / (wide - narrow)
    part = (count - inner) * part / (inner + (count - 2 * inner) * part)
    return inner + part, count + 1 - inner - part


def _nothing(wanted: _Wanted) -> Statistics:
    wanted.check()
    return Statistics(
        edge=wanted.edge,
        unsized=wanted.unsized,
        unit=wanted.unit,
        calibration_percent=wanted.calibration_percent,
        relative_width=wanted.relative_width,
    )


def _statistics(
    moments: _Moments, quantiles: Callable[[Floats], Floats], distance: float, wanted: _Wanted
) -> Statistics:
    wanted.check()
    count = int(moments.effective + 1e-9)
    d10, d50, d90 = quantiles(np.array([0.1, 0.5, 0.9])).tolist()
    low, high, needed = math.nan, math.nan, math.nan
    if count >= _FEWEST:
        low, high = quantiles((np.array(_ranks(count)) - 0.5) / count).tolist()
        floor = _Z * wanted.calibration_percent / 100 * d50
        low, high = d50 - math.hypot(d50 - low, floor), d50 + math.hypot(high - d50, floor)
        needed = _needed(moments, quantiles, d50, wanted)
    return Statistics(
        count=moments.number,
        edge=wanted.edge,
        unsized=wanted.unsized,
        unit=wanted.unit,
        effective_count=moments.effective,
        mean=moments.mean,
        sd=moments.sd,
        sem=moments.sd / math.sqrt(moments.effective),
        cv=moments.sd / moments.mean,
        d10=d10,
        d50=d50,
        d90=d90,
        d50_low=low,
        d50_high=high,
        geometric_mean=math.exp(moments.log_mean),
        gsd=math.exp(moments.log_sd),
        lognormal_distance=distance,
        calibration_percent=wanted.calibration_percent,
        relative_width=wanted.relative_width,
        needed=needed,
    )


def _needed(
    moments: _Moments, quantiles: Callable[[Floats], Floats], median: float, wanted: _Wanted
) -> float:
    """Particles that are missing; those that come have the weights of those that are there."""
    floor = 2 * _Z * wanted.calibration_percent / 100
    if floor >= wanted.relative_width:
        return math.inf
    # Bofinger's width for the median, of a normal distribution: (4.5 phi(0)^4 / n)^(1/5).
    half = min((4.5 / (2 * math.pi) ** 2 / moments.effective) ** 0.2, 0.5 - 0.5 / moments.effective)
    low, high = quantiles(np.array([0.5 - half, 0.5 + half])).tolist()
    width = _Z * (high - low) / (2 * half) / median
    enough = width**2 / (wanted.relative_width**2 - floor**2)
    missing = (enough - moments.effective) * moments.number / moments.effective
    return float(max(0, math.ceil(missing)))
