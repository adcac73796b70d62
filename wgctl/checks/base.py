"""The result of one check: how it went, what was seen, and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Result = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """``advice`` is what to type or change; empty when all is well."""

    name: str
    result: Result
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name=name, result="ok", text=text)


def warn(name: str, text: str, advice: str) -> Check:
    return Check(name=name, result="warn", text=text, advice=advice)


def fail(name: str, text: str, advice: str) -> Check:
    return Check(name=name, result="fail", text=text, advice=advice)
