"""What holds for every provider, whatever arrives."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallycast.events import Event, Unreadable
from tallycast.providers import PROVIDERS, Signed

every_provider = pytest.mark.parametrize("provider", ["360dialog", "meta", "twilio", "generic"])
thoroughly = settings(max_examples=300, deadline=None)

characters = st.characters(exclude_categories=())  # halves of surrogate pairs too
texts = st.text(characters, max_size=20) | st.sampled_from(
    ["wamid.A", "tc:42.7", "tc:42.7:yes", "\0", "\ud83d", "\ud83d\ude00", "x" * 300, "1795430465"]
)
words = st.sampled_from(
    [
        "sent",
        "delivered",
        "read",
        "played",
        "failed",
        "deleted",
        "accepted",
        "button",
        "interactive",
        "text",
        "image",
    ]
)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def shaped(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these members, of which any may be junk, as may be the whole."""
    optional = {name: member | junk for name, member in members.items()}
    return st.fixed_dictionaries({}, optional=optional) | st.fixed_dictionaries(members) | junk


def several(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(item | junk, max_size=4)


errors = several(
    shaped(code=st.integers() | texts, title=texts, message=texts, error_data=shaped(details=texts))
)
statuses = several(
    shaped(
        id=texts, status=words, timestamp=texts | st.integers(), errors=errors, biz_opaque_callback_data=texts
    )
)
chosen = shaped(id=texts, title=texts)
messages = several(
    shaped(
        id=texts,
        type=words,
        timestamp=texts,
        **{"from": texts},
        from_user_id=texts,
        context=shaped(id=texts),
        button=shaped(payload=texts, text=texts),
        interactive=shaped(type=words, button_reply=chosen, list_reply=chosen),
        text=shaped(body=texts),
    )
)
contacts = several(shaped(wa_id=texts, user_id=texts))
preferences = several(
    shaped(value=words | st.sampled_from(["stop", "resume"]), wa_id=texts, user_id=texts, detail=texts)
)
values = shaped(
    statuses=statuses, messages=messages, errors=errors, contacts=contacts, user_preferences=preferences
)
fields = st.sampled_from(["messages", "user_preferences", "account_update", "history"])
changes = several(shaped(field=fields, value=values))
receipts = several(
    shaped(
        messageID=texts,
        status=words,
        timestamp=texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        errorCode=texts | st.integers(),
        errorTitle=texts,
        reference=texts,
    )
)
entries = several(shaped(changes=changes))
envelopes = shaped(entry=entries, statuses=statuses, messages=messages, receipts=receipts)
form_fields = (
    "MessageSid SmsSid MessageStatus SmsStatus Body From ErrorCode ErrorMessage RawDlrDoneDate "
    "ButtonPayload ButtonText OriginalRepliedMessageSid"
)
forms = st.dictionaries(st.sampled_from(form_fields.split()), texts | words | st.just("received"))


def assert_storable(events: list[Event]) -> None:
    for event in events:
        for text in msgspec.structs.astuple(event):
            if isinstance(text, str):
                assert b"\0" not in text.encode()


@every_provider
@thoroughly
@given(body=st.binary())
def test_no_bytes_make_parsing_fail(provider: str, body: bytes) -> None:
    assert_storable(PROVIDERS[provider].parse(body, ""))


@pytest.mark.parametrize("provider", ["360dialog", "generic"])
@thoroughly
@given(body=envelopes)
def test_no_json_makes_parsing_fail(provider: str, body: Any) -> None:
    assert_storable(PROVIDERS[provider].parse(json.dumps(body).encode(), "application/json"))


@pytest.mark.parametrize(
    ("provider", "name", "items", "odd"),
    [
        pytest.param("360dialog", "entry", entries, {"changes": [None]}, id="360dialog"),
        pytest.param("generic", "receipts", receipts, None, id="generic"),
    ],
)
@thoroughly
@given(data=st.data())
def test_an_odd_item_changes_nothing_about_the_others(
    provider: str, name: str, items: st.SearchStrategy[list[Any]], odd: Any, data: st.DataObject
) -> None:
    drawn = data.draw(items)
    parse = PROVIDERS[provider].parse
    *events, kept = parse(json.dumps({name: [*drawn, odd]}).encode(), "application/json")
    assert events == parse(json.dumps({name: drawn}).encode(), "application/json")
    assert kept == Unreadable("Expected `object`, got `null`", b"null")


@thoroughly
@given(form=forms)
def test_no_form_makes_parsing_fail(form: dict[str, str]) -> None:
    body = "&".join(f"{name}={value}" for name, value in form.items()).encode("utf-8", "surrogatepass")
    assert_storable(PROVIDERS["twilio"].parse(body, "application/x-www-form-urlencoded"))


@every_provider
@thoroughly
@given(header=st.text(characters), url=st.text(characters), body=st.binary())
def test_no_header_or_url_is_a_proof_by_accident_or_makes_verifying_fail(
    provider: str, header: str, url: str, body: bytes
) -> None:
    for scheme in ("", "Bearer ", "Basic ", "sha256="):
        names = ("authorization", "x-360dialog-signature", "x-hub-signature-256", "x-twilio-signature")
        request = Signed(dict.fromkeys(names, scheme + header), (url, "https://" + url), body)
        assert not PROVIDERS[provider].verify("a secret that nobody guesses", {}, request)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [pytest.param("smpp", "generic", id="smpp"), pytest.param("sandbox", "360dialog", id="sandbox")],
)
def test_a_provider_may_speak_the_format_of_another(name: str, same_as: str) -> None:
    assert PROVIDERS[name] is PROVIDERS[same_as]
