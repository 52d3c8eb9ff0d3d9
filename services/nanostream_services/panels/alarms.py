"""Alarms in words and colours."""

from __future__ import annotations

from nanostream.records import Alarm, Severity
from nanostream_services.panels.values import clean

__all__ = ["CHIPS", "COLOURS", "SIGNS_OF", "alarm_text"]

COLOURS = {
    Severity.PROBLEM: "bold red",
    Severity.WARNING: "yellow",
    Severity.NOTICE: "cyan",
}
CHIPS = {
    Severity.PROBLEM: "bold white on red",
    Severity.WARNING: "bold black on yellow",
    Severity.NOTICE: "black on cyan",
}
#: Without colours the sign still tells them apart.
SIGNS_OF = {Severity.PROBLEM: "✖", Severity.WARNING: "!", Severity.NOTICE: "·"}


def alarm_text(alarm: Alarm) -> str:
    """An alarm in one line: its name, what happened, what to do.

    Examples
    --------
    >>> alarm_text(Alarm("disk filling", Severity.WARNING, "1 GB free", "free some space"))
    'disk filling: 1 GB free; free some space'
    """
    advice = f"; {alarm.advice}" if alarm.advice else ""
    seen = " (acknowledged)" if alarm.acknowledged else ""
    return clean(f"{alarm.name}: {alarm.text}{advice}{seen}")
