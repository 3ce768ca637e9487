"""The API page's clients, as the page shows them, against a real server over HTTPS: `make test-clients`."""

import contextlib
import functools
import http.server
import json
import os
import pty
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright
from tls_proxy import STORE_PASSWORD, make_certificates, tls_in_front_of

from harness import App, Server, run, start_server

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
PYTHON_CLIENTS = HERE.parents[1] / ".venv-clients" / "bin"
PHP = "php -d curl.cainfo=$CURL_CA_BUNDLE -d auto_prepend_file=as_json.php"
JAVA = (
    f"java -Djavax.net.ssl.trustStore=$JAVA_TRUST_STORE -Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"
)
COMMANDS = {
    "curl.sh": "sh curl.sh",
    "httpie.sh": "sh httpie.sh",
    "python_requests.py": "python python_requests.py",
    "node_https.cjs": "node --require ./as_json.cjs node_https.cjs",
    "node_axios.mjs": "node --require ./as_json.cjs node_axios.mjs",
    "node_fetch.mjs": "node --require ./as_json.cjs node_fetch.mjs",
    "php_curl.php": f"{PHP} php_curl.php",
    "php_guzzle.php": f"{PHP} php_guzzle.php",
    "ruby_net_http.rb": "ruby ruby_net_http.rb",
    "JavaHttpClient.java": f"{JAVA} JavaHttpClient.java",
    "go_net_http.go": "go run go_net_http.go",
    "c_libcurl.c": "gcc c_libcurl.c -lcurl -o c_libcurl && ./c_libcurl",
}
# Each with what it prints where the browser keeps the answer from it.
IN_BROWSER = {
    "browser_fetch.js": "TypeError: Failed to fetch",
    "browser_jquery.js": "undefined",
    "browser_xhr.js": "",
    "browser_axios.js": "AxiosError: Network Error",
}
CHROMIUM_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGE = """<!doctype html>
<meta charset="utf-8">
<script type="importmap">{"imports": {"axios": "/node_modules/axios/dist/esm/axios.min.js"}}</script>
<script src="/node_modules/jquery/dist/jquery.min.js"></script>
<script>$(document).ajaxError((event, xhr) => console.error(xhr.responseJSON));</script>
<script type="module" src="SNIPPET"></script>
"""
REFUSAL = {"code": 401, "message": "a valid AppToken is required: Authorization: Bearer <AppToken>"}


@dataclass
class Reports:
    """An app, and what its list of sent campaigns must be."""

    app: App
    expected: list[dict[str, Any]]


@dataclass
class Workshop:
    """A folder for the snippets with the right token, one for those with a wrong one, and the commands' environment."""

    right: Path
    wrong: Path
    environ: dict[str, str]

    def run(self, folder: Path, snippet: str) -> dict[str, Any]:
        """Run a snippet as at a terminal; the JSON that it printed."""
        terminal, keyboard = pty.openpty()
        try:
            done = subprocess.run(
                COMMANDS[snippet], shell=True, cwd=folder, env=self.environ, stdin=keyboard,
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            os.close(terminal)
            os.close(keyboard)
        with contextlib.suppress(json.JSONDecodeError):
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        pytest.fail(f"{snippet}: exit {done.returncode}, no JSON:\n{done.stdout}\n{done.stderr}")


@contextlib.contextmanager
def serve_files(folder: Path) -> Iterator[str]:
    """Serve a folder; its origin."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://localhost:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def origin(folder: Path) -> Iterator[str]:
    """An origin whose pages may call the API."""
    with serve_files(folder) as served:
        yield served


@pytest.fixture(scope="session")
def other_origin(folder: Path) -> Iterator[str]:
    """The same pages at an origin that nobody configured."""
    with serve_files(folder) as served:
        yield served


@pytest.fixture(scope="session")
def server(data_dir: Path, database_url: str, origin: str) -> Iterator[Server]:  # noqa: ARG001 - joins the running database
    started = start_server(data_dir, "--cors-origins", origin)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def reports(server: Server, client: httpx.Client) -> Reports:
    """Two WhatsApp and two SMS campaigns, with receipts of every kind."""
    made = json.loads(run("app", "create", "--name", "Clients", "--json", *server.storage))
    app = App(server.url, made["appID"], made["token"], client)
    whatsapp = app.add_channel(channelName="旺角店 Mong Kok", sourceName="Marketing")
    sms = app.add_channel(type="sms", phone="SHOP", channelName="", webhookSecret="s3cret")
    spring = app.record(
        whatsapp, ["w-1", "w-2", "w-3", "w-4"],
        date="2026-11-20T03:00:00Z", campaignName="春節優惠 “Spring” & <co>", subject="spring_v3",
    )  # fmt: skip
    autumn = app.record(whatsapp, ["w-5"], date="2026-11-20T04:00:00.250Z", subject="autumn_v1")
    opening = app.record(
        sms,
        ["s-1", "s-2", "s-3"],
        date="2026-11-21T03:00:00+08:00",
        campaignName="Opening",
        senderEID="eid-7",
    )
    closing = app.record(sms, ["s-4"], date="2026-11-22T03:00:00Z", campaignName="Closing", senderEID="eid-8")
    app.post_receipts(
        whatsapp,
        {"messageID": "w-1", "status": "read"},
        {"messageID": "w-2", "status": "delivered"},
        {"messageID": "w-3", "status": "failed", "errorCode": 131026},
    )
    app.post_receipts(
        sms,
        {"messageID": "s-1", "status": "delivered"},
        {"messageID": "s-2", "status": "delivered"},
        {"messageID": "s-3", "status": "failed"},
        secret="s3cret",
    )
    sender = {"phone": "+85230001234", "channelName": "旺角店 Mong Kok", "sourceName": "Marketing"}
    expected: list[dict[str, Any]] = [
        {
            "id": closing, "date": "2026-11-22T03:00:00.000Z", "campaignName": "Closing", "channel": "SMS",
            "createdBy": "Mei", "sender": {"phone": "SHOP", "senderEID": "eid-8"}, "totalRecipients": 1, "delivered": 0,
        },
        {
            "id": opening, "date": "2026-11-20T19:00:00.000Z", "campaignName": "Opening", "channel": "SMS",
            "createdBy": "Mei", "sender": {"phone": "SHOP", "senderEID": "eid-7"}, "totalRecipients": 3, "delivered": 2,
        },
        {
            "id": autumn, "date": "2026-11-20T04:00:00.250Z", "campaignName": "Spring sale", "channel": "WhatsApp",
            "createdBy": "Mei", "sender": sender, "subject": "autumn_v1", "totalRecipients": 1, "delivered": 0,
            "read": 0, "replied": 0, "pending": 1, "failed": 0,
        },
        {
            "id": spring, "date": "2026-11-20T03:00:00.000Z", "campaignName": "春節優惠 “Spring” & <co>",
            "channel": "WhatsApp", "createdBy": "Mei", "sender": sender, "subject": "spring_v3", "totalRecipients": 4,
            "delivered": 2, "read": 1, "replied": 0, "pending": 1, "failed": 1,
        },
    ]  # fmt: skip
    return Reports(app, expected)


@pytest.fixture(scope="session")
def workshop(folder: Path, server: Server, reports: Reports) -> Iterator[Workshop]:
    assert PYTHON_CLIENTS.is_dir(), "make test-clients sets them up"
    home = folder / "home"
    home.mkdir()
    make_certificates(folder)
    (home / "config.json").write_text(
        '{"disable_update_warnings": true}'
    )  # or HTTPie asks its site for a newer one
    certificate = str(folder / "ca.pem")
    with tls_in_front_of(server.port, folder / "server.pem") as port:
        environ = {
            "PATH": f"{PYTHON_CLIENTS}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "BASE_PORT": str(port),
            "CURL_CA_BUNDLE": certificate,
            "HTTPIE_CONFIG_DIR": str(home),
            "JAVA_TRUST_STORE": str(folder / "ca.p12"),
            "NODE_EXTRA_CA_CERTS": certificate,
            "REQUESTS_CA_BUNDLE": certificate,
            "SSL_CERT_FILE": certificate,
        }
        right, wrong = (
            make_folder(folder / name, port, reports.app.app_id, token)
            for name, token in (("right", reports.app.token), ("wrong", "wrong" + reports.app.token))
        )
        (folder / "node_modules").symlink_to(HERE / "node_modules")
        yield Workshop(right, wrong, environ)


def make_folder(folder: Path, port: int, app_id: str, token: str) -> Path:
    """Fill in the snippets, each beside the packages that it asks for."""
    (folder / "vendor").mkdir(parents=True)
    (folder / "vendor" / "autoload.php").symlink_to("/usr/share/php/GuzzleHttp/autoload.php")
    for helper in HERE.glob("as_json.*"):
        shutil.copy(helper, folder)
    places = {
        "BASE_HOST": f"localhost:{port}",
        "BASE_NAME": "localhost",
        "APP_ID": app_id,
        "APP_TOKEN": token,
    }
    for snippet in (HERE / "snippets").iterdir():
        text = snippet.read_text()
        for place, value in places.items():
            text = text.replace(place, value)
        (folder / snippet.name).write_text(text)
    for snippet_name in IN_BROWSER:
        (folder / f"{snippet_name}.html").write_text(PAGE.replace("SNIPPET", snippet_name))
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        assert path, "chromium is not installed"
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()


def see(browser: Browser, url: str, expression: str, words: str = "") -> Any:
    """Open a page; the expression's value of what its snippet printed, once the browser has said the words too."""
    with browser.new_page(ignore_https_errors=True) as page:
        with (
            page.expect_console_message(lambda said: words in said.text),
            page.expect_console_message(lambda said: bool(said.args)) as printed,
        ):
            page.goto(url)
        return printed.value.args[0].evaluate(expression)


def read(browser: Browser, url: str) -> dict[str, Any]:
    """Open a page; the JSON that its snippet printed, as text, as an object or with an error."""
    seen = see(browser, url, "value => value?.response?.data ?? value")
    answer: dict[str, Any] = json.loads(seen) if isinstance(seen, str) else seen
    return answer


def test_every_snippet_is_run() -> None:
    assert {path.name for path in (HERE / "snippets").iterdir()} == {*COMMANDS, *IN_BROWSER}


def test_the_reports_are_long_enough_to_come_compressed(reports: Reports) -> None:
    answer = reports.app.request("GET", "/data/sent-campaigns-summary", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("snippet", COMMANDS)
def test_a_client_prints_the_reports(workshop: Workshop, reports: Reports, snippet: str) -> None:
    answer = workshop.run(workshop.right, snippet)
    assert answer == {"code": 200, "result": reports.expected, "cid": ANY}


@pytest.mark.parametrize("snippet", COMMANDS)
def test_a_client_with_a_wrong_token_prints_the_refusal(workshop: Workshop, snippet: str) -> None:
    answer = workshop.run(workshop.wrong, snippet)
    assert answer == REFUSAL | {"cid": ANY}


@pytest.mark.parametrize("snippet", IN_BROWSER)
def test_a_page_of_a_configured_origin_prints_the_reports(
    workshop: Workshop, reports: Reports, browser: Browser, origin: str, snippet: str
) -> None:
    answer = read(browser, f"{origin}/{workshop.right.name}/{snippet}.html")
    assert answer == {"code": 200, "result": reports.expected, "cid": ANY}


@pytest.mark.parametrize("snippet", IN_BROWSER)
def test_a_page_with_a_wrong_token_prints_the_refusal(
    workshop: Workshop, browser: Browser, origin: str, snippet: str
) -> None:
    answer = read(browser, f"{origin}/{workshop.wrong.name}/{snippet}.html")
    assert answer == REFUSAL | {"cid": ANY}


@pytest.mark.parametrize("snippet", IN_BROWSER)
def test_the_browser_keeps_the_reports_from_a_page_of_another_origin(
    workshop: Workshop, browser: Browser, other_origin: str, snippet: str
) -> None:
    url = f"{other_origin}/{workshop.right.name}/{snippet}.html"
    assert see(browser, url, "String", "blocked by CORS policy") == IN_BROWSER[snippet]
