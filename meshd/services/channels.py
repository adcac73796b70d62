"""What running services ask for themselves: an agent's answers, and documents over HTTP.

The daemon answers from what the last measurement made of the view, so a question runs no module. Without a
verified view nothing is answered: HAProxy then keeps its weights, and Prometheus its targets, which
an empty list would take away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from meshd.errors import MeshError
from meshd.listener import ConnectionLimits, WsgiListener
from meshd.model.condition import Condition, Severity
from meshd.services.module import END_OF_QUESTION, Signals
from meshd.settings import parse_listen

MAX_QUESTION_BYTES: Final = 256
QUESTION_SECONDS: Final = 5.0
LIMITS: Final = ConnectionLimits(total=16, each=8)


class AgentPort:
    """One TCP port: a question in, a line out (HAProxy's agent-check). An unknown one gets no answer."""

    def __init__(self) -> None:
        self.answers: Mapping[str, str] = {}
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port, limit=MAX_QUESTION_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = await asyncio.wait_for(_read_question(reader), QUESTION_SECONDS)
            answer = self.answers.get(question)
            if answer is not None:
                writer.write(answer.encode() + b"\n")
                await asyncio.wait_for(writer.drain(), QUESTION_SECONDS)
        except (TimeoutError, OSError, ValueError):
            pass  # gone, silent, or too long: nothing is owed to it
        finally:
            writer.close()


async def _read_question(reader: asyncio.StreamReader) -> str:
    """Up to its end, a line feed or the end of all; nothing of one that is too long."""
    said = b""
    while len(said) < MAX_QUESTION_BYTES and not said.endswith((b"\n", END_OF_QUESTION.encode())):
        piece = await reader.read(MAX_QUESTION_BYTES - len(said))
        if not piece:
            break
        said += piece
    return said.decode("utf-8", "replace").strip().removesuffix(END_OF_QUESTION)


class DocumentPort:
    """One HTTP port: GET of a path, answered from ``documents``; None: 503, there is no verified view."""

    def __init__(self) -> None:
        self.documents: Mapping[str, bytes] | None = None
        self._listener: WsgiListener | None = None

    def start(self, address: str, port: int) -> None:
        """Raises BackendError when it cannot be had."""
        self._listener = WsgiListener(self._answer, ((address, port),), name="discovery", limits=LIMITS)
        self._listener.start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        path = environ.get("PATH_INFO", "") + (f"?{query}" if query else "")
        documents = self.documents
        plain = [("Content-Type", "text/plain; charset=utf-8")]
        if documents is None:
            start_response("503 Service Unavailable", plain)
            return [b"no verified view of the mesh\n"]
        body = documents.get(path)
        if body is None:
            start_response("404 Not Found", plain)
            return [b"nothing of this name\n"]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]


class Channels(msgspec.Struct):
    """The ports of all modules together. ``follow`` opens, moves and closes them."""

    agent: AgentPort = msgspec.field(default_factory=AgentPort)
    documents: DocumentPort = msgspec.field(default_factory=DocumentPort)
    _agent_at: str = ""
    _documents_at: str = ""

    async def follow(self, signals: Mapping[str, Signals], *, has_view: bool) -> list[Condition]:
        """Answer from these from now on; -> what cannot be listened on."""
        self.agent.answers = {key: text for each in signals.values() for key, text in each.answers.items()}
        found = {path: body for each in signals.values() for path, body in each.documents.items()}
        self.documents.documents = found if has_view else None
        problems = []
        for name, each in signals.items():
            for place, follow in ((each.agent_listen, self._agent), (each.listen, self._document)):
                if place:
                    problem = await follow(place)
                    if problem is not None:
                        problems.append(_unreached(name, problem))
        if not any(each.agent_listen for each in signals.values()):
            await self._agent("")
        if not any(each.listen for each in signals.values()):
            await self._document("")
        return problems

    async def close(self) -> None:
        await self.agent.close()
        await asyncio.to_thread(self.documents.close)

    async def _agent(self, place: str) -> str | None:
        if place == self._agent_at:
            return None
        await self.agent.close()
        self._agent_at = ""
        if not place:
            return None
        try:
            await self.agent.start(*parse_listen(place, "agent_listen"))
        except (OSError, MeshError) as error:
            return f"agent_listen {place}: {error}"
        self._agent_at = place
        return None

    async def _document(self, place: str) -> str | None:
        if place == self._documents_at:
            return None
        await asyncio.to_thread(self.documents.close)
        self._documents_at = ""
        if not place:
            return None
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await asyncio.to_thread(self.documents.start, *parse_listen(place, "listen"))
            except MeshError as error:
                return str(error)
        self._documents_at = place
        return None


def _unreached(module: str, problem: str) -> Condition:
    return Condition(
        code="service_unheard",
        severity=Severity.WARNING,
        subject=module,
        text=f"{module}: {problem}; meshd tries again; what it told the service last stays in force",
    )
