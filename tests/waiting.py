"""Waits that end by what happens, whatever else the machine does meanwhile.

How long a step takes says nothing where five other processes are busy: a wait gives up only when
nothing has changed for long, and then says what it saw last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")

PATIENCE_S = 120.0  # without any change
LONGEST_S = 600.0  # with changes that lead nowhere; less than pytest's own end of a test
#: Between two looks for progress, which cost more than the condition: all logs are read for some.
_LOOKS_APART_S = 1.0


def pause() -> None:
    """A moment for the processes that are waited for."""
    time.sleep(0.05)


def until(
    condition: Callable[[], Value],
    what: str,
    *,
    turn: Callable[[], object] = pause,
    seen: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> Value:
    """The condition's value as soon as it is true.

    Parameters
    ----------
    condition
        What is waited for.
    what
        Its name in the failure.
    turn
        What is done between two looks: a pause, or a turn of the loop that is tested.
    seen
        What shows progress, printable: patience begins anew whenever it changes.
    patience_s
        How long nothing may change, in s.

    Raises
    ------
    AssertionError
        With what was seen last, if nothing changes any more.
    """
    start_s = since_s = looked_s = time.monotonic()
    last: Any = seen()
    while not (value := condition()):
        turn()
        now_s = time.monotonic()
        if now_s - looked_s < _LOOKS_APART_S:
            continue
        now, looked_s = seen(), now_s
        if now != last:
            last, since_s = now, now_s
        unchanged_s = now_s - since_s
        if unchanged_s > patience_s or now_s - start_s > LONGEST_S:
            raise AssertionError(
                f"waited {now_s - start_s:.0f} s for {what}, the last {unchanged_s:.0f} s without "
                f"a change; last seen: {last}"
            )
    return value
