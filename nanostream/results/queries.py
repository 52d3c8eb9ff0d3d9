"""Questions of SerialEM's scripts to the sink, and the askers that wait for an answer.

One JSON object each way, so that pyzmq alone can ask (docs/formats/serialem.md). The answer to a
question about a section that has no end yet waits for it, at most as long as the request allows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from nanostream.errors import MessageError, reason_of
from nanostream.records import SectionId
from nanostream.results.file_names import Files
from nanostream.results.outcomes import Outcomes
from nanostream.results.result_files import RESULT_VERSION, answer

__all__ = ["MOST_BYTES", "Query", "Questions", "read_query"]

#: A larger question is no question; ZeroMQ does not even read it.
MOST_BYTES = 16384
#: Askers that may wait at a time; one script waits for one section.
MOST_WAITING = 256

Reply = Callable[[bytes, bytes], object]


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """The question what became of a section.

    ``file`` is the file as the asker knows it, ``z`` the section from 0. The answer comes when the
    section is stored or given up, or after ``wait_s``. A result whose id is ``known`` is an
    earlier one, of a file whose name is used again, and is waited past. At most ``most`` particles
    are listed.
    """

    nanostream: Literal[1]
    file: Annotated[str, Meta(min_length=1, max_length=2048)]
    z: Annotated[int, Meta(ge=0, lt=10**9)]
    wait_s: Annotated[float, Meta(ge=0, le=600)] = 0.0
    known: Annotated[str, Meta(max_length=64)] = ""
    most: Annotated[int, Meta(ge=0, le=10_000)] = 200


def read_query(body: bytes) -> Query:
    """The question in a message from outside.

    Raises
    ------
    MessageError
        If it is none, with the reason.
    """
    try:
        return msgspec.json.decode(body, type=Query)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not a question to nanostream: {error}; docs/formats/serialem.md shows one"
        raise MessageError(msg) from error


class Questions:
    """Answers questions at once or later.

    Parameters
    ----------
    outcomes : Outcomes
        Of the session.
    reply : callable
        Sends an asker, known by its ZeroMQ identity, an answer.
    root : str
        The watched folder, if the sink knows it: names below it are exact.
    """

    def __init__(self, outcomes: Outcomes, reply: Reply, *, root: str = "") -> None:
        self._outcomes, self._reply = outcomes, reply
        self._files = Files(outcomes.paths(), root=root)
        self._waiting: dict[bytes, tuple[Query, float]] = {}

    @property
    def waiting(self) -> int:
        """Askers that wait."""
        return len(self._waiting)

    def hear(self, asker: bytes, body: bytes, *, now_s: float) -> None:
        """Answer a question, or keep it; who asks again asks instead of before."""
        self._waiting.pop(asker, None)
        try:
            query = read_query(body)
        except MessageError as error:
            self._refuse(asker, "error", str(error))
            return
        if self._answered(asker, query):
            return
        if query.wait_s == 0:
            self._refuse(asker, "pending", "no end yet")
        elif len(self._waiting) >= MOST_WAITING:
            self._refuse(asker, "error", f"{MOST_WAITING} others wait already; ask again later")
        else:
            self._waiting[asker] = query, now_s + query.wait_s

    def ended(self, section: SectionId) -> None:
        """A section has been stored or given up."""
        self._files.add(section.path)
        for asker, (query, _) in list(self._waiting.items()):
            if query.z == section.z and self._answered(asker, query):
                del self._waiting[asker]

    def step(self, now_s: float) -> None:
        """Tell those whose time is over."""
        for asker, (query, until_s) in list(self._waiting.items()):
            if now_s >= until_s:
                del self._waiting[asker]
                self._refuse(asker, "pending", f"no end within {query.wait_s:g} s")

    def _answered(self, asker: bytes, query: Query) -> bool:
        try:
            path = self._files.find(query.file)
            found = self._outcomes.ended(path, query.z) if path is not None else None
            if found is None or found[1] == query.known:
                return False
            reply = answer(self._outcomes.of(found[0]), most=query.most)
        except MessageError as error:
            self._refuse(asker, "error", str(error))
        except sqlite3.Error as error:
            self._refuse(asker, "error", f"the session cannot be read: {reason_of(error)}")
        else:
            self._send(asker, reply)
        return True

    def _refuse(self, asker: bytes, status: str, reason: str) -> None:
        self._send(asker, {"nanostream": RESULT_VERSION, "status": status, "reason": reason})

    def _send(self, asker: bytes, reply: dict[str, Any]) -> None:
        self._reply(asker, msgspec.json.encode(reply))
