"""Forms of pages as a person fills them in: what is there already is sent along."""

from typing import Any

import httpx

from dashboard import Browser, Page, Tag


def fields_of(page: Page, action: str) -> dict[str, Any]:
    """What the form with this action would send as it is."""
    wanted = {"action": action, "method": "post"}
    start = next(
        n
        for n, tag in enumerate(page.tags)
        if tag.name == "form" and wanted.items() <= tag.attributes.items()
    )
    inside = _until_next(page.tags[start + 1 :])
    fields: dict[str, Any] = {}
    name = ""
    for tag in inside:
        kind, given = tag.attributes.get("type", ""), "checked" in tag.attributes
        if tag.name == "input" and (kind not in {"checkbox", "radio", "file"} or given):
            if kind == "checkbox" and tag.attributes["name"] in fields:
                fields[tag.attributes["name"]] = [*_listed(fields[tag.attributes["name"]]), _value(tag)]
            else:
                fields[tag.attributes["name"]] = _value(tag)
        elif tag.name == "textarea":
            fields[tag.attributes["name"]] = "".join(tag.parts).removeprefix("\n")
        elif tag.name == "select":
            name = tag.attributes["name"]
        elif tag.name == "option" and (name not in fields or "selected" in tag.attributes):
            fields[name] = _value(tag)
    return fields


def _until_next(tags: list[Tag]) -> list[Tag]:
    ends = [n for n, tag in enumerate(tags) if tag.name in {"form", "footer"}]
    return tags[: ends[0]] if ends else tags


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _value(tag: Tag) -> str:
    return tag.attributes.get("value", "")


def submit(browser: Browser, action: str, /, **typed: Any) -> httpx.Response:
    """Send the form with this action, with these fields changed; the answer, which is not followed."""
    fields = {**fields_of(browser.page, action), **{name.replace("__", "."): v for name, v in typed.items()}}
    return browser.see(browser.client.post(action, data=fields))


def upload(browser: Browser, path: str, name: str, content: bytes) -> httpx.Response:
    """Send a file by the form whose action begins with this path."""
    form = next(
        tag
        for tag in browser.page.find_all("form")
        if tag.attributes.get("action", "").startswith(f"{path}?")
    )
    assert form.attributes["enctype"] == "multipart/form-data"
    files = {"file": (name, content, "application/octet-stream")}
    return browser.see(browser.client.post(form.attributes["action"], files=files))
