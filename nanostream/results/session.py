"""A session read back as tables and masks, also while it is being written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream.errors import SessionError, reason_of
from nanostream.particles.indexing import TOLERANCE
from nanostream.records import (
    PARTICLE_DTYPE,
    RELATIVE_WIDTH,
    UNCLASSIFIED,
    Frame,
    Measure,
    SectionId,
    Statistics,
)
from nanostream.results.columns import COLUMNS
from nanostream.results.folders import DATABASE, SESSION_VERSION, connect
from nanostream.results.mask_files import read_mask
from nanostream.results.populations import BOX, By, Counted, count_once, describe_groups, timed
from nanostream.results.schema import ALARM_COLUMNS

if TYPE_CHECKING:
    from nanostream.particles.lattice import Lattice
    from nanostream.results.napari_layers import LayerData

__all__ = ["Session"]

#: The file and its generation: a section's name without its number.
_FILE = "s.path || CASE s.generation WHEN 1 THEN '' ELSE '~' || s.generation END"

_TYPES = {"REAL": np.float64, "INTEGER": np.int64}

#: In place of a particle's measure that a session from before does not have.
_ABSENT = {"i": "0", "b": "0", "f": "CAST(NULL AS REAL)", "U": f"'{UNCLASSIFIED}'"}


class Session:
    """Tables and masks of a session folder; each access reads what is committed by then.

    Parameters
    ----------
    folder : Path
        Made by ``nanostream run``, ``demo`` or ``segment``.

    Raises
    ------
    SessionError
        If the folder is no session, or of another version.

    Examples
    --------
    ::

        session = ns.open_session("SESSION")
        sizes = session.particles.query("not touches_edge").diameter_nm
        mask = session.labels("gold.mrc#3")
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / DATABASE).is_file():
            there = "there is no such folder"
            if folder.exists():
                there = f"it has no {DATABASE}" if folder.is_dir() else "it is a file"
            inside = [path.parent for path in sorted(folder.glob(f"*/{DATABASE}"))]
            what = f"is {inside[0]} meant?" if inside else "give the --out of run or segment"
            msg = f"{folder} is no nanostream session: {there}; {what}"
            raise SessionError(msg)
        try:
            with closing(self._connect()) as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                declared = db.execute(
                    "SELECT c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c"
                    " WHERE t.type = 'table'"
                ).fetchall()
        except sqlite3.Error as error:
            msg = f"{folder / DATABASE} cannot be read: {reason_of(error)}; restore a copy"
            raise SessionError(msg) from error
        if version != SESSION_VERSION:
            msg = (
                f"session {folder} is of version {version}, this nanostream reads {SESSION_VERSION}"
            )
            raise SessionError(msg)
        # An empty column, or one of NULLs, has the same type as a full one.
        self._columns = {name for name, _ in declared}
        self._types = {name: _TYPES[kind] for name, kind in declared if kind in _TYPES}

    def __repr__(self) -> str:
        stored, quarantined = len(self.section_ids()), len(self.quarantine)
        return f"Session({str(self.folder)!r}: {stored} stored, {quarantined} quarantined)"

    @property
    def sections(self) -> pd.DataFrame:
        """One row per stored section: numbers, timings (``*_s``), metadata, provenance.

        ``domain_score`` says how usual the micrograph is among the model's training data (1 to 0,
        NaN if the model does not know them), ``warning`` where its mask should be checked.
        """
        table = self._read("SELECT * FROM sections ORDER BY path, generation, z")
        for column in COLUMNS:
            if column.name not in table:  # a session from before
                value = column.to_sql(column.default)
                table[column.name] = pd.Series(value, table.index, type(value))
        parts = [table]
        for column in COLUMNS:
            if column.is_json:
                parsed = [msgspec.json.decode(text) for text in table.pop(column.name)]
                prefix = "version_" if column.name == "versions" else ""
                parts.append(pd.DataFrame(parsed, index=table.index).add_prefix(prefix))
        return pd.concat(parts, axis="columns")

    def section_ids(self) -> list[str]:
        """Names of the stored sections, without their numbers."""
        return list(
            self._read("SELECT section FROM sections ORDER BY path, generation, z")["section"]
        )

    @property
    def particles(self) -> pd.DataFrame:
        """One row per particle; ``frame, particle, x, y`` first.

        In a stream ``particle`` is the identity that lasts, and -1 as long as an earlier section
        has no end yet; elsewhere it is the label in the mask. Frames and identities begin anew in
        each file: select or group by ``file`` first. ``time_s`` is since the first section of the
        file, by acquisition where every section of it has a time of that, else by writing or
        storing. Sessions from before a column was made have NaN, False or "unclassified" in it.
        """
        names = [name for name in PARTICLE_DTYPE.names or () if name not in ("frame", "particle")]
        columns = ", ".join(
            f"p.{name}"
            if name in self._columns
            else f"{_ABSENT[PARTICLE_DTYPE[name].kind]} AS {name}"
            for name in names
        )
        table = self._read(
            "SELECT p.frame, coalesce(t.particle, CASE WHEN s.stream IS NULL THEN p.particle"
            " ELSE -1 END) AS particle,"
            f" {columns}, t.x_corr, t.y_corr, {_FILE} AS file, p.section"
            " FROM particles p JOIN sections s ON s.section = p.section"
            " LEFT JOIN tracks t ON t.section = p.section AND t.label = p.label"
            " ORDER BY s.path, s.generation, s.z, p.label"
        )
        table["time_s"] = self._time_s(table["section"])
        return table.astype(
            {name: PARTICLE_DTYPE[name] for name in names if PARTICLE_DTYPE[name].kind != "U"}
        )

    @property
    def tracks(self) -> pd.DataFrame:
        """Particles of streams that have an identity: ``frame, particle, x, y, x_corr, y_corr``.

        Positions in px; ``x_corr, y_corr`` have the drift of the specimen taken off. ``time_s`` is
        as in `particles`.
        """
        table = self._read(
            "SELECT t.frame, t.particle, p.x, p.y, t.x_corr, t.y_corr, p.diameter_px,"
            " p.diameter_nm, t.stream AS file, t.section, t.label FROM tracks t"
            " JOIN particles p ON p.section = t.section AND p.label = t.label"
            " ORDER BY t.stream, t.frame, t.particle"
        )
        table["time_s"] = self._time_s(table["section"])
        return table

    @property
    def drift(self) -> pd.DataFrame:
        """Drift of the specimen in each section of a stream, and its sum, in px."""
        return self._read("SELECT * FROM drift ORDER BY stream, frame")

    @property
    def events(self) -> pd.DataFrame:
        """Events in order of time (POSIX seconds)."""
        return self._read("SELECT * FROM events ORDER BY rowid")

    @property
    def alarms(self) -> pd.DataFrame:
        """Alarms in order of time (POSIX seconds); ``cleared_s`` is NaN while one lasts."""
        if "severity" not in self._columns:  # a session from before there were any
            return pd.DataFrame(columns=[*ALARM_COLUMNS])
        table = self._read(f"SELECT {', '.join(ALARM_COLUMNS)} FROM alarms ORDER BY since_s")
        return table.astype({"since_s": np.float64, "cleared_s": np.float64})

    @property
    def quarantine(self) -> pd.DataFrame:
        """Sections that were given up, with the reason."""
        return self._read("SELECT * FROM quarantine ORDER BY section")

    def populations(
        self,
        by: By = "session",
        *,
        measure: Measure = "diameter",
        window_s: float | None = None,
        weighted: bool = False,
        calibration_percent: float = 0.0,
        relative_width: float = RELATIVE_WIDTH,
    ) -> pd.DataFrame:
        """Size distributions: count, mean, quantiles and the interval of the median of each group.

        A particle of a movie counts once, with the median of its sizes over the frames in which
        it does not touch the edge; particles that touch it have no size and are counted in
        ``edge``. Definitions are in docs/reference/populations.md.

        Parameters
        ----------
        by : {"session", "stream", "section"}
            One row for the session, per file (a movie, or any other), or per section.
        measure : {"diameter", "feret_min", "feret_max"}
            The size that is meant.
        window_s : float, optional
            One row more often: for each so many seconds after the first section of the session or
            file. A particle counts once in each. Times are those of the acquisition if every
            section has one, else those at which the files were written, else stored.
        weighted : bool
            Weights of Miles and Lantuéjoul for what the edge takes from the large particles.
        calibration_percent : float
            Standard uncertainty of the pixel size; the interval is never narrower.
        relative_width : float
            Width of the interval of the median, over the median, for ``needed``.

        Returns
        -------
        DataFrame
            ``file, section, frame`` as far as they are asked for, ``start_s, end_s`` of a window,
            then the fields of `nanostream.records.Statistics`. Sizes are in nm as soon as one of
            the group is; those without a pixel size are left out then.

        Raises
        ------
        SessionError
            If weights are asked for and particles are from before bounding boxes were stored.
        ValueError
            If an argument is out of its range.
        """
        counted = self.counted(by, measure=measure, window_s=window_s, weighted=weighted)
        return describe_groups(
            counted, calibration_percent=calibration_percent, relative_width=relative_width
        )

    def counted(
        self,
        by: By = "session",
        *,
        measure: Measure = "diameter",
        window_s: float | None = None,
        weighted: bool = False,
    ) -> Counted:
        """The particles that `populations` counts, for a histogram; parameters and errors as there.

        Examples
        --------
        ::

            groups, particles = session.counted()
            plt.hist(particles.nm[~particles.edge].dropna())
        """
        if measure not in get_args(Measure):
            msg = f"measure = {measure!r}: expected one of {', '.join(get_args(Measure))}"
            raise ValueError(msg)
        size = [f"{measure}_{unit}" for unit in ("px", "nm")]
        columns = ", ".join(
            f"p.{name}" if name in self._columns else f"{_ABSENT[PARTICLE_DTYPE[name].kind]} {name}"
            for name in ("section", "touches_edge", "shape_class", *size, *BOX)
        )
        particles = self._read(
            f"SELECT {columns}, CAST(t.particle AS REAL) AS track FROM particles p"
            " LEFT JOIN tracks t ON t.section = p.section AND t.label = p.label"
        ).rename(columns=dict(zip(size, ("px", "nm"), strict=True)))
        particles = particles.astype({"px": np.float64, "nm": np.float64, "track": np.float64})
        sections = timed(self.sections)
        return count_once(sections, particles, by=by, window_s=window_s, weighted=weighted)

    @property
    def population(self) -> Statistics:
        """Numbers of all particles of the session by their diameter, as `populations` has them."""
        (row,) = self.populations().to_dict("records")
        return Statistics(**{str(name): value for name, value in row.items()})

    def _time_s(self, sections: pd.Series[str]) -> NDArray[np.float64]:
        """Seconds since the first section of its file, for the section of each row."""
        placed = timed(self.sections, by_file=True)
        since_s = placed["time_s"] - placed.groupby("file")["time_s"].transform("min")
        of_section = pd.Series(since_s.to_numpy(), placed["section"])
        return np.asarray(of_section.reindex(sections), np.float64)

    def labels(self, section: str | SectionId) -> NDArray[np.int32]:
        """(H, W) mask of a section: 0 is background, each particle has its own number."""
        return self._mask(section, "labels").astype(np.int32)

    def probability(self, section: str | SectionId) -> NDArray[np.float32]:
        """(H, W) probability of the particle class, 0 to 1 in steps of 1/255."""
        return self._mask(section, "probability").astype(np.float32) / np.float32(255)

    def napari_layers(self, file: str | None = None) -> list[LayerData]:
        """The masks of each file and the tracks of each movie, as layers for napari.

        As `nanostream.results.napari_layers.napari_layers`.

        Examples
        --------
        ::

            viewer = napari.Viewer()
            for layer in session.napari_layers("gold.mrc"):
                viewer.add_layer(napari.layers.Layer.create(*layer))
        """
        from nanostream.results.napari_layers import napari_layers

        return napari_layers(self.sections, self.tracks, self.labels, file=file)

    def lattice(
        self,
        section: str,
        *,
        micrographs: Path | str | None = None,
        frame: Frame | None = None,
        phases: Sequence[str] = (),
        tolerance: float = TOLERANCE,
    ) -> Lattice:
        """Lattice fringes of a section's particles, and the phases they fit.

        Parameters
        ----------
        section : str
            Its name.
        micrographs : path, optional
            Folder of the micrographs, if they are not where they were.
        frame : Frame, optional
            As `micrograph` has given it; else it is read.
        phases : sequence of str
            Names, or files as `nanostream.particles.phase_files.read_phases` takes; all by default.
        tolerance : float
            Relative difference of spacings up to which a phase fits.

        Returns
        -------
        Lattice
            ``peaks`` and ``particles``, see `nanostream.particles.lattice.measure_lattice`.

        Raises
        ------
        SessionError
            If there is no such section, or its micrograph has changed.
        ConfigError
            If the folder or a phase is not known.
        MicrographError, OSError
            If the micrograph cannot be read.
        """
        from nanostream.particles.lattice import measure_lattice
        from nanostream.particles.phase_files import named_phases

        frame = frame or self.micrograph(section, micrographs=micrographs)
        return measure_lattice(
            self.labels(section),
            frame.pixels,
            pixel_size_nm=frame.pixel_size_nm,
            phases=named_phases(phases),
            tolerance=tolerance,
        )

    def micrograph(self, section: str, *, micrographs: Path | str | None = None) -> Frame:
        """The micrograph that a section's mask was made from, with what was known of it then.

        Parameters
        ----------
        section : str
            Its name.
        micrographs : path, optional
            Folder of the micrographs, if they are not where they were.

        Raises
        ------
        SessionError
            If there is no such section, or its file has changed.
        ConfigError
            If there is no such folder.
        MicrographError, OSError
            If the file cannot be read.
        """
        from nanostream.results.micrographs import micrographs_folder, read_micrograph
        from nanostream.results.origins import origin_of

        origin = origin_of(self.folder, section)
        folder = micrographs_folder(self.folder, Path(micrographs) if micrographs else None)
        return read_micrograph(folder, origin)

    def _mask(
        self, section: str | SectionId, name: Literal["labels", "probability"]
    ) -> NDArray[np.generic]:
        try:
            known = section if isinstance(section, SectionId) else SectionId.parse(str(section))
            return read_mask(self.folder, known, name)
        except (OSError, ValueError, KeyError) as error:
            msg = (
                f"no mask of section {section} in {self.folder}: a section is named as in "
                '.sections, for example "gold.mrc#3"'
            )
            raise SessionError(msg) from error

    def _read(self, query: str, *values: str) -> pd.DataFrame:
        with closing(self._connect()) as db:
            table = pd.read_sql_query(query, db, params=values)
        return table.astype({c: self._types[c] for c in table.columns if c in self._types})

    def _connect(self) -> sqlite3.Connection:
        return connect(self.folder)
