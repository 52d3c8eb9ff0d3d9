"""Identities that last: which particle of this section is which of the sections before.

The linker is causal (it looks at one section at a time, in order) and its whole memory can be
written to bytes, so that a killed process resumes where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.special import gammainc

from nanostream.errors import SessionError
from nanostream.records import TrackerSettings

__all__ = ["TrackStep", "Tracker", "TrackerSettings"]

_STATE_VERSION = 1

# What is remembered of a particle. Position in px, corrected for drift (the first section's
# frame of reference), so that a particle that is missed for a while stays in its place.
_TRACK_DTYPE = np.dtype(
    [
        ("particle", "<i8"),
        ("y", "<f8"),
        ("x", "<f8"),
        ("diameter", "<f8"),
        ("touches_edge", "?"),
        ("last_frame", "<i8"),
        ("missed", "<i8"),  # tracked sections since it was last seen
    ]
)

# Evidence a drift needs: half of the particles that can agree, and eight; all of them where there
# are four to seven, as at high magnification. That four pairs agree within 6 px by chance, out of
# the 25 of five particles and 100 px of reach, happens about 3 times in 1000.
_DRIFT_SHARE, _DRIFT_VOTES, _LEAST_DRIFT_VOTES = 0.5, 8, 4
# A stage jump may lose or change some of few particles: half of them, four at least, are enough for
# a jump where chance seldom brings so many together and no other displacement has half the votes,
# as in rows and arrays. (Of a small drift the same evidence would make a drift out of wandering.)
_JUMP_CHANCE, _JUMP_RADII = 2.5e-4, 3.0
# Bin widths of the vote in px: the first that gives a consensus is the sharpest. 1 px is the
# accuracy of centroids, 8 px the largest step between sections at which half can still agree.
_VOTE_BINS_PX = (1.0, 2.0, 4.0, 8.0)
# Where rows of particles repeat, as atomic columns do, neighbouring peaks are nearly as high;
# of peaks within this share of the highest the smallest drift is taken.
_EQUAL_PEAKS = 0.8

# Steps of linked particles that are remembered to set the gate. Half a thousand settle the 99th
# percentile to some 10 %.
_STEPS_KEPT = 512
_GATE_PERCENTILE, _GATE_MARGIN = 99.0, 1.5
# What that comes to for Gaussian steps (1.5 times 3.03); holds while only a few steps are known.
_GATE_PER_SIGMA = 4.5
# Below a pixel the gate would cut at the noise of the segmentation's outline.
_LEAST_GATE_PX, _LEAST_SIGMA_PX = 1.5, 0.25
# Median of the length of a 2-D Gaussian step of standard deviation 1 per axis (Rayleigh).
_MEDIAN_STEP_PER_SIGMA = 1.1774
# Radii scatter by 15 % between sections; the size term ends at 3 standard deviations, because a
# particle that merged is still where it was.
_SIZE_SPREAD, _SIZE_TERM_LIMIT = 0.15, 9.0
_NULL_MARGIN = 2.0
# Two particles do not lie within one another. What lies within half a radius of what is missed is
# the same, its outline drawn otherwise (half a disc has its centroid at 0.42 radii), unless it is
# less than half as wide. Of what the edge cuts, the centroid moves with how much is seen: a radius.
_SAME_PLACE_RADII, _SAME_PLACE_AT_EDGE_RADII, _SAME_PLACE_RATIO = 0.5, 1.0, 0.5


@dataclass(frozen=True, eq=False)
class TrackStep:
    """Identities, drift and links that one section added to the tracks.

    Attributes
    ----------
    frame : int
        Number of the section.
    particle : (n,) int64
        Identity of each row of the table, in the table's order.
    drift_px : tuple of float
        (dy, dx) of the specimen since the last section with particles; (0, 0) where it could not
        be measured.
    drift_votes : int
        Particles that agreed on it; 0 where it could not be measured.
    cumulative_drift_px : tuple of float
        (dy, dx) since the first section. Drift-corrected positions are ``x - dx``, ``y - dy``.
    gate_px : float
        Longest step that was allowed for a particle seen in the section before; NaN where there
        was nothing to link.
    appeared : (k,) int64
        Identities first seen in this section.
    vanished : (k,) int64
        Identities given up in this section, after `TrackerSettings.memory_frames` misses.
    """

    frame: int
    particle: NDArray[np.int64]
    drift_px: tuple[float, float]
    drift_votes: int
    cumulative_drift_px: tuple[float, float]
    gate_px: float
    appeared: NDArray[np.int64]
    vanished: NDArray[np.int64]


class _State(msgspec.Struct, frozen=True):
    """The tracker's memory as it is written."""

    version: int
    settings: TrackerSettings
    frame: int | None
    next_particle: int
    cumulative_drift_px: tuple[float, float]
    tracks: bytes
    steps_px: bytes


class Tracker:
    """Online linker of particle tables.

    Parameters
    ----------
    settings : TrackerSettings, optional
        What can be set.

    Notes
    -----
    Each section goes through four steps.

    1. Drift: all displacements between remembered and present particles are put into a 2-D
       histogram; the common one stands out. It counts only if half of the particles present
       agree and at least 8 (of 4 to 7, all), or, for a stage jump, where neither chance nor
       another displacement explains it, half and 4; else the drift is taken as zero. Without this
       step every linker that was tried lost half of its identities at stage jumps.
    2. Gate: candidates lie within a distance of 1.5 times the 99th percentile of the steps linked
       so far (two diameters at the start), and never beyond half the median distance of nearest
       neighbours. It widens in
       proportion to the sections since the particle was last seen, whether it was missed or the
       section never came.
    3. Assignment: the cost of a pair is d²/σ² + min((ln(D/D')/0.15)², 9), that of no pair
       (gate/σ)² + 2, with the distance d, the spread of steps σ and the diameters D; the diameter
       of a particle at the edge is not compared. The least total cost is exact (Jonker-Volgenant
       [2]_), group by group of particles that compete; the idea is that of [1]_. Of what is left,
       a particle within half a radius of a missed one, and no less than half as wide, is that one;
       if the edge cuts the smaller of the two, within a radius and of any width. Where steps are
       short, the gate would end a track whenever the outline changes. Drift and gate learn nothing
       from it, and it is left where of eight or more fewer than half were found by the gate, and no
       drift was.
    4. Memory: what is not found stays in its place for some sections. Where fewer than half of
       the particles are found again (beam blanked, stage moved away) the missing are not
       counted as missed.

    Given the same memory and the same rows, in any order, the result is the same; nothing else
    enters. A section that comes late is put in its place by going back to the memory before it
    and repeating the sections after it.

    References
    ----------
    .. [1] K. Jaqaman et al., "Robust single-particle tracking in live-cell time-lapse sequences",
       Nature Methods 5 (2008) 695, doi:10.1038/nmeth.1237.
    .. [2] D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Trans.
       Aerosp. Electron. Syst. 52 (2016) 1679, doi:10.1109/TAES.2016.140952 (as in SciPy).

    Examples
    --------
    >>> import pandas as pd
    >>> def table(x):
    ...     return pd.DataFrame(
    ...         {"x": x, "y": [9.0, 9.0], "diameter_px": 5.0, "touches_edge": False}
    ...     )
    >>> tracker = Tracker()
    >>> tracker.step(0, table([10.0, 40.0])).particle
    array([1, 2])
    >>> tracker = Tracker.from_bytes(tracker.to_bytes())
    >>> tracker.step(1, table([41.0, 10.5])).particle
    array([2, 1])
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = TrackerSettings() if settings is None else settings
        self._frame: int | None = None
        self._next_particle = 1
        self._cumulative_drift_px = np.zeros(2)
        self._tracks = np.empty(0, _TRACK_DTYPE)
        self._steps_px = np.empty(0)

    @property
    def settings(self) -> TrackerSettings:
        """Settings that the tracks are made with."""
        return self._settings

    @property
    def frame(self) -> int | None:
        """Number of the last section; None before the first."""
        return self._frame

    def step(self, frame: int, table: pd.DataFrame) -> TrackStep:
        """Identities of the particles of the next section.

        Parameters
        ----------
        frame : int
            Its number. Sections may be missing, but each must come after the one before.
        table : DataFrame
            One row per particle, at least the columns x, y, diameter_px (px) and touches_edge of
            `nanostream.records.PARTICLE_DTYPE`. May be empty.

        Returns
        -------
        TrackStep
            Identities in the order of the rows, drift, gate, what appeared and vanished.

        Raises
        ------
        ValueError
            If the section does not come after the last one, or a position is not finite.
        """
        if self._frame is not None and frame <= self._frame:
            msg = (
                f"section {frame} after section {self._frame}: tracks go forward; "
                "restore the state before it and repeat the later sections"
            )
            raise ValueError(msg)
        position = table[["y", "x"]].to_numpy(np.float64)
        if not np.isfinite(position).all():
            msg = f"section {frame}: a particle has no finite position"
            raise ValueError(msg)
        diameter = table["diameter_px"].to_numpy(np.float64)
        touches_edge = table["touches_edge"].to_numpy(np.bool_)
        # In raster order, so that nothing depends on the order of the rows.
        order = np.lexsort((diameter, position[:, 1], position[:, 0]))
        found = np.zeros(order.size, _TRACK_DTYPE)
        found["y"], found["x"] = (position[order] - self._cumulative_drift_px).T
        found["diameter"] = diameter[order]
        found["touches_edge"] = touches_edge[order]
        found["last_frame"] = frame

        self._frame = int(frame)
        if found.size == 0:
            # Nothing is learnt from a blank section, and no track is counted as missed.
            none = np.empty(0, np.int64)
            return self._report(none, np.zeros(2), 0, np.nan, none, none)

        drift_px, votes, gate_px, steady = np.zeros(2), 0, np.nan, True
        links = np.empty((0, 2), np.int64)
        if self._tracks.size:
            drift_px, votes = _common_displacement(self._tracks, found, self._settings.max_drift_px)
            _shift(found, drift_px)
            gate_px, gate_limit_px, sigma_px = self._gate(found)
            links = _assign(self._tracks, found, gate_px, gate_limit_px, sigma_px)
            if votes:
                # The median over all links is sharper than the peak of the vote.
                rest = np.median(_offsets(self._tracks, found, links), axis=0)
                _shift(found, rest)
                drift_px = drift_px + rest
            self._learn_steps(found, links)
            present = self._tracks["missed"] == 0
            found_again = np.count_nonzero(present[links[:, 0]])
            steady = bool(2 * found_again >= np.count_nonzero(present))
            # After a jump that was not found, everything lies where something else was.
            if steady or votes or np.count_nonzero(present) < _DRIFT_VOTES:
                same = _in_place(self._tracks, found, links, self._settings.max_step_px)
                links = np.concatenate([links, same])
        self._cumulative_drift_px = self._cumulative_drift_px + drift_px
        appeared, vanished = self._remember(found, links, steady=steady)
        particle = np.empty(found.size, np.int64)
        particle[order] = found["particle"]
        return self._report(particle, drift_px, votes, gate_px, appeared, vanished)

    def to_bytes(self) -> bytes:
        """All that the tracker knows, settings included, as bytes (MessagePack, no pickle)."""
        dy, dx = (float(d) for d in self._cumulative_drift_px)
        return msgspec.msgpack.encode(
            _State(
                version=_STATE_VERSION,
                settings=self._settings,
                frame=self._frame,
                next_particle=self._next_particle,
                cumulative_drift_px=(dy, dx),
                tracks=self._tracks.tobytes(),
                steps_px=self._steps_px.astype("<f8").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Tracker:
        """Tracker as `to_bytes` wrote it.

        Raises
        ------
        SessionError
            If the bytes are not a tracker's state, or of another version.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
            tracks = np.frombuffer(state.tracks, _TRACK_DTYPE).copy()
            steps_px = np.frombuffer(state.steps_px, "<f8").astype(np.float64)
        except (msgspec.DecodeError, ValueError) as error:
            msg = f"the saved state of a tracker cannot be read ({error}); start the tracks anew"
            raise SessionError(msg) from error
        if state.version != _STATE_VERSION:
            msg = (
                f"the saved state of a tracker has version {state.version}, this nanostream reads "
                f"{_STATE_VERSION}; start the tracks anew"
            )
            raise SessionError(msg)
        tracker = cls(state.settings)
        tracker._frame = state.frame
        tracker._next_particle = state.next_particle
        tracker._cumulative_drift_px = np.array(state.cumulative_drift_px)
        tracker._tracks = tracks
        tracker._steps_px = steps_px
        return tracker

    def _gate(self, found: NDArray[np.void]) -> tuple[float, float, float]:
        """Gate and its limit for longer absences, and the spread of steps, in px per section."""
        limit_px = np.inf if self._settings.max_step_px is None else self._settings.max_step_px
        neighbour_px = _neighbour_distance(found)
        # Beyond half way to the neighbour the nearest particle is more often the wrong one.
        widest_px = max(_LEAST_GATE_PX, neighbour_px / 2)
        if self._steps_px.size:
            sigma_px = float(np.median(self._steps_px)) / _MEDIAN_STEP_PER_SIGMA
            longest_px = float(np.percentile(self._steps_px, _GATE_PERCENTILE))
            gate_px = max(_GATE_MARGIN * longest_px, _GATE_PER_SIGMA * sigma_px)
        else:  # nothing is known yet
            gate_px = 2 * float(np.median(found["diameter"]))
            sigma_px = min(gate_px, widest_px) / _GATE_PER_SIGMA
        gate_px = min(max(gate_px, _LEAST_GATE_PX), widest_px, limit_px)
        return gate_px, widest_px, max(sigma_px, _LEAST_SIGMA_PX)

    def _learn_steps(self, found: NDArray[np.void], links: NDArray[np.int64]) -> None:
        """Add the lengths of this section's steps to those the gate is taken from."""
        if not len(links):
            return
        offset = _offsets(self._tracks, found, links)
        elapsed = found["last_frame"][links[:, 1]] - self._tracks["last_frame"][links[:, 0]]
        steps_px = np.sort(np.hypot(offset[:, 0], offset[:, 1]) / elapsed)
        if steps_px.size > _STEPS_KEPT:  # as many order statistics stand for all
            steps_px = steps_px[np.linspace(0, steps_px.size - 1, _STEPS_KEPT).astype(np.int64)]
        self._steps_px = np.concatenate([self._steps_px, steps_px])[-_STEPS_KEPT:]

    def _remember(
        self, found: NDArray[np.void], links: NDArray[np.int64], *, steady: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give identities to `found`, in place, and update the tracks; what appeared, vanished."""
        tracks = self._tracks
        known, seen = links[:, 0], links[:, 1]
        found["particle"][seen] = tracks["particle"][known]
        is_new = np.ones(found.size, np.bool_)
        is_new[seen] = False
        appeared = self._next_particle + np.arange(is_new.sum(), dtype=np.int64)
        found["particle"][is_new] = appeared
        self._next_particle += appeared.size

        is_lost = np.ones(tracks.size, np.bool_)
        is_lost[known] = False
        lost = tracks[is_lost]
        if steady:
            lost["missed"] += 1
        is_given_up = lost["missed"] > self._settings.memory_frames
        self._tracks = np.concatenate([lost[~is_given_up], found])
        return appeared, np.sort(lost["particle"][is_given_up])

    def _report(
        self,
        particle: NDArray[np.int64],
        drift_px: NDArray[np.float64],
        votes: int,
        gate_px: float,
        appeared: NDArray[np.int64],
        vanished: NDArray[np.int64],
    ) -> TrackStep:
        """State and the section's results as what leaves the tracker."""
        total = self._cumulative_drift_px
        return TrackStep(
            frame=-1 if self._frame is None else self._frame,
            particle=particle,
            drift_px=(float(drift_px[0]), float(drift_px[1])),
            drift_votes=votes,
            cumulative_drift_px=(float(total[0]), float(total[1])),
            gate_px=float(gate_px),
            appeared=appeared,
            vanished=vanished,
        )


def _positions(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """(n, 2) of y, x in px."""
    return np.column_stack([particles["y"], particles["x"]])


def _shift(particles: NDArray[np.void], drift_px: NDArray[np.float64]) -> None:
    """Take a drift off the positions, in place."""
    particles["y"] -= drift_px[0]
    particles["x"] -= drift_px[1]


def _offsets(
    tracks: NDArray[np.void], found: NDArray[np.void], links: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n, 2) step of each link, in px; one row of zeros if there is none."""
    if not len(links):
        return np.zeros((1, 2))
    return _positions(found[links[:, 1]]) - _positions(tracks[links[:, 0]])


def _neighbour_distance(particles: NDArray[np.void]) -> float:
    """Median distance of a particle to its nearest neighbour in px; infinite if it has none."""
    if particles.size < 2:
        return np.inf
    position = _positions(particles)
    distance = np.asarray(KDTree(position).query(position, k=2)[0])
    return float(np.median(distance[:, 1]))


def _pairs(
    tracks: NDArray[np.void], found: NDArray[np.void], reach_px: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Track, particle and distance of all pairs within reach, in a fixed order."""
    near = KDTree(_positions(tracks)).sparse_distance_matrix(
        KDTree(_positions(found)), reach_px, output_type="ndarray"
    )
    order = np.lexsort((near["j"], near["i"]))
    return (
        near["i"][order].astype(np.int64),
        near["j"][order].astype(np.int64),
        near["v"][order].astype(np.float64),
    )


def _common_displacement(
    tracks: NDArray[np.void], found: NDArray[np.void], reach_px: float
) -> tuple[NDArray[np.float64], int]:
    """(dy, dx) in px that most particles moved by, and how many; zero and 0 without consensus."""
    nothing = np.zeros(2), 0
    can_agree = min(int(np.count_nonzero(tracks["missed"] == 0)), int(found.size))
    if can_agree < _LEAST_DRIFT_VOTES:
        return nothing
    half = max(math.ceil(_DRIFT_SHARE * can_agree), _LEAST_DRIFT_VOTES)
    needed = max(half, min(can_agree, _DRIFT_VOTES))
    jump = nothing
    of_track, of_found, _ = _pairs(tracks, found, reach_px)
    displacement = _positions(found[of_found]) - _positions(tracks[of_track])
    widest_bin_px = max(_VOTE_BINS_PX[0], _neighbour_distance(found) / 6)
    for bin_px in _VOTE_BINS_PX:
        # A window (three bins) wider than half way to the neighbour collects chance pairs.
        if bin_px > widest_bin_px:
            break
        peak = _highest_peak(displacement, bin_px, reach_px)
        radius_px = 1.5 * bin_px
        for _ in range(5):  # mean shift from the bin to the middle of the cluster
            near = np.hypot(*(displacement - peak).T) <= radius_px
            if not near.any():
                break
            peak = displacement[near].mean(axis=0)
        near = np.hypot(*(displacement - peak).T) <= radius_px
        votes = min(np.unique(of_track[near]).size, np.unique(of_found[near]).size)
        if votes >= needed:
            return np.median(displacement[near], axis=0), votes
        if not jump[1] and votes >= half and _is_jump(displacement, peak, bin_px, votes):
            jump = np.median(displacement[near], axis=0), votes
    return jump


def _is_jump(
    displacement: NDArray[np.float64], peak: NDArray[np.float64], bin_px: float, votes: int
) -> bool:
    """Whether a few votes cannot be anything but a stage jump."""
    radius_px = 1.5 * bin_px
    others = displacement[np.hypot(*(displacement - peak).T) > _JUMP_RADII * radius_px]
    if np.hypot(*peak) <= _JUMP_RADII * radius_px or not others.size:
        return False
    second = _highest_peak(others, bin_px, np.abs(others).max())
    if 2 * np.count_nonzero(np.hypot(*(others - second).T) <= radius_px) > votes:
        return False
    # Expected number of windows with so many pairs of unrelated particles (Poisson). Their
    # displacements fill a disc of the radius that has their mean square; windows that differ by a
    # pair count as different, votes squared of them to a disc.
    share = radius_px**2 / (2.0 * np.mean(np.sum(displacement**2, axis=1)))
    chance = votes**2 / share * gammainc(votes, len(displacement) * share)
    return bool(chance < _JUMP_CHANCE)


def _highest_peak(
    displacement: NDArray[np.float64], bin_px: float, reach_px: float
) -> NDArray[np.float64]:
    """Middle of the highest bin of the 2-D histogram; of nearly equal ones the smallest drift."""
    half = int(np.ceil(reach_px / bin_px)) + 1  # an empty bin all round
    side = 2 * half + 1
    cell = np.rint(displacement / bin_px).astype(np.int64) + half
    counts = np.bincount(cell[:, 0] * side + cell[:, 1], minlength=side * side)
    counts = counts.reshape(side, side)
    # Sum over three by three bins: a cluster may lie across a border.
    rows = counts[:-2] + counts[1:-1] + counts[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    row, column = np.nonzero(sums >= _EQUAL_PEAKS * sums.max())
    peaks = (np.column_stack([row, column]) + 1 - half) * bin_px
    nearest: NDArray[np.float64] = peaks[np.argmin(np.hypot(peaks[:, 0], peaks[:, 1]))]
    return nearest


def _assign(
    tracks: NDArray[np.void],
    found: NDArray[np.void],
    gate_px: float,
    gate_limit_px: float,
    sigma_px: float,
) -> NDArray[np.int64]:
    """(n, 2) links, indices into `tracks` and `found`, of least total cost."""
    elapsed = found["last_frame"][0] - tracks["last_frame"]
    reach_px = np.minimum(gate_px * elapsed, max(gate_limit_px, gate_px))
    if np.isinf(reach_px).any():  # a lone particle: no neighbour sets a limit
        reach_px = np.minimum(reach_px, 1e6)
    of_track, of_found, distance_px = _pairs(tracks, found, float(reach_px.max()))
    inside = distance_px <= reach_px[of_track]
    of_track, of_found, distance_px = of_track[inside], of_found[inside], distance_px[inside]

    spread_px = sigma_px * elapsed[of_track]
    ratio = np.log(found["diameter"][of_found] / tracks["diameter"][of_track])
    size_term = np.minimum((ratio / _SIZE_SPREAD) ** 2, _SIZE_TERM_LIMIT)
    size_term[found["touches_edge"][of_found] | tracks["touches_edge"][of_track]] = 0
    cost = (distance_px / spread_px) ** 2 + size_term
    # Least total cost with "no pair" allowed is greatest total gain over "no pair".
    gain = (reach_px[of_track] / spread_px) ** 2 + _NULL_MARGIN - cost
    worth = gain > 0
    of_track, of_found, gain = of_track[worth], of_found[worth], gain[worth]
    return _chosen(of_track, of_found, gain, tracks.size, found.size)


def _in_place(
    tracks: NDArray[np.void],
    found: NDArray[np.void],
    links: NDArray[np.int64],
    max_step_px: float | None,
) -> NDArray[np.int64]:
    """(n, 2) more links: what is missed, and what takes up its place in another outline."""
    lost = np.setdiff1d(np.arange(tracks.size), links[:, 0])
    new = np.setdiff1d(np.arange(found.size), links[:, 1])
    if not (lost.size and new.size):
        return np.empty((0, 2), np.int64)
    # One huge outline must not make pairs of everything; of a few particles all are compared.
    diameters = np.concatenate([tracks["diameter"][lost], found["diameter"][new]])
    widest_px = np.quantile(diameters, 0.95, method="higher")
    of_track, of_found, distance_px = _pairs(
        tracks[lost], found[new], float(_SAME_PLACE_AT_EDGE_RADII * widest_px / 2)
    )
    of_track, of_found = lost[of_track], new[of_found]
    before, after = tracks["diameter"][of_track], found["diameter"][of_found]
    # The smaller one may be the part of the other that is seen.
    at_edge = np.where(
        before < after, tracks["touches_edge"][of_track], found["touches_edge"][of_found]
    )
    radii = np.where(at_edge, _SAME_PLACE_AT_EDGE_RADII, _SAME_PLACE_RADII)
    reach_px = radii * np.maximum(before, after) / 2
    if max_step_px is not None:
        elapsed = found["last_frame"][of_found] - tracks["last_frame"][of_track]
        reach_px = np.minimum(reach_px, max_step_px * elapsed)
    alike = np.minimum(before, after) >= _SAME_PLACE_RATIO * np.maximum(before, after)
    inside = (alike | at_edge) & (distance_px < reach_px)
    of_track, of_found = of_track[inside], of_found[inside]
    gain = 1.0 - distance_px[inside] / reach_px[inside]
    return _chosen(of_track, of_found, gain, tracks.size, found.size)


def _chosen(
    of_track: NDArray[np.int64],
    of_found: NDArray[np.int64],
    gain: NDArray[np.float64],
    track_count: int,
    found_count: int,
) -> NDArray[np.int64]:
    """(n, 2) pairs of greatest total gain, each track and particle once."""
    nodes = track_count + found_count
    edges = coo_array((gain, (of_track, track_count + of_found)), (nodes, nodes))
    # Exact group by group of pairs that compete.
    _, group = connected_components(edges, directed=False)
    of_pair = group[of_track]
    order = np.argsort(of_pair, kind="stable")
    _, start, size = np.unique(of_pair[order], return_index=True, return_counts=True)
    chosen = [order[start[size == 1]]]  # mostly there is no competition
    for pairs in np.split(order, start[1:]):
        if pairs.size < 2:
            continue
        row_of, row = np.unique(of_track[pairs], return_inverse=True)
        column_of, column = np.unique(of_found[pairs], return_inverse=True)
        table = np.zeros((row_of.size, column_of.size))
        table[row, column] = gain[pairs]
        index = np.full(table.shape, -1)
        index[row, column] = pairs
        taken = index[linear_sum_assignment(table, maximize=True)]
        chosen.append(taken[taken >= 0])
    pairs = np.concatenate(chosen)
    return np.column_stack([of_track[pairs], of_found[pairs]])
