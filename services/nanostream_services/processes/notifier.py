"""The user's own command for alarms: started and never waited for."""

from __future__ import annotations

import logging
import math
import subprocess
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from nanostream.config import Notify
from nanostream.errors import printable
from nanostream.records import Alarm, Severity

__all__ = ["Notifier"]

logger = logging.getLogger(__name__)

_ORDER = list(Severity)
#: Characters of a message: an SMS or a line of a chat has no more.
_LONGEST = 1000


class Notifier:
    """Starts the command of ``[notify]``.

    Parameters
    ----------
    settings : Notify
        Command, least severity, and how often an alarm of one name may be sent.
    session : str
        Named in each message.
    """

    def __init__(self, settings: Notify, *, session: str = "") -> None:
        self._settings, self._session = settings, session
        #: Alarms whose beginning was sent and whose end was not.
        self._sent: dict[str, Alarm] = {}
        self._sent_s: dict[str, float] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    def step(self, now: Sequence[Alarm], now_s: float) -> None:
        """Send what differs from what was sent last, and see how earlier commands ended.

        What comes again within ``every_s`` is sent later, if it still lasts by then.
        """
        self._running = [process for process in self._running if not _has_ended(process)]
        if not self._settings.command:
            return
        for alarm in now:
            known = self._sent.get(alarm.name)
            if _rank(alarm.severity) > _rank(self._settings.severity):
                continue
            worse = known is not None and _rank(alarm.severity) < _rank(known.severity)
            since_s = now_s - self._sent_s.get(alarm.name, -math.inf)
            if worse or (known is None and since_s >= self._settings.every_s):
                self._sent[alarm.name], self._sent_s[alarm.name] = alarm, now_s
                self._start(alarm, f"{alarm.severity}: {alarm.name}: {alarm.text}")
        for name in self._sent.keys() - {alarm.name for alarm in now}:
            ended = replace(self._sent.pop(name), cleared_s=time.time())
            self._start(ended, f"over: {name}")

    def _start(self, alarm: Alarm, text: str) -> None:
        where = f"nanostream {self._session}: " if self._session else ""
        command = [*self._settings.command, printable(where + text)[:_LONGEST]]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            logger.warning("[notify] command %s cannot be started: %s", command[0], error.strerror)
            return
        self._running.append(process)
        if process.stdin is not None:
            try:
                process.stdin.write(msgspec.json.encode(alarm))  # fits into the pipe's buffer
                process.stdin.close()
            except OSError:  # it does not read
                pass


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    code = process.poll()
    if code:
        logger.warning("[notify] command %s ended with code %s", process.args, code)
    return code is not None


def _rank(severity: Severity) -> int:
    """0 for the worst."""
    return _ORDER.index(severity)
