"""Take the pictures of docs/screenshots/ from a demo of its own: `make screenshots`."""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PASSWORD = "a password for pictures"
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
MOST_BYTES = 200_000
MOVING_SECONDS = 45  # until the live campaign has something to show
LIST = "/apps/demo/campaigns"


def start_demo(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The demo, and its link for a first look."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "demo.log"
    command = [
        sys.executable,
        "-m",
        "tallycast",
        "demo",
        "--port",
        str(port),
        "--data-dir",
        str(folder / "data"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    while (found := re.search(r"http://\S+/welcome/\S+", log.read_text())) is None:
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    return process, found[0]


def sign_in(browser: Browser, link: str) -> Any:
    """Follow the link; the cookies of whoever is signed in then."""
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        page.goto(link)
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_role("button", name="Go on").click()
        page.wait_for_url("**/campaigns")
        return context.storage_state()


def find_campaign(page: Page, name: str) -> str:
    page.goto(f"{LIST}?q={name}")
    path = page.locator("tbody th a").first.get_attribute("href")
    assert path
    return path


def take(page: Page, path: str, name: str) -> None:
    answer = page.goto(path)
    if answer is None or not answer.ok:
        raise SystemExit(f"{path}: {page.inner_text('main')}")
    page.wait_for_timeout(2000)  # parts that load by themselves, and the chart
    page.screenshot(path=FOLDER / f"{name}.png")
    size = (FOLDER / f"{name}.png").stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{name}.png has {size} bytes")


def take_all(browser: Browser, origin: str, state: Any) -> None:
    looks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {"viewport": DESKTOP}),
        ("-dark", {"viewport": DESKTOP, "color_scheme": "dark"}),
        ("-phone", {"viewport": PHONE}),
    )
    for look, options in looks:
        with browser.new_context(base_url=origin, storage_state=state, locale="en-GB", **options) as context:
            page = context.new_page()
            live, draft = find_campaign(page, "Live%3A+spring"), f"{LIST}?stage=draft"
            for name, path in (("campaigns", LIST), ("campaign", live), ("recipients", f"{live}/recipients")):
                take(page, path, name + look)
            page.goto(draft)
            href = page.locator("tbody th a").first.get_attribute("href")
            take(page, f"{href}/edit", f"create{look}")
            take(page, "/apps/demo/settings/channels", f"settings{look}")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tallycast-") as folder, sync_playwright() as playwright:
        process, link = start_demo(Path(folder))
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
            state = sign_in(browser, link)
            time.sleep(MOVING_SECONDS)
            take_all(browser, link.partition("/welcome/")[0], state)
            browser.close()
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main()
