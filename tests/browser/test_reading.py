"""Signing in and looking: lists, figures, the people behind them, downloads, languages, and no scripts at all."""

import csv
import io
import re
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, expect

from browser.conftest import NASTY, Enter, Shop
from dashboard import PASSWORD
from harness import start_server, wait_for


def test_the_link_of_the_first_run_makes_the_owner_once_who_can_sign_in_again(
    chromium: Browser, tmp_path: Path
) -> None:
    server = start_server(tmp_path)
    link = re.compile(r"http://\S+/welcome/\S+")
    [url] = wait_for(lambda: link.findall(server.log.read_text()))
    page = chromium.new_page(locale="en-GB")
    page.goto(url)
    for label, value in (("Email", "mei@example.com"), ("Name", "Mei Chan"), ("Staff ID (EID)", "E7")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Apps")).to_be_visible()
    page.get_by_text("Mei Chan").click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(url)
    expect(page.get_by_role("heading", name="This link is not valid")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Email").fill("mei@example.com")
    page.get_by_label("Password").fill("not this one at all")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This email and password do not belong together.")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Apps")).to_be_visible()
    page.close()
    assert server.stop() == 0


def test_the_list_is_filtered_by_channel_period_and_name_sorted_and_its_url_can_be_shared(
    enter: Enter, shop: Shop
) -> None:
    window = enter("viewer")
    page = window.open(f"{shop.path}/campaigns")
    names = page.locator("tbody th a")
    page.get_by_role("link", name="SMS", exact=True).click()
    expect(page.get_by_role("link", name="Opening hours")).to_be_visible()
    expect(names.filter(has_text=NASTY)).to_have_count(0)
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_label("Name or campaign ID").fill("opening")
    page.keyboard.press("Enter")
    expect(names).to_have_text(["Opening hours"])
    page.get_by_label("Period").select_option("yesterday")
    expect(page.get_by_text("No campaign like this")).to_be_visible()
    page.get_by_label("Period").select_option("7d")
    expect(names).to_have_text(["Opening hours"])
    assert set(page.url.partition("?")[2].split("&")) >= {"q=opening", "period=7d"}
    page.goto(f"{shop.house.server_url}{shop.path}/campaigns?period=today")
    page.get_by_role("link", name="Recipients").first.click()
    expect(names.first).to_have_text(NASTY)
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.locator("th[aria-sort] a").click()
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    assert window.troubles == []


def test_the_id_of_a_campaign_is_copied(enter: Enter, shop: Shop) -> None:
    window = enter("viewer", permissions=["clipboard-read", "clipboard-write"])
    page = window.open(f"{shop.path}/campaigns?q=opening")
    page.get_by_role("button", name="Copy the ID of Opening hours").click()
    expect(page.locator("[data-copy]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shop.campaigns["sms"]


def test_a_figure_leads_to_its_people_and_a_person_to_the_whole_story(enter: Enter, shop: Shop) -> None:
    window = enter("viewer")
    page = window.open(f"{shop.path}/campaigns")
    row = page.get_by_role("row").filter(has_text=NASTY).filter(has_text=shop.campaigns["recorded"])
    row.get_by_role("link", name=NASTY).click()
    window.settle()
    expect(page.locator("#figure-read")).to_have_text("2")
    page.locator("#figure-read").click()
    expect(page.locator("tbody th")).to_have_text(["+85291000000", "+85291000001"])
    page.get_by_role("link", name="+85291000000").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("+85291000000")
    kinds = [re.sub(r"\W.*", "", one.get_attribute("class") or "") for one in page.locator(".story li").all()]
    assert (kinds[0], sorted(kinds[1:])) == ("accepted", ["button", "click", "click", "read"])
    expect(page.locator(".story")).to_contain_text(NASTY)
    page.get_by_role("link", name="Recipients").click()
    page.get_by_label("State").select_option("failed")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody")).to_contain_text("The provider gives no reason.")
    assert window.troubles == []


def test_reasons_countries_links_and_buttons_lead_to_people_too(enter: Enter, shop: Shop) -> None:
    window = enter("viewer")
    for side, column, people in (
        ("failures", "131049", ["+85291000004"]),
        ("countries", "HK", [f"+8529100000{n}" for n in range(8)]),
        ("links", "shop.example.com", ["+85291000000"]),
        ("buttons", "<script>", ["+85291000000"]),
    ):
        page = window.open(shop.path_of("recorded"))
        row = page.locator(f"#side-{side} tbody tr").filter(has_text=column)
        row.locator("td a").first.click()
        expect(page.locator("tbody th")).to_have_text(people)


def test_a_downloaded_csv_and_xlsx_open_with_the_rows_of_the_page(enter: Enter, shop: Shop) -> None:
    window = enter("viewer", accept_downloads=True)
    page = window.open(shop.path_of("recorded"))
    numbers = [f"+8529100000{n}" for n in range(8)]
    page.get_by_text("Download").click()
    with page.expect_download() as found:
        page.get_by_role("link", name="CSV", exact=True).click()
    rows = list(csv.DictReader(io.StringIO(found.value.path().read_text("utf-8-sig"))))
    assert [row["recipient"].lstrip("'") for row in rows] == numbers
    assert [row["state"] for row in rows][:5] == ["read", "read", "delivered", "failed", "failed"]
    with page.expect_download() as found:
        page.get_by_role("link", name="Excel (XLSX)").click()
    assert found.value.suggested_filename.endswith(".xlsx")
    saved = io.BytesIO(found.value.path().read_bytes())
    sheet = openpyxl.load_workbook(saved, read_only=True).worksheets[0]
    heads, *body = sheet.iter_rows(values_only=True)
    assert [str(row[heads.index("recipient")]) for row in body] == numbers


@pytest.mark.parametrize(("choice", "ground"), [("Dark", "rgb(20, 24, 27)"), ("Light", "rgb(246, 247, 248)")])
def test_a_chosen_theme_stays_whatever_the_system_says(enter: Enter, choice: str, ground: str) -> None:
    page = enter("", color_scheme="light" if choice == "Dark" else "dark").open("/sign-in")
    page.get_by_text("Display").click()
    with page.expect_navigation():
        page.get_by_role("button", name=choice).click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    page.get_by_text("Display").click()
    with page.expect_navigation():
        page.get_by_role("button", name="System").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


def test_a_browser_in_chinese_gets_pages_in_traditional_chinese(enter: Enter, shop: Shop) -> None:
    window = enter("viewer", locale="zh-HK")
    page = window.open(shop.path_of("recorded"))
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hant")
    for word in ("已送達", "已讀", "失敗", "收件人"):
        expect(page.locator("main")).to_contain_text(word)
    assert window.troubles == []


def test_without_scripts_every_figure_can_be_read_and_every_filter_used(enter: Enter, shop: Shop) -> None:
    page = enter("viewer", java_script_enabled=False).open(f"{shop.path}/campaigns?q=opening")
    expect(page.locator("tbody th a")).to_have_text(["Opening hours"])
    expect(page.locator("[data-copy]")).to_be_hidden()
    page.get_by_role("link", name="All of these together").click()
    expect(page.locator(".figure").first).to_contain_text("1")
    page.goto(f"{shop.house.server_url}{shop.path_of('recorded')}")
    expect(page.locator("#figure-failed")).to_have_text("2")
    page.get_by_role("link", name="Over time").click()
    expect(page.locator("table thead")).to_contain_text("Delivered")
    expect(page.locator("tbody tr").first).to_be_visible()
    page.goto(f"{shop.house.server_url}{shop.path_of('recorded')}/recipients")
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_by_keyboard_one_skips_to_the_content_signs_in_and_opens_a_campaign(enter: Enter, shop: Shop) -> None:
    window = enter("")
    page = window.open(f"/sign-in?next={shop.path}/campaigns")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Email")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type(shop.house.emails["viewer"])
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
    window.settle()
    opening = page.get_by_role("link", name="Opening hours")
    for _ in range(60):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", page.evaluate("document.activeElement.outerHTML")
        if opening.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Opening hours")
    assert window.troubles == []
