"""Entity tags of the summary: 304 for who has it already, and only for him (RFC 9110 section 13.1.2)."""

import pytest

from harness import App
from tallycast.web.tags import is_known, make_tag

SUMMARY = "/data/sent-campaigns-summary"


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        pytest.param([], False, id="no header"),
        pytest.param([b'"a"'], True, id="the tag"),
        pytest.param([b'W/"a"'], True, id="weak"),
        pytest.param([b'w/"a"'], True, id="the tag alone of what is no weak one"),
        pytest.param([b"*"], True, id="any"),
        pytest.param([b'"b", W/"a" ,"c"'], True, id="in a list"),
        pytest.param([b'"b","a"'], True, id="in a list without spaces"),
        pytest.param([b'"b"', b'"a"'], True, id="in a second line"),
        pytest.param([b'"b", "c"'], False, id="not in a list"),
        pytest.param([b"a"], False, id="without quotes"),
        pytest.param([b'"x,"a","y"'], False, id="within another tag's text"),
        pytest.param([b'"a'], False, id="cut off"),
        pytest.param([b""], False, id="empty"),
        pytest.param([b'"A"'], False, id="another case"),
        pytest.param([b'"\xff"'], False, id="not ASCII"),
    ],
)
def test_if_none_match_is_read_as_a_list_and_compared_weakly(lines: list[bytes], known: bool) -> None:
    headers = [(b"accept", b"*/*"), *((b"if-none-match", line) for line in lines)]
    assert is_known(headers, b'"a"') is known


def test_the_same_page_has_the_same_tag_until_a_figure_moves(app: App) -> None:
    channel = app.add_channel()
    app.record(channel, ["m-1"])
    first, second = app.request("GET", SUMMARY), app.request("GET", SUMMARY)
    assert first.headers["etag"] == second.headers["etag"]
    assert first.json()["cid"] != second.json()["cid"]
    assert first.headers["etag"] != app.request("GET", f"{SUMMARY}?limit=0").headers["etag"]
    app.post_receipts(channel, {"messageID": "m-1", "status": "read"})
    third = app.request("GET", SUMMARY, headers={"If-None-Match": first.headers["etag"]})
    assert (third.status_code, third.json()["result"][0]["read"]) == (200, 1)
    assert third.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_the_page_is_told_so_without_it(app: App, method: str) -> None:
    app.record(app.add_channel(), ["m-1"])
    known = app.request(method, SUMMARY)
    answer = app.request(method, SUMMARY, headers={"If-None-Match": f'"x", W/{known.headers["etag"]}'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == known.headers["etag"]
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-correlation-id"] != known.headers["x-correlation-id"]
    assert "content-type" not in answer.headers
    again = app.request(method, SUMMARY, headers={"If-None-Match": '"x"'})
    assert again.status_code == 200
    assert again.headers["cache-control"] == "private, no-cache"


def test_a_304_keeps_the_link_to_the_next_page(app: App) -> None:
    channel = app.add_channel()
    for n in range(2):
        app.record(channel, [f"m-{n}"])
    known = app.request("GET", f"{SUMMARY}?limit=1")
    answer = app.request("GET", f"{SUMMARY}?limit=1", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.headers["link"]) == (304, known.headers["link"])


def test_other_answers_are_not_stored(app: App) -> None:
    assert app.request("GET", "/channels").headers["cache-control"] == "no-store"
    assert app.request("GET", f"{SUMMARY}?limit=-1").headers["cache-control"] == "no-store"


def test_the_tag_stands_for_the_bytes_of_the_result() -> None:
    assert make_tag(b"[]") == b'"5feb596270186253f9f617f0"'
