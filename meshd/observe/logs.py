"""One line an event on standard error: ``2026-11-23T06:41:00Z INFO reconciled done=3``, or JSON.

An event has a name (docs/logging.md lists them all) and fields. Values that hold spaces,
quotes, ``=`` or control characters are quoted as JSON strings, so that no value can forge a line or
a field, or move the cursor of whoever reads it. Secret types render as ``(hidden)`` by themselves;
nothing else secret is ever passed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from typing import Final, Literal, TextIO

from meshd.model.text import escape_hidden

LOG_ROOTS: Final = ("meshd", "wgctl")

_FIELDS: Final = "event_fields"
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")
_HANDLER_NAME: Final = "meshd-events"
_TRACEBACK: Final = logging.Formatter()


def event(logger: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log one event; ``fields`` in the order given. Costs nothing below the logger's level."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", name, extra={_FIELDS: fields})


def set_up_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["text", "json"],
    stream: TextIO | None = None,
) -> None:
    """Send our events, and other libraries' warnings, to ``stream`` (standard error).

    Calling it again changes level, form and stream. Where the stream is systemd's journal, text has the
    journal's priority instead of a time and a level of its own: the journal shows both.
    """
    stream = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(stream)
    handler.set_name(_HANDLER_NAME)
    text = JournalFormatter() if is_journal(stream) else TextFormatter()
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    handler.setLevel(level.upper())
    for name in LOG_ROOTS:
        # Down to INFO for whoever else listens: the page shows what changed, however quiet the log is.
        logging.getLogger(name).setLevel(min(handler.level, logging.INFO))


class TextFormatter(logging.Formatter):
    """``TIME LEVEL EVENT key=value ...``, time in UTC by the second."""

    def format(self, record: logging.LogRecord) -> str:
        name, fields = event_fields(record)
        words = [_instant(record), record.levelname, name]
        words += [f"{key}={_quoted(value)}" for key, value in fields.items()]
        return " ".join(words)


class JournalFormatter(logging.Formatter):
    """``<PRIORITY>EVENT key=value ...`` (sd-daemon(3)), on every line of it."""

    def format(self, record: logging.LogRecord) -> str:
        name, fields = event_fields(record)
        words = [name, *(f"{key}={_quoted(value)}" for key, value in fields.items())]
        return f"<{_priority(record.levelno)}>" + " ".join(words)


def is_journal(stream: TextIO) -> bool:
    """Whether what is written there goes to systemd's journal: $JOURNAL_STREAM names its device and inode
    (systemd.exec(5)), and a stream that was led elsewhere since has others."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, event, logger, then the fields, numbers as numbers."""

    def format(self, record: logging.LogRecord) -> str:
        name, fields = event_fields(record)
        head = {"time": _instant(record), "level": record.levelname, "event": name, "logger": record.name}
        taken = {f"field_{key}" if key in head else key: value for key, value in fields.items()}
        return escape_hidden(json.dumps({**head, **taken}, default=str, ensure_ascii=False))


def event_fields(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """Name and fields; a record of another library is the event ``message`` with its text as a field."""
    fields = getattr(record, _FIELDS, None)
    if isinstance(fields, dict):
        name, found = record.getMessage(), dict(fields)
    else:
        name, found = "message", {"logger": record.name, "text": record.getMessage()}
    if record.exc_info:
        found["traceback"] = _TRACEBACK.formatException(record.exc_info)
    return name, found


def _instant(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _priority(level: int) -> int:
    """As syslog(3) counts: 3 an error, 4 a warning, 6 information, 7 debugging."""
    if level >= logging.ERROR:
        return 3
    return 4 if level >= logging.WARNING else 6 if level >= logging.INFO else 7


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "-"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
