"""The sessions of a hub, their connections, and the session for each path."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

from crestline.relay.mux import Multiplexer
from crestline.relay.tokens import Session


class SessionGoneError(Exception):
    """The session was ended, or a later one has taken its path."""


class OtherJobError(Exception):
    """Another job holds this session."""


@dataclass
class RelaySession:
    """A session, connected or waiting for its agent."""

    session: Session
    job: str = ""
    """Id of the job whose agent connected first. Agents of other jobs are refused."""
    mux: Multiplexer | None = None
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    """Number of streams opened since the relay started."""


class Sessions:
    """The sessions of one hub."""

    def __init__(self) -> None:
        self._by_path: dict[str, RelaySession] = {}
        self._ended: dict[str, float] = {}

    def attach(self, session: Session, job: str, mux: Multiplexer) -> RelaySession:
        """Attach an agent's connection, and drop its previous one.

        Raises:
            SessionGoneError: the session was ended or replaced.
            OtherJobError: the session belongs to another job.
        """
        self._expire()
        key = canonical(session.path)
        place = self._by_path.get(key)
        if session.id in self._ended:
            raise SessionGoneError("This session has been ended.")
        if place is not None and place.session.id != session.id:
            if place.session.issued > session.issued:
                raise SessionGoneError("A later session has taken this path.")
            self._drop(place)
            place = None
        if place is None:
            place = self._by_path[key] = RelaySession(session, job)
        elif place.job != job:
            raise OtherJobError(f"This session belongs to job {place.job}.")
        elif place.mux is not None:
            place.mux.close()
        place.mux = mux
        place.connected.set()
        return place

    def detach(self, place: RelaySession, mux: Multiplexer) -> None:
        """Detach a lost connection. The session waits for its agent."""
        mux.close()
        if place.mux is mux:
            place.mux = None
            place.connected.clear()

    def end(self, identifier: str) -> None:
        """End a session, connected or not. Its agent is notified and does not reconnect."""
        self._ended[identifier] = time.time() + 86400 * 60
        for place in list(self._by_path.values()):
            if place.session.id == identifier:
                self._drop(place)
                del self._by_path[canonical(place.session.path)]

    def find(self, identifier: str) -> RelaySession | None:
        """Return the session with this id, or None."""
        return next((place for place in self._by_path.values() if place.session.id == identifier), None)

    def for_request(self, path: str) -> RelaySession | None:
        """Return the session of a request: the one with the longest path that contains this path."""
        segments = canonical(path).split("/")
        for length in range(len(segments), 0, -1):
            place = self._by_path.get("/".join(segments[:length]))
            if place is not None and place.session.expires > time.time():
                return place
        return None

    def all(self) -> list[RelaySession]:
        return list(self._by_path.values())

    def _drop(self, place: RelaySession) -> None:
        if place.mux is not None:
            place.mux.close()
        place.mux = None
        place.connected.clear()

    def _expire(self) -> None:
        now = time.time()
        self._ended = {identifier: until for identifier, until in self._ended.items() if until > now}
        for key, place in list(self._by_path.items()):
            if place.session.expires < now:
                self._drop(place)
                del self._by_path[key]


def canonical(path: str) -> str:
    """Return a path in the form in which paths are compared: decoded, without the slash at its end.

    A segment that decodes to a slash or a dot segment keeps its encoding, so that it never names another path.
    """
    segments = []
    for segment in path.rstrip("/").split("/"):
        decoded = unquote(segment)
        segments.append(segment if "/" in decoded or decoded in (".", "..") else decoded)
    return "/".join(segments)
