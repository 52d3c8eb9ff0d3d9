"""Tables of a session, and what an older session gets of them when it is written to."""

from __future__ import annotations

import sqlite3
import time

from nanostream.records import PARTICLE_DTYPE, UNCLASSIFIED, Alarm
from nanostream.results.columns import COLUMNS

__all__ = ["ALARM_COLUMNS", "PARTICLE_NAMES", "SCHEMA", "complete"]

#: Types, and what particles of a session have that is from before the column.
_SQL_TYPES = {
    "i": "INTEGER NOT NULL DEFAULT 0",
    "f": "REAL",  # SQLite keeps NaN as NULL
    "b": "INTEGER NOT NULL DEFAULT 0",
    "U": f"TEXT NOT NULL DEFAULT '{UNCLASSIFIED}'",
}
PARTICLE_NAMES = PARTICLE_DTYPE.names or ()
#: Declarations of the columns of ``particles``, by their names.
PARTICLE_COLUMNS = {
    name: f"{name} {_SQL_TYPES[PARTICLE_DTYPE[name].kind]}" for name in PARTICLE_NAMES
}

#: Fields of an alarm that are kept; whether it was acknowledged is in a table of its own, which
#: others write to.
ALARM_COLUMNS = tuple(name for name in Alarm.__struct_fields__ if name != "acknowledged")

#: Tables that sessions of this version may be without.
_ALARMS = f"""
CREATE TABLE IF NOT EXISTS alarms ({", ".join(ALARM_COLUMNS)}, PRIMARY KEY (name, since_s));
CREATE TABLE IF NOT EXISTS acknowledgements (name TEXT PRIMARY KEY, time_s REAL NOT NULL);
"""

SCHEMA = f"""
CREATE TABLE provenance (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sections (
    section TEXT PRIMARY KEY, path TEXT NOT NULL, generation INTEGER NOT NULL, z INTEGER NOT NULL,
    stream TEXT, height_px INTEGER NOT NULL, width_px INTEGER NOT NULL, mask TEXT NOT NULL,
    labels_crc32 INTEGER NOT NULL, stored_s REAL NOT NULL,
    {", ".join(column.declaration for column in COLUMNS)}
);
CREATE INDEX sections_of_stream ON sections (stream, z);
CREATE TABLE particles (
    section TEXT NOT NULL REFERENCES sections (section),
    {", ".join(PARTICLE_COLUMNS.values())},
    PRIMARY KEY (section, label)
);
CREATE TABLE tracks (
    stream TEXT NOT NULL, frame INTEGER NOT NULL, particle INTEGER NOT NULL,
    section TEXT NOT NULL REFERENCES sections (section), label INTEGER NOT NULL,
    x_corr REAL NOT NULL, y_corr REAL NOT NULL,
    PRIMARY KEY (section, label), UNIQUE (stream, frame, particle)
);
CREATE TABLE drift (
    stream TEXT NOT NULL, frame INTEGER NOT NULL, dx_px REAL NOT NULL, dy_px REAL NOT NULL,
    total_x_px REAL NOT NULL, total_y_px REAL NOT NULL, votes INTEGER NOT NULL, gate_px REAL,
    PRIMARY KEY (stream, frame)
);
CREATE TABLE trackers (
    stream TEXT PRIMARY KEY, next_frame INTEGER NOT NULL, identities INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE quarantine (
    section TEXT PRIMARY KEY, reason TEXT NOT NULL, attempts INTEGER NOT NULL, time_s REAL NOT NULL
);
CREATE TABLE retries (section TEXT PRIMARY KEY);
CREATE TABLE events (
    time_s REAL NOT NULL, source TEXT NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (source, number)
);
"""


def complete(db: sqlite3.Connection) -> None:
    """Add the columns and indices that a session of this version may be without."""
    found = {row[1] for row in db.execute("PRAGMA table_info(particles)")}
    for name, declaration in PARTICLE_COLUMNS.items():
        if name not in found:
            db.execute(f"ALTER TABLE particles ADD COLUMN {declaration}")
    for statement in filter(str.strip, _ALARMS.split(";")):
        db.execute(statement)
    # What an earlier process raised ended with it.
    db.execute("UPDATE alarms SET cleared_s = ? WHERE cleared_s IS NULL", (time.time(),))
    # Not in the schema: older sessions of this version are without it.
    db.execute("CREATE INDEX IF NOT EXISTS sections_of_file ON sections (path, z, generation)")
    found = {row[1] for row in db.execute("PRAGMA table_info(sections)")}
    for column in COLUMNS:
        if column.name not in found:
            db.execute(f"ALTER TABLE sections ADD COLUMN {column.declaration}")
