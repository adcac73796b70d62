"""What the page tells, and what nobody can make it do."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_states import DOWN, NOW, UP, page_view, peer_state, read_page

from meshd.model.path import PathStats
from meshd.observe.advice import find_advice
from meshd.observe.matrix import MatrixRow
from meshd.observe.page.overview import render_overview
from meshd.observe.page.pair import render_pair
from meshd.observe.page.peer import render_peer
from meshd.observe.page.style import SECURITY_HEADERS, STYLE
from meshd.observe.page.view import PageView
from meshd.observe.recent import RecentEvent
from meshd.observe.status import ClientStatus, ConditionStatus, Status

NEWTON = peer_state("newton", region="eu-north")
BOHR = peer_state("bohr", DOWN, region="us-east")
HELD = ConditionStatus(code="plan_held", severity="critical", subject="", text="3 of 5 go", since=NOW - 60)
SILENT = ConditionStatus(
    code="peer_unreachable", severity="warning", subject="bohr", text="bohr is silent", since=NOW - 90
)
ADDED = RecentEvent(NOW - 300, "INFO", "reconciled", (("reasons", "host bohr was added"),))


@pytest.mark.parametrize(
    ("view", "verdict"),
    [
        (page_view(NEWTON, peer_state("curie")), "All is well: all 2 other hosts answer."),
        (page_view(NEWTON, BOHR), "1 of 2 other hosts does not answer: bohr."),
        (page_view(NEWTON, conditions=[HELD]), "All hosts answer, but something critical is wrong here."),
        (page_view(NEWTON, conditions=[SILENT]), "All hosts answer; something needs a look."),
        (page_view(NEWTON, interface_up=False), "The interface wg0 is down."),
        (page_view(), "This is the only host of its mesh so far."),
    ],
)
def test_the_first_sentence_says_how_the_mesh_is(view: PageView, verdict: str) -> None:
    said = [
        each.text
        for each in read_page(render_overview(view)).all("p")
        if "verdict" in each.attributes.get("class", "")
    ]
    assert said == [verdict]


def test_what_is_wrong_stands_first_and_the_worst_of_it_before_the_rest() -> None:
    text = read_page(render_overview(page_view(NEWTON, BOHR, conditions=[SILENT, HELD]))).text
    assert text.index("plan_held") < text.index("peer_unreachable") < text.index("192.0.2.7:51820")


def test_each_host_has_a_line_with_its_figures_and_a_page_of_its_own() -> None:
    page = read_page(render_overview(page_view(NEWTON, BOHR)))
    rows = {row.text: row for row in page.all("tr")}
    newton = next(text for text in rows if text.startswith("newton"))
    assert "20.5 ms" in newton and "up" in newton and "eu-north" in newton
    assert "down" in next(text for text in rows if text.startswith("bohr"))
    links = {each.attributes["href"] for each in page.all("a")}
    assert {"/host/newton", "/host/bohr", "/metrics"} <= links


def test_a_store_that_does_not_answer_is_named_with_its_reason() -> None:
    text = read_page(render_overview(page_view(NEWTON, store_error="connection refused"))).text
    assert "does not answer: connection refused" in text


def test_the_page_of_a_host_has_what_concerns_it_and_nothing_of_others() -> None:
    other = RecentEvent(NOW - 10, "INFO", "path_mtu", (("host", "newton"), ("new", "1400")))
    view = page_view(NEWTON, BOHR, conditions=[SILENT, HELD], events=[other, ADDED])
    text = read_page(render_peer(view, BOHR)).text
    assert "tesla to bohr: down" in text and "bohr is silent" in text and "host bohr was added" in text
    assert "plan_held" not in text and "path_mtu" not in text


def test_pictures_say_in_words_what_they_show() -> None:
    view = page_view(NEWTON, BOHR, spans={NEWTON.hid: 0.012})
    pictures = [each.attributes for each in read_page(render_overview(view)).all("svg")]
    words = [picture["aria-label"] for picture in pictures]
    assert "the last 60 min: round trip 12.0 ms to 12.0 ms, loss up to 0 %" in words
    assert "the last 60 min: nothing measured" in words
    assert all(words)


def test_a_line_does_not_lead_over_a_time_without_measurements() -> None:
    view = page_view(NEWTON)
    document = render_peer(view, NEWTON)
    assert "polyline" not in document
    assert "nan" not in document.lower()


@pytest.mark.parametrize("hosts", [0, 1, 2, 11, 30, 80])
def test_a_mesh_of_any_size_has_a_picture_with_every_host(hosts: int) -> None:
    peers = [peer_state(f"h{number}", region=f"r{number % 3}") for number in range(hosts)]
    page = read_page(render_overview(page_view(*peers)))
    assert len(page.all("circle")) == (hosts + 1 if hosts else 0)
    assert {f"/host/h{number}" for number in range(hosts)} <= {
        each.attributes["href"] for each in page.all("a")
    }


def test_it_is_fetched_again_only_for_who_asked_for_that() -> None:
    def refreshes(document: str) -> list[str]:
        metas = read_page(document).all("meta")
        return [each.attributes["content"] for each in metas if "http-equiv" in each.attributes]

    assert refreshes(render_overview(page_view(NEWTON))) == []
    assert refreshes(render_overview(page_view(NEWTON), live=True)) == ["15"]


# --- what others wrote


def hostile_view(text: str) -> PageView:
    """Whatever comes from other hosts, stores and administrators says this."""
    peer = peer_state(
        "newton",
        region=text,
        granted_by=text,
        endpoint=text,
        endpoint_reason=text,
        roles=(text,),
        rotation=text,
    )
    condition = ConditionStatus(code=text, severity=text, subject=f"newton {text}", text=text, since=NOW)
    event = RecentEvent(NOW, text, text, ((text, f"newton {text}"),))
    relayed = msgspec.structs.replace(UP, via=text)
    rows = {
        name: MatrixRow(age_seconds=9.0, told_by=text, paths={"tesla": relayed, text: UP})
        for name in (text, "newton")
    }
    view = page_view(
        peer, peer_state(f"x{text}"), conditions=[condition], events=[event], store_error=text, rows=rows
    )
    return msgspec.structs.replace(
        view, matrix=msgspec.structs.replace(view.matrix, hosts=("newton", "tesla", text))
    )


def pages(view: PageView) -> list[str]:
    pairs = [render_pair(view, "newton", name) for name in view.matrix.hosts if name != "newton"]
    return [render_overview(view), *(render_peer(view, peer) for peer in view.status.peers), *pairs]


def shape(document: str) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and names of attributes, as a browser sees them."""
    return [(each.name, tuple(each.attributes)) for each in read_page(document).elements]


PLAIN = [shape(document) for document in pages(hostile_view("x"))]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</style><script>",
        "--><svg/onload=alert(1)>",
        "&lt;b&gt;",
        "javascript:alert(1)",
        "\x00\x1b[31m\u202e",
    ],
)
def test_text_of_others_stays_text(text: str) -> None:
    assert [shape(document) for document in pages(hostile_view(text))] == PLAIN


def is_of_others(text: str) -> bool:
    """Not one of meshd's own words, which say more than themselves: a code has a remedy."""
    return bool(text.strip(" ")) and text != "steady" and find_advice(text) is None


@pytest.mark.slow
@given(st.text(min_size=1, max_size=40).filter(is_of_others))
def test_whatever_others_write_the_elements_are_the_same(text: str) -> None:
    assert [shape(document) for document in pages(hostile_view(text))] == PLAIN


def test_hidden_characters_turn_no_line_around() -> None:
    assert "\u202e" not in "".join(pages(hostile_view("a\u202eb")))


@pytest.mark.parametrize("render", pages(page_view(NEWTON, conditions=[SILENT], events=[ADDED])))
def test_nothing_is_loaded_from_anywhere_and_nothing_runs(render: str) -> None:
    page = read_page(render)
    assert not {"script", "img", "iframe", "object", "link", "form", "base"} & {
        each.name for each in page.elements
    }
    for each in page.elements:
        assert not [name for name in each.attributes if name.startswith("on") or name == "style"]
        assert re.match(r"[/?#]", each.attributes.get("href", "/"))


def test_the_policy_admits_the_page_s_own_style_and_nothing_else() -> None:
    policy = dict(SECURITY_HEADERS)["Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    styles = [each.text for each in read_page(render_overview(page_view())).all("style")]
    assert styles == [STYLE]
    assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("render", [render_overview, lambda view: render_peer(view, view.status.peers[0])])
def test_it_can_be_read_without_seeing_it(render: Callable[[PageView], str]) -> None:
    page = read_page(render(page_view(NEWTON, BOHR, conditions=[SILENT], events=[ADDED])))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert next(each.name for each in page.elements if re.fullmatch("h[1-6]", each.name)) == "h1"
    assert len(page.all("h1")) == 1 and not page.all("h3")
    assert {each.attributes["scope"] for each in page.all("th")} <= {"col", "row"}
    first = next(each for each in page.elements if each.name == "a")
    assert first.attributes["href"] == "#main" and "main" in [
        each.attributes.get("id") for each in page.elements
    ]


def test_the_state_of_a_path_is_a_word_and_not_only_a_colour() -> None:
    unborn = peer_state("planck", PathStats(), configured=False)
    page = read_page(render_overview(page_view(NEWTON, BOHR, unborn, peer_state("curie", PathStats()))))
    states = [each.text for each in page.all("span") if each.attributes.get("class") in ("good", "bad")]
    assert [state for state in states if state != "answers"] == ["up", "down", "no peer yet", "not measured"]


def test_the_heat_map_has_every_pair_and_says_whose_word_a_row_is() -> None:
    rows = {"newton": MatrixRow(age_seconds=240.0, told_by="bohr", paths={"tesla": UP, "bohr": DOWN})}
    page = read_page(render_overview(page_view(NEWTON, BOHR, rows=rows)))
    titles = {each.attributes.get("title") for each in page.all("td")}
    assert {
        "tesla to newton: 20.5 ms",
        "tesla to bohr: down",
        "newton to tesla: 20.5 ms",
        "newton to bohr: down",
        "bohr to tesla: not known",
    } <= titles
    row = next(each.text for each in page.all("tr") if each.text.startswith("newtondown"))
    assert "4 min ago, as bohr was told" in row
    assert "nothing is known" in next(each.text for each in page.all("tr") if each.text.startswith("bohr?"))


def test_without_other_hosts_rows_there_is_no_heat_map() -> None:
    assert "Every pair" not in render_overview(page_view(NEWTON, BOHR))


def test_a_relayed_pair_has_its_look_and_its_words() -> None:
    relayed = msgspec.structs.replace(UP, via="bohr")
    page = read_page(
        render_overview(
            page_view(NEWTON, BOHR, rows={"newton": MatrixRow(age_seconds=1.0, paths={"tesla": relayed})})
        )
    )
    (cell,) = [each for each in page.all("td") if "relayed" in each.attributes.get("class", "").split()]
    assert cell.attributes["title"] == "newton to tesla: 20.5 ms by way of bohr"
    assert cell.text == "20.5 ms ~", "no wider than its neighbours"


def test_in_the_picture_a_relayed_pair_goes_by_way_of_the_host_that_carries_it() -> None:
    curie = peer_state("curie", msgspec.structs.replace(UP, via="newton"))
    page = read_page(render_overview(page_view(NEWTON, peer_state("bohr"), curie)))
    lines = [each.attributes for each in page.all("line") if "x1" in each.attributes]
    ends = {(line["x1"], line["y1"], line["x2"], line["y2"]) for line in lines}
    places = {
        anchor.text.partition(":")[0]: (anchor_dot["cx"], anchor_dot["cy"])
        for anchor, anchor_dot in zip(
            [each for each in page.all("title") if ":" in each.text],
            [each.attributes for each in page.all("circle")],
            strict=True,
        )
    }
    assert (*places["newton"], *places["curie"]) in ends
    assert (*places["tesla"], *places["curie"]) not in ends
    assert "curie: up by way of newton, 20.5 ms, 0 % lost" in [each.text for each in page.all("title")]
    assert (
        "tesla to curie: up by way of newton" in read_page(render_peer(page_view(NEWTON, curie), curie)).text
    )


def test_the_page_of_a_pair_has_both_directions_and_the_ways_around() -> None:
    relayed = msgspec.structs.replace(UP, via="tesla")
    rows = {
        "newton": MatrixRow(
            age_seconds=3.0, paths={"bohr": relayed, "tesla": UP, "curie": DOWN}, mtus={"bohr": 1380}
        )
    }
    view = page_view(NEWTON, peer_state("bohr"), peer_state("curie"), rows=rows)
    page = read_page(render_pair(view, "newton", "bohr"))
    assert "newton to bohr: up by way of tesla, 20.5 ms, 0 % lost" in page.text
    assert "1380 bytes" in page.text
    assert "bohr to newton" in page.text and "nothing is known" in page.text
    assert "wgctl path bohr" in page.text
    links = [each.attributes["href"] for each in page.all("a")]
    assert "/host/tesla" in links and "/host/curie" not in links, "newton does not reach curie"
    linked = read_page(render_peer(view, NEWTON))
    assert {"/pair/newton/bohr", "/pair/newton/tesla"} <= {
        each.attributes["href"] for each in linked.all("a")
    }


def test_of_a_pair_that_nobody_has_measured_it_says_so() -> None:
    page = read_page(render_pair(page_view(NEWTON, BOHR), "newton", "bohr"))
    assert "newton to bohr: not known" in page.text and "None that is known." in page.text


def test_a_client_is_on_the_page_with_its_handshake_and_without_a_path() -> None:
    phone = ClientStatus(
        hid="c1" * 16, name="phone", addresses=("10.17.0.200",), public_key="K", configured=True,
        endpoint="198.51.100.7:40211", latest_handshake_at=NOW - 240, receive_bytes=1, transmit_bytes=2,
        granted_by="alice",
    )  # fmt: skip
    view = page_view(NEWTON)
    page = read_page(render_overview(msgspec.structs.replace(view, status=with_clients(view, phone))))
    (row,) = [each.text for each in page.all("tr") if "phone" in each.text]
    assert "10.17.0.200" in row and "4 min" in row and "198.51.100.7:40211" in row
    said = [each.text for each in page.all("p") if "verdict" in each.attributes.get("class", "")]
    assert said == ["All is well: all 1 other hosts answer."]


def with_clients(view: PageView, *clients: ClientStatus) -> Status:
    return msgspec.structs.replace(view.status, clients=clients)
