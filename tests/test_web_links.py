"""Tracked links: they redirect at once, know a person from a preview, and count every person's click."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness import App, Server, start_server, wait_for
from tallycast import embedded

TARGET = "https://shop.example.com/sale?a=b&c=%C3%A9#top"
PERSON = {
    "User-Agent": "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
}


def make_links(app: App, campaign: str, url: str = TARGET) -> list[str]:
    made = app.result("POST", f"/sent-campaigns/{campaign}/links", json={"url": url})["links"]
    assert all(list(one) == ["recipient", "url"] for one in made)
    return [one["url"] for one in made]


@pytest.fixture
def campaign(app: App) -> str:
    return app.record(app.add_channel(), ["m-0", "m-1", None])


@pytest.fixture
def link(app: App, campaign: str) -> str:
    return make_links(app, campaign)[0]


def hits(database_url: str, app: App) -> list[tuple[str, str | None]]:
    """(method, why it does not count) of each hit, in order."""
    query = "select method, set_aside from clicks where app_id = %s order by clicked_at, click_id"
    with psycopg.connect(database_url) as connection:
        return [(method, reason) for method, reason in connection.execute(query, [app.app_id])]


def test_each_message_has_a_link_of_its_own_and_the_same_target_gives_the_same_again(
    app: App, campaign: str
) -> None:
    answer = app.request("POST", f"/sent-campaigns/{campaign}/links", json={"url": TARGET})
    assert answer.status_code == 201
    made = answer.json()["result"]["links"]
    assert [one["recipient"] for one in made] == ["+85291000000", "+85291000001", "+85291000002"]
    urls = [one["url"] for one in made]
    assert len(set(urls)) == 3
    assert all(url.startswith(f"{app.server_url}/r/") and len(url.rpartition("/")[2]) == 19 for url in urls)
    assert make_links(app, campaign) == urls
    assert set(make_links(app, campaign, "https://shop.example.com/other")).isdisjoint(urls)


def test_messages_that_are_added_later_get_their_link_and_the_others_keep_theirs(
    app: App, campaign: str
) -> None:
    before = make_links(app, campaign)
    lines = b'{"recipient":"+85291000009"}'
    app.result(
        "POST",
        f"/sent-campaigns/{campaign}/messages",
        content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )
    after = make_links(app, campaign)
    assert (after[:3], len(after)) == (before, 4)


def test_a_campaign_of_many_messages_gets_all_its_links_in_one_answer(app: App) -> None:
    campaign = app.record(app.add_channel(), [None] * 6001)
    assert len(set(make_links(app, campaign))) == 6001


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("javascript:alert(1)", id="javascript"),
        pytest.param("data:text/html,x", id="data"),
        pytest.param("ftp://shop.example.com/", id="ftp"),
        pytest.param("/sale", id="relative"),
        pytest.param("//shop.example.com/", id="no scheme"),
        pytest.param("https:shop.example.com", id="no slashes"),
        pytest.param("https:///sale", id="no host"),
        pytest.param("https://", id="nothing"),
        pytest.param("", id="empty"),
        pytest.param("https://shop.example.com/\r\nSet-Cookie: a=b", id="line end"),
        pytest.param("https://shop.example.com/\0", id="NUL"),
        pytest.param("https://shop.example.com/\x7f", id="DEL"),
        pytest.param(" https://shop.example.com/", id="space before"),
        pytest.param("https://shop.example.com/a b", id="space inside"),
        pytest.param("https://shop.example.com\\@evil.example/", id="backslash"),
        pytest.param("https://user@shop.example.com/", id="user"),
        pytest.param("https://user:secret@shop.example.com/", id="user and password"),
        pytest.param("https://shop.example.com:99999/", id="no such port"),
        pytest.param("https://shop.example.com:0/", id="port 0"),
        pytest.param("http://[::1", id="bracket"),
        pytest.param("https://shop.example.com/é", id="not ASCII"),
        pytest.param("https://shop.example.com/" + "a" * 1976, id="over 2000 characters"),
    ],
)
def test_a_target_that_is_no_plain_web_address_is_refused(app: App, campaign: str, url: str) -> None:
    answer = app.request("POST", f"/sent-campaigns/{campaign}/links", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
    assert (
        answer.json()["message"]
        == "Bad query: url must be an absolute http(s) URL of at most 2000 ASCII characters"
    )


@pytest.mark.parametrize("body", [{}, {"url": 1}, {"url": None}, {"url": TARGET, "more": 1}, [TARGET]])
def test_a_body_without_a_target_is_refused(app: App, campaign: str, body: Any) -> None:
    assert app.request("POST", f"/sent-campaigns/{campaign}/links", json=body).status_code == 400


def test_a_link_redirects_to_exactly_its_target_and_may_not_be_stored(app: App, link: str) -> None:
    answer = httpx.get(link, headers=PERSON)
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, TARGET, b"")
    assert (answer.headers["cache-control"], answer.headers["x-robots-tag"]) == ("no-store", "noindex")
    assert httpx.get(link + "?utm=1", headers=PERSON).headers["location"] == TARGET
    wait_for(lambda: app.summary()[0]["replied"] == 2)


def test_every_click_of_a_person_counts_and_previews_do_not(
    app: App, campaign: str, link: str, database_url: str
) -> None:
    for _ in range(3):
        httpx.get(link, headers=PERSON)
    aside = [
        ("HEAD", PERSON),
        ("OPTIONS", PERSON),
        ("GET", PERSON | {"Purpose": "prefetch"}),
        ("GET", PERSON | {"Sec-Purpose": "prefetch;prerender"}),
        ("GET", PERSON | {"X-Purpose": "preview"}),
        ("GET", PERSON | {"X-Moz": "prefetch"}),
        ("GET", {"User-Agent": "WhatsApp/2.23.18.78 i"}),
        ("GET", {"User-Agent": "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"}),
        (
            "GET",
            {
                "User-Agent": "Mozilla/5.0 (Macintosh) Safari/601 facebookexternalhit/1.1 Facebot Twitterbot/1.0"
            },
        ),
        ("GET", {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}),
        ("GET", {"User-Agent": "curl/8.5.0"}),
        ("GET", {"User-Agent": ""}),
    ]
    for method, headers in aside:
        answer = httpx.request(method, link, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (302, TARGET), (
            "they are redirected all the same"
        )
    found = wait_for(lambda: known if len(known := hits(database_url, app)) == 3 + len(aside) else [])
    assert [reason for _, reason in found[:3]] == [None] * 3
    assert None not in [reason for _, reason in found[3:]]
    assert [method for method, _ in found[3:5]] == ["HEAD", "OPTIONS"]
    assert app.totals(campaign)["replied"] == 3


def test_replies_are_distinct_buttons_and_all_human_clicks(app: App, server: Server) -> None:
    channel = app.add_channel(provider="360dialog")
    campaign = app.record(channel, ["wamid.0", "wamid.1"])

    def click(button: str, message: str, inbound: str) -> dict[str, Any]:
        return {"from": "85291000000", "id": inbound, "timestamp": "1795402800", "type": "button",
                "button": {"payload": button, "text": button}, "context": {"id": message}}  # fmt: skip

    clicks = [
        click("yes", "wamid.0", "i1"),
        click("yes", "wamid.0", "i2"),
        click("no", "wamid.0", "i3"),
        click("yes", "wamid.1", "i4"),
    ]
    value = {"messaging_product": "whatsapp", "messages": clicks}
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    }
    assert httpx.post(f"{server.url}/webhooks/360dialog/{channel}", json=body).status_code == 200
    assert app.totals(campaign)["replied"] == 3
    for link in (*make_links(app, campaign), make_links(app, campaign)[0]):
        httpx.get(link, headers=PERSON)
    wait_for(lambda: app.totals(campaign)["replied"] == 6)


def odd_codes(code: str) -> dict[str, str]:
    flipped = "A" if code[-1] != "A" else "B"
    return {
        "empty": "",
        "short": code[:-1],
        "long": code + "A",
        "last letter": code[:-1] + flipped,
        "first letter": ("A" if code[0] != "A" else "B") + code[1:],
        "link's letter": code[:4] + ("A" if code[4] != "A" else "B") + code[5:],
        "another case": code.swapcase(),
        "all z": "z" * 19,
        "the seal's overflow": code[:8] + "z" * 11,
        "a slash": code + "/x",
        "escaped": "%00" + code[1:],
        "not ASCII": "%C3%A9" + code[1:],
        "line end": code + "%0A",
        "full-width": "%EF%BC%A1" + code[1:],
    }


def test_a_code_that_was_never_given_out_is_404_and_leaves_no_trace(
    app: App, campaign: str, link: str
) -> None:
    base, _, code = link.rpartition("/")
    for name, odd in odd_codes(code).items():
        answer = httpx.get(f"{base}/{odd}", headers=PERSON)
        assert (name, answer.status_code) == (name, 404)
    httpx.get(link, headers=PERSON)
    wait_for(lambda: app.totals(campaign)["replied"])
    assert app.totals(campaign)["replied"] == 1


def test_a_link_that_another_process_made_is_found(
    app: App, campaign: str, database_url: str, server: Server, tmp_path: Path
) -> None:
    key = (server.data_dir / "secret.key").read_text().strip()
    other = start_server(tmp_path, "--database-url", database_url, environ={"TALLYCAST_ENCRYPTION_KEY": key})
    try:
        code = make_links(app, campaign)[0].rpartition("/")[2]
        assert httpx.get(f"{other.url}/r/{code}", headers=PERSON).headers["location"] == TARGET
        wait_for(lambda: app.totals(campaign)["replied"] == 1)
    finally:
        assert other.stop() == 0


def test_reclassifying_moves_the_counts_with_the_verdicts(
    app: App, server: Server, campaign: str, link: str, database_url: str
) -> None:
    for agent in ("Mozilla/5.0 Chrome/126.0", "Mozilla/5.0 Chrome/126.0", "curl/8.5.0"):
        httpx.get(link, headers={"User-Agent": agent})
    wait_for(lambda: len(hits(database_url, app)) == 3)
    assert app.totals(campaign)["replied"] == 2
    with psycopg.connect(database_url) as connection:  # as if an older version had judged otherwise
        connection.execute(
            "update clicks set set_aside = case when set_aside is null then 'older' end where app_id = %s",
            [app.app_id],
        )
        connection.execute("update counts set clicks = 1 where app_id = %s", [app.app_id])
    assert app.totals(campaign)["replied"] == 1
    assert server.run("clicks", "reclassify", "--app", app.app_id).startswith("3 hits changed at ")
    assert app.totals(campaign)["replied"] == 2
    assert server.run("clicks", "reclassify", "--app", app.app_id).startswith("0 hits changed at ")
    assert "drift 0" in server.run("audit", "--app", app.app_id)


def test_links_redirect_while_the_database_is_away_and_the_clicks_are_counted_later(
    tmp_path: Path, make_app: Callable[[Server], App]
) -> None:
    server = start_server(tmp_path)
    app = make_app(server)
    campaign = app.record(app.add_channel(), ["m-0"])
    [link] = make_links(app, campaign)
    database = embedded.find(tmp_path)
    assert database is not None
    os.kill(database.pid, signal.SIGKILL)
    try:
        wait_for(lambda: app.request("GET", "/data/sent-campaigns-summary").status_code == 503)
        for _ in range(5):
            answer = httpx.get(link, headers=PERSON)
            assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
            assert answer.elapsed.total_seconds() < 0.5, "a redirect waits for no database"
        assert httpx.get(link[:-1] + ("0" if link[-1] != "0" else "1"), headers=PERSON).status_code == 404
        wait_for(lambda: list((tmp_path / "spool").glob("*.ndjson")))
        again = embedded.start(tmp_path)
        try:
            wait_for(lambda: app.request("GET", "/data/sent-campaigns-summary").status_code == 200)
            wait_for(lambda: app.totals(campaign)["replied"] == 5)
            assert server.audit() == {"campaigns": 1, "messages": 1, "drift": 0}
        finally:
            again.stop()
    finally:
        database.stop()
        assert server.stop() == 0
