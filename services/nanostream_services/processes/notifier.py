"""The user's own command for alarms: started and never waited for."""

from __future__ import annotations

import logging
import math
import subprocess
from collections.abc import Sequence

import msgspec

from nanostream.config import Notify
from nanostream.records import Alarm, Severity

__all__ = ["Notifier"]

logger = logging.getLogger(__name__)

_ORDER = list(Severity)


class Notifier:
    """Starts the command of ``[notify]``.

    Parameters
    ----------
    settings : Notify
        Command, least severity, and how often an alarm of one name may be sent.
    """

    def __init__(self, settings: Notify) -> None:
        self._settings = settings
        self._sent_s: dict[str, float] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    def step(self, raised: Sequence[Alarm], cleared: Sequence[Alarm], now_s: float) -> None:
        """Send what has changed, and see how earlier commands ended.

        That an alarm is over is sent if its beginning was.
        """
        self._running = [process for process in self._running if not _has_ended(process)]
        if not self._settings.command:
            return
        for alarm in raised:
            last_s = self._sent_s.get(alarm.name, -math.inf)
            severe = _ORDER.index(alarm.severity) <= _ORDER.index(self._settings.severity)
            if severe and now_s - last_s >= self._settings.every_s:
                self._sent_s[alarm.name] = now_s
                self._start(alarm, f"{alarm.severity}: {alarm.name}: {alarm.text}")
        for alarm in cleared:
            if self._sent_s.get(alarm.name, -math.inf) >= 0:
                self._start(alarm, f"over: {alarm.name}")

    def _start(self, alarm: Alarm, text: str) -> None:
        command = [*self._settings.command, text]
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
