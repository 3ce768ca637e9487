"""A campaign from nothing to its last receipt, by the pages alone: two people, a file, and figures that move."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import FilePayload, Page, expect

from browser.conftest import Enter, Shop
from harness import wait_for


def write_people(size: int) -> FilePayload:
    rows = "".join(f"+8529200{n:04d},Mei {n}\n" for n in range(size))
    text = f"Phone,First name\n{rows}nobody at all,X\n"
    return {"name": "people.csv", "mimeType": "text/csv", "buffer": text.encode()}


def make_draft(page: Page, shop: Shop, name: str, size: int) -> None:
    """From the list to the review of a draft with recipients."""
    page.get_by_role("link", name="New campaign").click()
    page.get_by_role("link", name="SMS, one text for all").click()
    page.get_by_label("Name of the campaign").fill(name)
    page.get_by_label("Channel").select_option(shop.channels["sms"])
    page.get_by_label("Text").fill("Hi {{First name}}, we are open.")
    page.get_by_role("button", name="Save and go on to the recipients").click()
    page.get_by_label("File").set_input_files([write_people(size)])
    page.get_by_role("button", name="Upload").click()
    page.get_by_label("Phone number").select_option("Phone")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("Done")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="nobody at all")).to_be_visible()
    page.get_by_role("link", name="On to the review").click()
    expect(page.get_by_text("Hi Mei 0, we are open.")).to_be_visible()


def figure_of(page: Page, state: str) -> int:
    return int(page.inner_text(f"#figure-{state}").replace(",", ""))


def test_a_campaign_is_made_by_the_pages_paused_resumed_and_its_figures_move_by_themselves(
    enter: Enter, shop: Shop
) -> None:
    window = enter("admin")
    page = window.open(f"{shop.path}/campaigns")
    make_draft(page, shop, "We are open", 60)
    page.get_by_role("link", name="Start now").click()
    page.get_by_role("button", name="Send to 60 recipients").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("We are open")
    page.evaluate("window.isSame = true")
    wait_for(lambda: figure_of(page, "delivered") > 3)
    page.get_by_role("button", name="Pause").first.click()
    page.get_by_label("Why (kept in the history)").first.fill("the tills are down")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator("#notice")).to_contain_text("the tills are down")
    queued = figure_of(page, "queued")
    assert 0 < queued < 60
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#notice")).not_to_contain_text("the tills are down")
    page.evaluate("window.isSame = true")
    expect(page.locator("#figure-delivered")).to_have_text("60", timeout=30_000)
    expect(page.locator("#figure-queued")).to_have_text("0")
    assert page.evaluate("window.isSame") is True
    assert window.troubles == []


@pytest.fixture
def approval(shop: Shop) -> Iterator[None]:
    shop.api.result("PATCH", "/policy", json={"requiresApproval": True})
    yield
    shop.api.result("PATCH", "/policy", json={"requiresApproval": False})


@pytest.mark.usefixtures("approval")
def test_what_one_person_submits_another_one_approves_and_starts(enter: Enter, shop: Shop) -> None:
    editor, approver = enter("editor"), enter("approver")
    page = editor.open(f"{shop.path}/campaigns")
    make_draft(page, shop, "To be approved", 4)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("main")).to_contain_text("Waiting for approval")
    expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    other = approver.open(f"{shop.path}/campaigns?stage=pendingApproval")
    other.get_by_role("link", name="To be approved").click()
    other.get_by_role("button", name="Approve", exact=True).click()
    expect(other.get_by_role("status")).to_contain_text("To be approved is approved.")
    other.get_by_role("link", name="Start now").click()
    other.get_by_role("button", name="Send to 4 recipients").click()
    expect(other.locator("#figure-delivered")).to_have_text("4", timeout=30_000)
    assert (editor.troubles, approver.troubles) == ([], [])


def test_a_draft_is_made_by_keyboard_alone(enter: Enter, shop: Shop) -> None:
    window = enter("editor")
    page = window.open(f"{shop.path}/campaigns/new?kind=smsDynamic")
    page.get_by_label("Name of the campaign").focus()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Channel")).to_be_focused()
    page.get_by_label("Channel").select_option(shop.channels["sms"])
    page.keyboard.press("Tab")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.type("Hello")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("Track links")).not_to_be_checked()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("By keyboard")
    expect(page.get_by_label("File")).to_be_visible()
    assert window.troubles == []
