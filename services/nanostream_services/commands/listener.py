"""The newest snapshot of a running session, for commands that watch one from outside."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from nanostream.config import load_config
from nanostream.errors import ConfigError, MessageError
from nanostream.records import Snapshot
from nanostream.transport.sockets import Subscriber, wait

__all__ = ["Listener", "settings_file"]


def settings_file(session: Path) -> Path:
    """File with the configuration that a session was started with.

    Raises
    ------
    ConfigError
        If there is none: it is no session of ``nanostream run``.
    """
    written = session / "config.json"
    if not written.is_file():
        msg = f"{session} is no session of nanostream run: it has no config.json"
        raise ConfigError(msg)
    return written


class Listener:
    """Hears a session's sink.

    Parameters
    ----------
    session : Path
        Session folder.

    Raises
    ------
    ConfigError
        As `settings_file`.
    """

    def __init__(self, session: Path) -> None:
        self._session = session.resolve()
        self._subscriber = Subscriber(load_config(settings_file(session)).network)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._subscriber.close()

    def hear(self, timeout_s: float) -> Snapshot | None:
        """The newest snapshot, as soon as there is one; None if none comes.

        Raises
        ------
        ConfigError
            If it is of another version of nanostream.
        """
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            wait([self._subscriber], left_s)
            try:
                news = self._subscriber.receive()
            except MessageError as error:
                msg = f"the session at {self._session} cannot be understood: {error}"
                raise ConfigError(msg) from error
            # Another session may use the ports of one that has ended.
            if news is not None and Path(news.session).resolve() == self._session:
                return news
        return None
