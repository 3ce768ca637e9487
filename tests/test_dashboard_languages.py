"""The language of a page reaches what the domain says in it: failures, faults of files and forms, pauses, countries."""

# ruff: noqa: RUF001 - Chinese has punctuation of its own

import ast
import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import phonenumbers
import psycopg
import pytest

import tallycast
from dashboard import Browser, House, Page, make_house
from harness import App, Server
from tallycast import apps, db, failures, hosts, providers, standstills, trials, worker
from tallycast.dashboard import catalogue, pages
from tallycast.dashboard.sayings import say
from tallycast.providers import refusals, smpp
from tallycast.providers.contract import Rule

SOURCE = Path(tallycast.__file__).parent
CHINESE = "zh-Hant"
# Whose texts no page shows: commands, the simulator, and parts of the API that the dashboard has no form for.
ELSEWHERE = re.compile(
    r"(api|cli|commands|config|demo|embedded|assistant|simulator|parameters|recordings|intake|changes|live|rotation)\b"
    r"|web/(?!answers|uploads)|(api|cli|demo)_"
)
# What refuses, and what becomes a reason that is kept.
TOLD = {
    "of", "BadQuery", "Unprocessable", "TooLarge", "UnsupportedMediaType", "ServiceUnavailable", "Misfit", "Unreadable",
    "RenderError", "InvalidNumber", "ValueError", "BadTarget", "BadMoment", "BadKey", "BadSender", "Unknown", "Rule",
    "WaitingFor", "_error", "_unreachable", "_disable", "end", "queue_again", "PutOff", "Failed", "_put_off",
}  # fmt: skip
# What else makes such texts.
TELLERS = {
    "candidates": {"_find_fault", "judge"},
    "links": {"set_aside_reason"},
    "standstills": {"_tell_pause", "_tell_fallback"},
    "stages": {"_reason"},
    "stories": {"_tell_way", "_tell_failure"},
    "suspicion": {"note"},
    "worker": {"_find_doubt", "_try_start"},
    "audience": {"_compare"},
    "spreadsheets": {"_read_quoted", "_parse", "_read_object", "_arrange"},
}
# What stands where a text has a value that is a text of ours itself.
VALUES = {
    "why": " (§)",
    "whose": "Its channel",
    "said": "§.",
    "LIST_IT": hosts.LIST_IT,
    "_too_long(parts)": "takes § SMS parts, and at most § can be sent",
}
# Two English words in a row, but for what is typed into a terminal.
ENGLISH = re.compile(r"(?<!`)\b(?!openssl rand)[A-Za-z][a-z']+ [a-z']{2,}\b")


def read(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may come to, with § for each value."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(
                str(part.value)
                if isinstance(part, ast.Constant)
                else VALUES.get(ast.unparse(cast("ast.FormattedValue", part).value), "§")
                for part in parts
            )
        case ast.IfExp(body=one, orelse=other):
            yield from (*read(one), *read(other))


def texts_of(tree: ast.AST, tellers: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [*node.args] if name in TOLD else []
            given += [one.value for one in node.keywords if one.arg == "error"]
            yield from (text for one in given for text in read(one))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in tellers:
            inner = [one for one in ast.walk(node) if isinstance(one, ast.JoinedStr | ast.Constant)]
            parts = {id(part) for one in inner if isinstance(one, ast.JoinedStr) for part in one.values}
            said = {ast.get_docstring(node, clean=False)}
            yield from (
                text for one in inner if id(one) not in parts for text in read(one) if text not in said
            )


def list_texts() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not ELSEWHERE.match(name):
            tree, tellers = ast.parse(path.read_text()), TELLERS.get(path.stem, set())
            assert tellers <= {getattr(node, "name", "") for node in ast.walk(tree)}
            found = texts_of(tree, tellers)
            yield from ((name, text) for text in found if re.search(r"[a-z] [a-z]", text))


def list_rules() -> list[Rule]:
    listed = [rule for table in providers._ERRORS.values() for rule in table.values()]  # noqa: SLF001 - all there are
    return [*listed, refusals.BUSY, refusals.REFUSED, refusals.REDIRECTED, smpp._UNLISTED]  # noqa: SLF001 - the same


def is_told(text: str) -> bool:
    told = say(CHINESE, text)
    return told != text and ENGLISH.search(told) is None


def test_every_text_that_the_domain_makes_for_people_is_told_in_chinese() -> None:
    texts = list(list_texts())
    assert len(texts) > 250
    assert [(name, text, say(CHINESE, text)) for name, text in texts if not is_told(text)] == []


def test_every_failure_of_each_provider_is_told_in_chinese_whole_and_in_parts() -> None:
    kept = [
        text
        for rule in list_rules()
        for text in (
            rule.words,
            refusals.title_of(rule),
            f"{rule.words} (131026 Locked)",
            *refusals.read_words(rule),
        )
    ]
    own = [text for texts in failures._OWN.values() for text in texts]  # noqa: SLF001 - all there are
    advice = [getattr(failures, name) for name in ("_SEND_AGAIN", "_SAME_AGAIN", "_STOPPED", "_ASK")]
    assert [text for text in (*kept, *own, *advice) if text and not is_told(text)] == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("Reach this recipient by SMS.", "請改以短訊聯絡此收件人。"),
        ("The SMSC refused the password: check the credential password (0x0E)", "SMSC 不接受密碼：請檢查憑證 password（0x0E）"),
        ("too short for a number of country code +852; is the country code missing?",
         "作為國家或地區代碼 +852 的號碼，太短；是否欠缺國家或地區代碼？"),
        ("7 of 20 rows cannot be taken, so none was", "20 行中有 7 行無法接收，因此全部沒有匯入"),
        ("prefetch: prefetch;prerender", "預先讀取：prefetch;prerender"),
        ("What is left was put off: quiet hours until 01:00 UTC.", "餘下的訊息已延後：靜默時段至 01:00 UTC。"),
        ("It could not start: its channel c1 is paused (The provider waits for a payment. Settle it there, then resume the "
         "channel. (402)): resume the channel first", "無法開始：渠道 c1 已暫停（供應商正等候付款。請向供應商付清款項，然後繼續此渠道（402）。）：請先繼續此渠道"),
        ("20 messages in a row were not accepted. The last reason: Message too long. Twilio takes 1600 characters at most. (21617)",
         "連續 20 則訊息不獲接受。最後的原因：訊息過長。Twilio 最多接受 1600 個字元（21617）。"),
        ("{{city}} is no column of the audience: its columns are name, code", "收件人名單沒有 {{city}} 欄：欄位有 name, code"),
        ("(131) Recipient's phone: not allowed. Ask us (or them)", "(131) Recipient's phone: not allowed. Ask us (or them)"),
        ("", ""),
        ("Too many requests. " * 60, "Too many requests. " * 60),
    ],
)  # fmt: skip
def test_a_text_is_told_with_its_values_and_what_others_have_written_stays(
    english: str, chinese: str
) -> None:
    assert say(CHINESE, english) == chinese
    assert say("en", english) == english


def test_what_waits_is_told_in_chinese() -> None:
    look = SimpleNamespace(is_own=False, channel_id="c1", paused="Account suspended.")
    sending = SimpleNamespace(fallback_seconds=60)
    told = [
        standstills.NO_WORKER,
        standstills._tell_pause(cast("Any", look)),  # noqa: SLF001 - as pages show it
        standstills._tell_fallback(cast("Any", sending)),  # noqa: SLF001 - the same
        worker.RESTORED,
        trials._LATE,  # noqa: SLF001 - the same
    ]
    assert [text for text in told if not is_told(f"{text}.") or not is_told(text)] == []
    assert say(CHINESE, told[1]) == "後備渠道 c1 已暫停（帳戶已被暫停。）：請先處理，再到設定繼續此渠道"


def test_a_translation_has_the_values_of_its_text_and_no_markup() -> None:
    sayings = catalogue.load_sayings(CHINESE)
    assert catalogue.load_sayings("en") == {}
    for english, said in sayings.items():
        names = [set(re.findall(r"(?<!{){(\w+)}(?!})", text)) for text in (english, said)]
        assert names[1] <= names[0], english
        assert said.strip() == said != "", english
        assert not re.search(r"[<>&]", said), english


def test_each_country_has_a_name_in_each_language_and_an_unknown_code_stays() -> None:
    for language in catalogue.LANGUAGES:
        named = {code: catalogue.name_country(language, code) for code in phonenumbers.SUPPORTED_REGIONS}
        assert [code for code, name in named.items() if not name.endswith(f" ({code})")] == []
        assert catalogue.name_country(language, "ZZ") == "ZZ"
    assert catalogue.name_country("en", "HK") == "Hong Kong (HK)"
    assert catalogue.name_country(CHINESE, "HK") == "香港 (HK)"


@pytest.fixture
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture
def shop(house: House, client: httpx.Client) -> App:
    async def make() -> str:
        async with db.connect(house.database_url) as connection:
            return (await apps.create_token(connection, house.app_id)).plain

    return App(house.server_url, house.app_id, asyncio.run(make()), client)


def enter(house: House, who: str) -> Browser:
    browser = house.enter(who)
    browser.client.cookies.set("tallycast_language", CHINESE)
    return browser


def write(house: House, statement: str) -> None:
    """What a worker has written: which provider it asked, why it paused a channel."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute(statement.encode(), [house.app_id])


def english_of(page: Page) -> list[str]:
    """What is marked as English."""
    return [tag.text for tag in page.find_all("span", lang="en")]


def test_the_failures_and_countries_of_a_campaign_are_told_in_the_readers_language(
    house: House, shop: App
) -> None:
    channel, message_id = shop.add_channel(), f"{uuid.uuid4()}"
    campaign = shop.record(channel, [message_id])
    failed = {
        "messageID": message_id,
        "status": "failed",
        "errorCode": "131047",
        "errorTitle": "Re-engagement message",
    }
    shop.post_receipts(channel, failed)
    write(house, "update channels set provider = '360dialog' where app_id = %s")
    browser, base = enter(house, "viewer"), f"/apps/{house.app_id}/campaigns/{campaign}"
    browser.get(f"{base}/insights/failures")
    assert "收件人已超過 24 小時沒有來訊。" in browser.page.text
    assert "只有範本訊息才可送達這類收件人。" in browser.page.text
    assert english_of(browser.page) == ["Re-engagement message"]
    browser.get(f"{base}/insights/countries")
    assert "香港 (HK)" in browser.page.text
    assert any(
        "country=HK" in tag.attributes["href"]
        for tag in browser.page.find_all("a")
        if "href" in tag.attributes
    )
    browser.get(f"{base}/recipients?more=1")
    assert {"香港 (HK)", "收件人已超過 24 小時沒有來訊。"} <= {
        tag.text.strip() for tag in browser.page.find_all("option")
    }
    [row] = shop.result("GET", f"/data/campaigns/{campaign}/insights")["failures"]
    assert row["words"] == "The recipient has not written for more than 24 hours."


def test_why_a_channel_is_paused_is_told_in_the_readers_language(house: House, shop: App) -> None:
    channel = shop.add_channel()
    reason = "Account suspended. Ask Twilio's support for the reason, then resume. (30002)"
    write(house, f"update channels set paused_at = now(), paused_reason = $${reason}$$ where app_id = %s")
    browser = enter(house, "admin")
    for page in (f"settings/channels/{channel}", "settings/channels", "attention"):
        browser.get(f"/apps/{house.app_id}/{page}")
        assert "帳戶已被暫停。請向 Twilio 支援團隊查詢原因，然後繼續（30002）。" in browser.page.text
    assert [one["paused"]["reason"] for one in shop.result("GET", "/channels")] == [reason]


def test_what_is_wrong_with_a_form_is_told_in_the_readers_language(house: House) -> None:
    browser = enter(house, "admin")
    browser.get(f"/apps/{house.app_id}/settings/tokens")
    assert (
        browser.post(
            f"/apps/{house.app_id}/settings/tokens", name="x", scopes="reports", days="0"
        ).status_code
        == 422
    )
    assert "日數必須是 1 至 3650 的數字" in browser.page.text
    browser.get(f"/apps/{house.app_id}/campaigns?sort=nothing")
    assert browser.page.find("html").attributes["lang"] == CHINESE
    assert "排序必須是" in browser.page.text


def test_why_rows_and_files_are_set_aside_is_told_in_the_readers_language() -> None:
    errors = [
        SimpleNamespace(line=2, cells=["123"], error="country code missing"),
        SimpleNamespace(line=3, cells=["+85221234567"], error="a landline number"),
        SimpleNamespace(line=4, cells=["<b>"], error="<b>what nobody has translated"),
    ]
    one = SimpleNamespace(
        state="refused", reason="3 of 9 rows cannot be taken, so none was", rows=9, accepted=0, duplicate=0, opted_out=0,
        invalid=2, landline=1, import_id="i",
    )  # fmt: skip
    part = pages.write_part(
        "_import.html", CHINESE, "UTC", one=one, errors=errors, is_running=False, is_untaken=False, base=""
    )
    for told in ("9 行中有 3 行無法接收，因此全部沒有匯入", ">缺少國家或地區代碼<", ">固網號碼<"):
        assert told in part
    assert '<span lang="en">&lt;b&gt;what nobody has translated</span>' in part
