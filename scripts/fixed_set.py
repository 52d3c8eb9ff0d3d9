"""Masks and tables of a fixed set of inputs, to compare two versions of nanostream bit for bit.

::

    python scripts/fixed_set.py make before     (with the old version installed; about 4 minutes)
    python scripts/fixed_set.py make after      (with the new one)
    python scripts/fixed_set.py compare before after

The set has the demo micrographs by both shipped models, every kind of session that
``nanostream simulate`` writes, with sidecars, segmented offline and watched live, the movie of
``nanostream demo`` watched live, and real micrographs from ``../shared/data`` (left out with a
message where they are absent). The script uses the command line, the public
``nanostream.open_session`` and the HDF5 masks, so that it runs on versions whose modules differ.

A result folder has, for each input, ``INPUT.npz`` with labels and probability of every section as
they are stored, and ``INPUT.TABLE.csv`` for each of the tables ``sections`` (with the attributes of
the masks as ``mask.*``), ``particles``, ``drift``, ``quarantine`` and ``feedback`` (lines of the
result files). ``manifest.json`` has versions, seeds and what was left out. Left out by name is what
depends on the clock, the machine or the folder: see `LEFT_OUT`.

``compare`` prints a row for each array and column that differs and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import nanostream as ns

NANOSTREAM = [sys.executable, "-m", "nanostream_services"]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Kinds of ``nanostream simulate``; all write an mdoc or idoc.
KINDS = (
    *("stack", "single", "tilt", "dosesym", "montage", "gatan", "tiff", "idoc", "overwrite"),
    "reuse",
)
#: Two montages of 2 x 2 pieces, one frame stack of 8, three files of one name (kind reuse).
SECTIONS = 8
#: Of the simulator's faults; its pixels have a seed of their own that is always the same.
SEED = 1
IMAGES = (".mrc", ".st", ".mrcs", ".tif")
#: Movies, offline and live.
STREAMS = ("stack/*.mrc", "gatan/*.mrcs", "reuse/*.mrc")
#: The package's micrographs, and their pixel sizes (nm).
DEMO_MICROGRAPHS = {"gold": 0.026, "cdse": 0.024, "gold-and-cdse": 0.028}
#: Real micrographs: files below ``../shared/data``.
REAL = {"sintering": "sintering/image_*.png", "dm4": "dm4/*.dm4", "serialem": "serialem/mrc/*"}
IDLE_S = 5.0

#: Columns that differ between two runs of one version: when and where it was made, how long it
#: took, what the simulator's clock gave (``acquired``, ``file_title`` with the date of the file),
#: and versions of software (the manifest has them). `LEFT_OUT_PREFIX` is of the latter.
LEFT_OUT = frozenset(
    [
        *("written_s", "stored_s", "time_s", "acquired", "file_title"),
        *("wait_s", "read_s", "filter_s", "predict_s", "label_s", "measure_s"),
    ]
)
LEFT_OUT_PREFIX = "version_"
#: Lines of result files that differ likewise.
LEFT_OUT_KEYS = ("id", "acquired")
#: Columns that name a row of each table; the first says to which section it belongs.
KEYS = {
    "sections": ["section"],
    "particles": ["section", "label"],
    "drift": ["stream", "frame"],
    "quarantine": ["section"],
    "feedback": ["file", "line"],
}
#: Sections named in a row of the comparison.
NAMED = 3
#: Characters of a text that are shown.
SHOWN = 60


class SkippedError(Exception):
    """An input whose files are not on this machine."""


@dataclass(frozen=True)
class Input:
    """One input of the set.

    Attributes
    ----------
    name : str
        Of its files in the result folder.
    run : callable
        Makes the session of it in a folder for passing files; gives the session and the exit code.
    """

    name: str
    run: Callable[[Path], tuple[Path, int]]


@dataclass(frozen=True)
class Difference:
    """One row of the comparison."""

    input: str
    what: str
    sections: str
    greatest: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make_parser = commands.add_parser("make", help="make masks and tables with this nanostream")
    make_parser.add_argument("folder", type=Path, help="new or empty")
    make_parser.add_argument(
        "--only", nargs="+", choices=[item.name for item in inputs()], help="some of the inputs"
    )
    compare_parser = commands.add_parser("compare", help="compare two results bit for bit")
    compare_parser.add_argument("before", type=Path)
    compare_parser.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "make":
        make(options.folder, options.only)
    else:
        sys.exit(0 if compare(options.before, options.after) else 1)


def inputs() -> list[Input]:
    """The fixed set, in the order in which it is made."""
    return [
        Input("demo-micrographs", partial(segment_demo, model="default")),
        Input("demo-micrographs-groschner2020", partial(segment_demo, model="groschner2020")),
        *(Input(kind, partial(segment_kind, kind=kind)) for kind in KINDS),
        *(Input(name, partial(segment_real, pattern=pattern)) for name, pattern in REAL.items()),
        Input("live", watch_kinds),
        Input("live-demo", watch_demo),
    ]


def make(folder: Path, only: Sequence[str] | None) -> None:
    """Make each input's masks and tables, and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty; give a new folder")
    made: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for item in inputs():
            if only and item.name not in only:
                continue
            print(f"{item.name} ...", flush=True)
            work = Path(temporary)
            try:
                session, exit_code = item.run(work)
            except SkippedError as reason:
                print(f"{item.name} is skipped: {reason}", flush=True)
                skipped[item.name] = str(reason)
                continue
            arrays, tables = read_session(session)
            np.savez_compressed(folder / f"{item.name}.npz", **arrays)  # type: ignore[arg-type]
            for name, table in tables.items():
                table.to_csv(folder / f"{item.name}.{name}.csv", index=False)
            made[item.name] = {
                "exit_code": exit_code,
                **{name: len(table) for name, table in tables.items()},
            }
    manifest = {
        "software": software(),
        "seed": SEED,
        "sections_of_a_kind": SECTIONS,
        "streams": STREAMS,
        "left_out": [*sorted(LEFT_OUT), f"{LEFT_OUT_PREFIX}*"],
        "left_out_of_feedback": LEFT_OUT_KEYS,
        "inputs": made,
        "skipped": skipped,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(f"{len(made)} inputs made, {len(skipped)} skipped: {folder}")


def software() -> dict[str, str]:
    """Versions of what computes the results, and where nanostream was imported from."""
    source = Path(ns.__file__).resolve().parent
    names = ("nanostream", "numpy", "scipy", "opencv-python-headless", "tensorflow", "h5py")
    describe = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = "unknown"
    if shutil.which("git"):
        done = subprocess.run(describe, capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or commit
    return {
        "commit": commit,
        "source": str(source),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **{name: version(name) for name in names},
    }


def segment_demo(work: Path, model: str) -> tuple[Path, int]:
    """Session of the package's micrographs, each as a file of SerialEM with its pixel size."""
    folder = work / "demo-micrographs"
    for name, pixel_size_nm in DEMO_MICROGRAPHS.items():
        if (folder / f"{name}.mrc").exists():
            continue
        found = sorted(Path(ns.__file__).parent.rglob(f"{name}.png"))
        if not found:
            sys.exit(f"the package has no {name}.png: the demo micrographs cannot be found")
        size = ["--pixel-size", str(pixel_size_nm)]
        simulate(folder, str(found[0]), "--name", name, "--sections", "1", *size)
    return segment(images_in(folder), work / f"demo-micrographs-{model}-session", "--model", model)


def segment_kind(work: Path, kind: str) -> tuple[Path, int]:
    """Session of one kind of files, named as the live session names them."""
    watched = simulated(work)
    streams = [word for pattern in STREAMS for word in ("--stream", pattern)]
    session = work / f"{kind}-session"
    return segment(images_in(watched / kind), session, "--root", str(watched), *streams)


def segment_real(work: Path, pattern: str) -> tuple[Path, int]:
    """Session of real micrographs; SkippedError if they are not here."""
    files = sorted(DATA.glob(pattern))
    if not files:
        raise SkippedError(f"no {DATA / pattern}")
    return segment(files, work / f"{files[0].parent.name}-session")


def watch_kinds(work: Path) -> tuple[Path, int]:
    """Session of all kinds, watched live in one folder."""
    watched, session = simulated(work), work / "live-session"
    streams = [word for pattern in STREAMS for word in ("--stream", pattern)]
    idle = ["--stop-when-idle", str(IDLE_S), "--plain"]
    exit_code = call("run", str(watched), "--out", str(session), *idle, *streams)
    call("verify", str(session), "--watch", str(watched), accepted=(0,))
    return session, exit_code


def watch_demo(work: Path) -> tuple[Path, int]:
    """Session of the demo, which is watched while it is written."""
    exit_code = call("demo", "--out", str(work / "demo"), "--plain")
    call("verify", str(work / "demo" / "session"), accepted=(0,))
    return work / "demo" / "session", exit_code


def simulated(work: Path) -> Path:
    """Folder with a subfolder of SerialEM's files for each kind; written once."""
    watched = work / "watched"
    for kind in KINDS:
        if not (watched / kind).exists():
            simulate(watched / kind, "--kind", kind, "--sections", str(SECTIONS))
    return watched


def simulate(folder: Path, *arguments: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seed_and_pace = ["--seed", str(SEED), "--rate", "1000"]
    call("simulate", str(folder), *arguments, *seed_and_pace, accepted=(0,))


def segment(files: Sequence[Path], session: Path, *arguments: str) -> tuple[Path, int]:
    exit_code = call("segment", *map(str, files), "--out", str(session), *arguments)
    return session, exit_code


def images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in IMAGES)


def call(*arguments: str, accepted: Sequence[int] = (0, 1)) -> int:
    """Exit code of a command of nanostream, which is 1 where something was quarantined."""
    # Else a checkout in the current folder is run, whichever nanostream is imported here.
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [*NANOSTREAM, *arguments], stdout=subprocess.DEVNULL, env=environment, check=False
    )
    if done.returncode not in accepted:
        sys.exit(f"nanostream {' '.join(arguments)}: exit code {done.returncode}")
    return done.returncode


def read_session(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, pd.DataFrame]]:
    """Arrays of a session, by ``labels/SECTION`` and ``probability/SECTION``, and its tables."""
    arrays: dict[str, NDArray[Any]] = {}
    attributes: dict[str, dict[str, object]] = {}
    for path in sorted((folder / "masks").rglob("*.h5")):
        with h5py.File(path, "r") as file:
            known = {name: plain(value) for name, value in file.attrs.items()}
            section = str(known["section"])
            attributes[section] = {f"mask.{name}": value for name, value in known.items()}
            arrays |= {f"{name}/{section}": dataset[...] for name, dataset in file.items()}
    session = ns.open_session(folder)
    sections = session.sections
    sections["warned"] = sections["warning"] != ""  # however the text is worded
    stored = [attributes.get(section, {}) for section in sections["section"]]
    sections = sections.join(pd.DataFrame(stored, index=sections.index))
    tables = {
        "sections": sections,
        "particles": session.particles,
        "drift": session.drift,
        "quarantine": session.quarantine,
        "feedback": read_feedback(folder / "feedback"),
    }
    return arrays, {name: without_left_out(table) for name, table in tables.items()}


def plain(value: object) -> object:
    """An HDF5 attribute as it is written in a table."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def without_left_out(table: pd.DataFrame) -> pd.DataFrame:
    kept = [
        name
        for name in table
        if (own := str(name).removeprefix("mask.")) not in LEFT_OUT
        and not own.startswith(LEFT_OUT_PREFIX)
    ]
    return table[kept]


def read_feedback(folder: Path) -> pd.DataFrame:
    """Table of the lines of all result files; empty offline, where none are written."""
    rows = [
        (path.relative_to(folder).as_posix(), number, line)
        for path in sorted(folder.rglob("*.npres"))
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines())
        if line.partition(" ")[0] not in LEFT_OUT_KEYS
    ]
    return pd.DataFrame(rows, columns=["file", "line", "text"])


def compare(before: Path, after: Path) -> bool:
    """Whether two results are the same bit for bit, after printing what is not."""
    manifests = [read_manifest(folder) for folder in (before, after)]
    differences = [*compare_manifests(*manifests)]
    both = [name for name in manifests[0]["inputs"] if name in manifests[1]["inputs"]]
    for name in both:
        differences += compare_arrays(name, before, after)
        for kind in KEYS:
            differences += compare_tables(name, kind, before, after)
    console = Console()
    for what, old in manifests[0]["software"].items():
        new = manifests[1]["software"].get(what, "unknown")
        console.print(f"{what}: {old}" + (f" -> {new}" if new != old else ""), soft_wrap=True)
    counts = [manifests[0]["inputs"][name] for name in both]
    compared = (
        f"{len(both)} inputs, {sum(c['sections'] for c in counts)} sections, "
        f"{sum(c['particles'] for c in counts)} particles compared"
    )
    if not differences:
        console.print(f"{compared}: the same, bit for bit")
        return True
    # What is equally so for several inputs, such as a new column, is one row.
    alike: dict[tuple[str, str, str], list[str]] = {}
    for row in differences:
        alike.setdefault((row.what, row.sections, row.greatest), []).append(row.input)
    table = Table("inputs", "what", "sections", "greatest difference")
    for cells, names in alike.items():
        table.add_row(", ".join(names), *cells)
    console.print(table)
    console.print(f"{compared}: {len(differences)} differences")
    return False


def read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        sys.exit(f"{folder} has no manifest.json: it is not a finished result of make")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def compare_manifests(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    """Inputs that one result lacks, other exit codes and another way of making it."""
    for key in ("seed", "sections_of_a_kind", "streams", "left_out", "left_out_of_feedback"):
        if before[key] != after[key]:
            yield Difference("all", key, "", f"{before[key]} -> {after[key]}")
    for name in sorted(before["inputs"].keys() | after["inputs"].keys()):
        if name not in after["inputs"]:
            yield Difference(name, "lost", "all", after["skipped"].get(name, ""))
        elif name not in before["inputs"]:
            yield Difference(name, "new", "all", before["skipped"].get(name, ""))
        else:
            codes = [side["inputs"][name]["exit_code"] for side in (before, after)]
            if codes[0] != codes[1]:
                yield Difference(name, "exit code", "", f"{codes[0]} -> {codes[1]}")


def compare_arrays(name: str, before: Path, after: Path) -> Iterator[Difference]:
    """Rows for the arrays of one input, a row for each dataset of the masks."""
    with np.load(before / f"{name}.npz") as old, np.load(after / f"{name}.npz") as new:
        for dataset in sorted({key.partition("/")[0] for key in (*old, *new)}):
            keys_old, keys_new = (
                [key for key in side if key.startswith(f"{dataset}/")] for side in (old, new)
            )
            yield from lost_and_new(
                name,
                dataset,
                [key.partition("/")[2] for key in keys_old],
                [key.partition("/")[2] for key in keys_new],
            )
            both = [key for key in keys_old if key in set(keys_new)]
            differing: list[str] = []
            pixels, greatest, shapes = 0, 0.0, ""
            for key in both:
                a, b = old[key], new[key]
                if (a.shape, a.dtype) != (b.shape, b.dtype):
                    shapes = f"{a.dtype} {a.shape} -> {b.dtype} {b.shape}"
                elif a.tobytes() != b.tobytes():
                    gaps = np.abs(a.astype(np.float64) - b.astype(np.float64))
                    pixels = max(pixels, int(np.count_nonzero(gaps)))
                    greatest = max(greatest, float(np.nanmax(gaps)))
                else:
                    continue
                differing.append(key.partition("/")[2])
            if differing:
                text = shapes or f"{greatest:g}, in up to {pixels} pixels of a section"
                yield Difference(name, dataset, shortened(differing, len(both)), text)


def compare_tables(name: str, table: str, before: Path, after: Path) -> Iterator[Difference]:
    """Rows for one table of one input, a row for each column; numbers are compared as written."""
    keys = KEYS[table]
    old, new = (
        pd.read_csv(folder / f"{name}.{table}.csv", dtype=str, keep_default_na=False)
        for folder in (before, after)
    )
    columns = [str(column) for column in old if column in new and column not in keys]
    for word, side, other in (("lost", old, new), ("new", new, old)):
        if only := [str(column) for column in side if column not in other]:
            yield Difference(name, f"{table} columns {word}", "", ", ".join(only))
    old, new = (side.set_index(keys).sort_index() for side in (old, new))
    if not (old.index.is_unique and new.index.is_unique):
        yield Difference(name, table, "", f"several rows of one {' and '.join(keys)}")
        return
    yield from lost_and_new(name, f"{table} rows", list(old.index), list(new.index))
    both = old.index.intersection(new.index)
    for column in columns:
        a, b = old.loc[both, column], new.loc[both, column]
        differs = a != b
        if differs.any():
            rows = both[differs.to_numpy()]
            sections = list(dict.fromkeys(rows.get_level_values(0)))
            of = both.get_level_values(0).nunique()
            yield Difference(
                name,
                f"{table}.{column}",
                shortened(sections, of),
                greatest_difference(a[differs], b[differs]),
            )


def greatest_difference(before: pd.Series[str], after: pd.Series[str]) -> str:
    """The two values that are farthest from one another, or the first two that are not numbers."""
    a, b = (pd.to_numeric(side, errors="coerce").to_numpy(float) for side in (before, after))
    gaps = np.abs(a - b)
    i = int(np.argmax(gaps))  # the first NaN, if there is one
    gap = "" if np.isnan(gaps[i]) else f"{gaps[i]:.3g}: "
    return gap + " -> ".join(from_where_they_differ(before.iloc[i], after.iloc[i]))


def from_where_they_differ(*texts: str) -> list[str]:
    """Texts cut to `SHOWN` characters, without a long beginning that all have in common."""
    places = itertools.takewhile(lambda place: len(set(place)) == 1, zip(*texts, strict=False))
    same = sum(1 for _ in places)
    cut = same - SHOWN // 4 if same > SHOWN // 2 else 0
    shown = [("..." if cut else "") + text[cut : cut + SHOWN] for text in texts]
    return [text or "(nothing)" for text in shown]


def lost_and_new(
    name: str, what: str, before: Sequence[object], after: Sequence[object]
) -> Iterator[Difference]:
    """Rows for what only one side has."""
    for word, side, other in (("lost", before, set(after)), ("new", after, set(before))):
        only = [key for key in side if key not in other]
        if only:
            shown = [" ".join(key) if isinstance(key, tuple) else str(key) for key in only]
            yield Difference(name, f"{what} {word}", shortened(shown, len(side)))


def shortened(sections: Sequence[str], of: int) -> str:
    """How many of all, and the first few names."""
    more = ", ..." if len(sections) > NAMED else ""
    return f"{len(sections)} of {of}: {', '.join(sections[:NAMED])}{more}"


if __name__ == "__main__":
    main()
