"""The finding of a check."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Finding", "Role", "State"]

State = Literal["ok", "skipped", "warning", "problem"]
Role = Literal["agent", "worker", "sink", "all"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of the doctor's.

    Attributes
    ----------
    check : str
        What was looked at.
    state : str
        A problem stops a session, or loses something in it; a warning costs time or comfort.
    text : str
        What was found.
    advice : str
        What to do; empty if nothing.
    """

    check: str
    state: State
    text: str
    advice: str = ""
