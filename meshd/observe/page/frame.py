"""What every page has around it, and the small pieces that pages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from meshd.observe.advice import find_advice
from meshd.observe.page.markup import Child, Markup, element, join
from meshd.observe.page.style import STYLE
from meshd.observe.page.view import PageView, own_name
from meshd.observe.recent import RecentEvent
from meshd.observe.status import ConditionStatus
from meshd.observe.wording import render_age, render_time

LIVE_SECONDS: Final = 15


def document(view: PageView, title: str, body: Child, *, live: bool) -> str:
    """A whole page. ``live``: it is fetched again every LIVE_SECONDS, which only who asks for it wants."""
    status = view.status
    other = ("?", "stop refreshing") if live else ("?live", f"refresh every {LIVE_SECONDS} s")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex"),
        element("meta", http_equiv="refresh", content=str(LIVE_SECONDS)) if live else None,
        element("title", f"{title} - {status.registry.mesh_name}"),
        Markup(f"<style>{STYLE}</style>"),
    )
    header = element(
        "header",
        element("h1", title),
        element("span", f"mesh {status.registry.mesh_name}, seen from {own_name(status)}", class_="faint"),
        element("span", render_time(status.at), class_="faint"),
        element("a", other[1], href=other[0]),
    )
    footer = element(
        "footer",
        f"meshd {status.version}, running for {render_age(status.started_at, status.at)}. ",
        element("a", "metrics", href="/metrics"),
    )
    skip = element("a", "skip to what matters", class_="skip", href="#main")
    content = element("body", skip, header, element("main", body, id="main"), footer)
    return f"<!DOCTYPE html>{element('html', head, content, lang='en')}"


def error_document(title: str, text: str) -> str:
    """A page that needs no Status."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    body = element("body", element("h1", title), element("p", text), element("a", "the mesh", href="/"))
    return f"<!DOCTYPE html>{element('html', head, body, lang='en')}"


def section(title: str, *content: Child) -> Markup:
    return element("section", element("h2", title), *content)


def facts(rows: Iterable[tuple[str, Child]]) -> Markup:
    """Names and values; a row without a value is left out."""
    shown = ((name, join(value)) for name, value in rows)
    return element("dl", [(element("dt", name), element("dd", value)) for name, value in shown if value])


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Child]]) -> Markup:
    """``columns``: title and class of the cells. On a narrow screen each row is a card."""
    head = element("tr", [element("th", title, class_=kind or None, scope="col") for title, kind in columns])
    body = [
        element(
            "tr",
            [
                element("td", cell, class_=kind or None, data_label=title)
                for (title, kind), cell in zip(columns, row, strict=True)
            ],
        )
        for row in rows
    ]
    whole = element("table", element("thead", head), element("tbody", body), class_="cards")
    return element("div", whole, class_="wide", tabindex=0, role="region", aria_label="table")


def conditions(found: Sequence[ConditionStatus], now: float) -> Markup:
    """What is wrong, the worst first, each with what it means and what to do."""
    order = {"critical": 0, "warning": 1}
    ranked = sorted(found, key=lambda each: (order.get(each.severity, 2), -each.since))
    return element(
        "ul",
        [
            element(
                "li",
                element("strong", each.severity, class_="bad" if each.severity == "critical" else "fair"),
                " ",
                element("code", each.code),
                f" {each.subject}" if each.subject else None,
                element("span", f" for {render_age(each.since, now)}", class_="faint"),
                element("p", each.text),
                _remedy(each.code),
                class_=each.severity,
            )
            for each in ranked
        ],
        class_="conditions",
    )


def _remedy(code: str) -> Markup | None:
    advice = find_advice(code)
    return element("p", "What to do: ", _with_code(advice.remedy), class_="faint") if advice else None


def _with_code(text: str) -> list[Child]:
    """What stands in backticks as code."""
    return [element("code", part) if at % 2 else part for at, part in enumerate(text.split("`"))]


def events(found: Sequence[RecentEvent], now: float) -> Markup:
    """What changed, the newest first."""
    if not found:
        return element("p", "Nothing since meshd started.", class_="faint")
    rows: list[Sequence[Child]] = [
        (
            element("time", f"{render_age(each.at, now)} ago", title=render_time(each.at)),
            element("span", each.name, class_=None if each.level == "INFO" else "poor"),
            _fields(each),
        )
        for each in found
    ]
    return table((("when", ""), ("what", "mono"), ("why", "")), rows)


def _fields(found: RecentEvent) -> Markup:
    """In one piece, as cells of a card are set apart."""
    shown = [(key, value) for key, value in found.fields if value not in ("", "0")]
    last = len(shown) - 1
    return element(
        "span",
        [
            (element("span", f"{key} ", class_="faint"), value, "; " if at < last else None)
            for at, (key, value) in enumerate(shown)
        ],
    )
