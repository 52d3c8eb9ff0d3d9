"""SerialEM's side of the sink: result files, Navigator points and answers on the query port."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from nanostream.config import Config
from nanostream.records import SectionId
from nanostream.results.feedback import FeedbackFiles
from nanostream.results.outcomes import Outcomes
from nanostream.results.queries import MOST_BYTES, Questions
from nanostream.transport.sockets import Desk

__all__ = ["SerialEM"]


class SerialEM:
    """Tells SerialEM's scripts what becomes of its sections.

    Parameters
    ----------
    session : Path
        Session folder, with its database.
    config : Config
        Feedback, network and the watched folder.
    """

    def __init__(self, session: Path, config: Config) -> None:
        self.desk = Desk(config.network, largest_bytes=MOST_BYTES)
        self._outcomes = Outcomes(session)
        self._files = FeedbackFiles(session, config.feedback, self._outcomes)
        self._questions = Questions(self._outcomes, self.desk.send, root=config.watch.directory)

    def ended(self, section: SectionId) -> None:
        """A section has been stored or given up, and will stay so."""
        self._files.ended(section, now_s=time.monotonic())
        self._questions.ended(section)

    def step(self) -> Iterator[str]:
        """One turn: what the operator should know."""
        now_s = time.monotonic()
        for asker, body in self.desk.receive():
            self._questions.hear(asker, body, now_s=now_s)
        self._questions.step(now_s)
        yield from self._files.step(now_s)

    def close(self) -> None:
        """Write what is due and let go."""
        self._files.step(math.inf)
        self.desk.close()
        self._outcomes.close()
