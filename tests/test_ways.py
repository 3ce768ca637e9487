"""Where a command asks: options, environment and profiles; and what it says when the server is not reached."""

import http.server
import json
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import App, Server, free_port
from tallycast import profiles
from tallycast.cli import main
from tallycast.config import BadSetting
from tallycast.profiles import Profile, Profiles
from tallycast.ways import Given, Way, find_way

TOKEN = f"tct_shop_{'a' * 43}"
OTHER = f"tct_bar-1_{'b' * 43}"
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config directory of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def call(
    *arguments: str, status: int = 0, text: str = "", environ: dict[str, str] | None = None
) -> tuple[str, str]:
    done = CliRunner(env=environ).invoke(main, arguments, input=text)
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr


@contextmanager
def a_stranger(
    answer: Callable[[int], Answer], context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A web server that is not tallycast's: its URL, and the requests that it has seen. `answer` gets their number."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.command)
            status, headers, body = answer(len(seen))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}", seen
        server.shutdown()


def ok(result: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps({"code": 200, "result": result}).encode()


# Profiles.


def test_a_profile_is_kept_where_nobody_else_reads_it_and_its_token_is_never_printed(home: Path) -> None:
    said = call("profile", "add", "shop", "--url", "https://c.example.com/", text=f"{TOKEN}\n")
    assert said == ("kept shop; see whether it works: tallycast doctor --profile shop\n", "")
    file = home / "tallycast" / "profiles.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    listed = call("profile", "list", "--json")[0]
    assert json.loads(listed) == [
        {"name": "shop", "url": "https://c.example.com", "app": "shop", "inUse": False}
    ]
    assert TOKEN not in listed + call("profile", "list")[0] + repr(profiles.read())
    assert profiles.read().profiles["shop"] == Profile("https://c.example.com", TOKEN)


def test_the_life_of_profiles() -> None:
    for name, token in (("one", TOKEN), ("two", OTHER)):
        call("profile", "add", name, "--url", f"https://{name}.example.com", "--token", token)
    assert call("profile", "use", "two")[0] == "commands ask two\n"
    assert [one["inUse"] for one in json.loads(call("profile", "list", "--json")[0])] == [False, True]
    assert call("profile", "remove", "two")[0] == "removed two\n"
    assert profiles.read() == Profiles("", {"one": Profile("https://one.example.com", TOKEN)})
    call("profile", "use", "one")
    assert call("profile", "use", "--none")[0] == "commands ask this machine\n"
    assert profiles.read().current == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "a b", "--url", "https://x", "--token", TOKEN), "a profile's name must be up to 40 letters, digits, - and _"),
        (("add", "x", "--url", "c.example.com", "--token", TOKEN), "the URL must be like https://campaigns.example.com"),
        (("add", "x", "--url", "https://x", "--token", "s p a c e"), "a token is printable ASCII without spaces"),
        (("add", "x", "--url", "https://x", "--token", "foreign"), "the token does not name its app, as those of `tallycast token create` do: mend it, or give --app as well"),
        (("use", "nobody"), "no profile 'nobody'; there is none yet: tallycast profile add NAME --url URL"),
        (("remove", "nobody"), "no profile 'nobody'"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused_and_no_secret_repeated(
    arguments: tuple[str, ...], line: str
) -> None:
    out, err = call("profile", *arguments, status=2)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"tallycast: {line}")
    assert "s p a c e" not in err


@pytest.mark.parametrize(
    ("text", "mode", "line"),
    [
        ("current = 1", 0o600, "is not what is expected"),
        ("current = ", 0o600, "cannot be read"),
        ("", 0o644, "holds tokens and others can read it: chmod 600"),
    ],
)
def test_a_file_of_profiles_that_cannot_be_used_says_what_to_do(text: str, mode: int, line: str) -> None:
    path = profiles.file()
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    assert line in call("profile", "list", status=2)[1]


# Which way.

SHOP = Profile("https://shop.example.com", TOKEN)
BAR = Profile("https://bar.example.com", "foreign", "bar")


@pytest.mark.parametrize(
    ("settings", "given", "environ", "current", "server", "app_id"),
    [
        pytest.param({}, Given(), {}, "", None, None, id="this machine"),
        pytest.param({}, Given(), {}, "shop", SHOP, "shop", id="the profile in use"),
        pytest.param({}, Given(profile="bar"), {}, "shop", BAR, "bar", id="a named profile"),
        pytest.param({}, Given(), {"TALLYCAST_PROFILE": "bar"}, "shop", BAR, "bar", id="a profile in the environment"),
        pytest.param({}, Given(profile="shop"), {"TALLYCAST_URL": "https://e.com"}, "", SHOP, "shop", id="a named profile and a URL in the environment"),
        pytest.param({}, Given(), {"TALLYCAST_URL": "https://e.com/", "TALLYCAST_TOKEN": OTHER}, "shop", Profile("https://e.com", OTHER), "bar-1", id="the environment"),
        pytest.param({}, Given("https://o.com", OTHER), {"TALLYCAST_URL": "https://e.com"}, "shop", Profile("https://o.com", OTHER), "bar-1", id="options"),
        pytest.param({}, Given("https://o.com", app_id="z"), {"TALLYCAST_TOKEN": OTHER}, "", Profile("https://o.com", OTHER), "z", id="an app of another token"),
        pytest.param({}, Given(token=OTHER), {}, "shop", Profile("https://shop.example.com", OTHER), "bar-1", id="another token for the profile in use"),
        pytest.param({"data_dir": Path("d")}, Given(app_id="a"), {"TALLYCAST_URL": "https://e.com"}, "shop", None, "a", id="a data folder"),
        pytest.param({"database_url": "postgresql:///x"}, Given(), {}, "shop", None, None, id="a database"),
        pytest.param({}, Given(), {"TALLYCAST_DATA_DIR": "d"}, "shop", None, None, id="a data folder in the environment"),
    ],
)  # fmt: skip
def test_options_win_over_the_environment_and_that_over_the_profile_in_use(
    settings: dict[str, Any],
    given: Given,
    environ: dict[str, str],
    current: str,
    server: Profile | None,
    app_id: str | None,
) -> None:
    profiles.write(Profiles(current, {"shop": SHOP, "bar": BAR}))
    found: Way = find_way(settings, given, environ)
    assert (found.server, found.app_id) == (server, app_id)


@pytest.mark.parametrize(
    ("settings", "given", "line"),
    [
        ({"data_dir": Path("d")}, Given("https://x"), "--data-dir is a database here, and --url or --profile a server elsewhere"),
        ({}, Given("https://x", profile="shop"), "--url and --profile both name a server"),
        ({}, Given("https://x"), "a token for https://x must be given"),
        ({}, Given(token=TOKEN), "--token opens a server: name it"),
        ({}, Given("x.example.com", TOKEN), "the URL must be like"),
        ({}, Given(profile="nobody"), "no profile 'nobody'; there is shop"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], given: Given, line: str) -> None:
    profiles.write(Profiles("", {"shop": SHOP}))
    with pytest.raises(BadSetting, match=line):
        find_way(settings, given, {})


def test_a_profiles_token_goes_to_no_other_server() -> None:
    profiles.write(Profiles("shop", {"shop": SHOP}))
    with pytest.raises(BadSetting, match=r"a token for https://evil\.example\.com must be given"):
        find_way({}, Given("https://evil.example.com"), {})


def test_an_app_must_be_named_on_this_machine(server: Server) -> None:
    assert "Missing option '--app'" in call("campaign", "list", *server.storage, status=2)[1]


def test_a_profile_in_use_is_asked_without_any_option(server: Server, app: App) -> None:
    call("profile", "add", "here", "--url", server.url, text=f"{app.token}\n")
    call("profile", "use", "here")
    assert call("app", "show", "--json")[0].startswith('{"requiresApproval": false')


# What is said.


def test_a_token_that_names_no_app_is_told_as_such(server: Server) -> None:
    out, err = call("report", "summary", "--url", server.url, "--token", "bad", status=2)
    assert out == ""
    assert err.startswith(
        "tallycast: the token does not name its app, as those of `tallycast token create` do"
    )


@pytest.mark.parametrize(
    ("token", "line"),
    [
        (f"tct_app-x_{'x' * 43}", "a valid AppToken is required"),
        ("foreign", "a valid AppToken is required"),
    ],
)
def test_a_wrong_token_is_told_with_what_to_do_and_not_repeated(
    server: Server, token: str, line: str
) -> None:
    words = ("campaign", "list", "--app", "app-x", "--url", server.url, "--token", token)
    out, err = call(*words, status=2)
    assert (out, err.count("\n")) == ("", 1)
    assert line in err
    assert "`tallycast token create` on the server's machine makes another" in err
    assert token not in err


def test_a_token_of_another_app_or_scope_is_told(server: Server, app: App) -> None:
    words = ("campaign", "list", "--url", server.url, "--token", app.token)
    assert (
        "the token belongs to another app; use a token of this app" in call(*words, "--app", "x", status=2)[1]
    )


def make_certificate(folder: Path) -> ssl.SSLContext:
    """For 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "pair.pem").write_bytes(plain + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    return context


def complain(url: str, command: tuple[str, ...] = ("campaign", "list")) -> str:
    out, err = call(*command, "--url", url, "--token", TOKEN, status=2)
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_a_server_that_is_not_there_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert complain(url) == (
        f"tallycast: nobody listens at {url}: does `tallycast serve` run there, and is the port right?\n"
    )
    assert "cannot be reached: " in complain("http://no-such-host.invalid")


def test_a_certificate_that_cannot_be_trusted_is_told(home: Path) -> None:
    with a_stranger(lambda _: ok([]), make_certificate(home)) as (url, _):
        assert "cannot be trusted (self-signed certificate): use the name that it is for" in complain(url)


def test_a_server_without_tls_is_told() -> None:
    with a_stranger(lambda _: ok([])) as (url, _):
        assert "does not speak TLS" in complain(url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        pytest.param((404, {}, b"<html>"), "does not answer as tallycast does (HTTP 404)", id="another site"),
        pytest.param((200, {}, b"<html>"), "does not answer as tallycast does (HTTP 200)", id="another site that likes everything"),
        pytest.param((200, {}, b"[]"), "does not answer as tallycast does (HTTP 200)", id="JSON that is none of ours"),
        pytest.param((301, {"Location": "https://new.example.com/v1"}, b""), "(HTTP 301, which leads to https://new.example.com/v1)", id="redirect"),
        pytest.param((400, {}, b'{"code":6451000,"message":"Bad query: \\u001b[31mred"}'), "?[31mred", id="the server's own word"),
    ],
)  # fmt: skip
def test_an_address_that_is_not_tallycasts_is_told_and_redirects_are_not_followed(
    answer: Answer, line: str
) -> None:
    with a_stranger(lambda _: answer) as (url, seen):
        assert line in complain(url)
        assert len(seen) == 1


@pytest.mark.parametrize(
    "wait", ["0", format_datetime(datetime.now(UTC)), ""], ids=["seconds", "a moment", "nothing"]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says_so(status: int, wait: str) -> None:
    busy = (status, {"Retry-After": wait} if wait else {}, b'{"code":6451010,"message":"Too many requests"}')
    with a_stranger(lambda n: ok([]) if n == 3 else busy) as (url, seen):
        out, err = call("campaign", "list", "--url", url, "--token", TOKEN)
    assert out.startswith("no campaigns")
    assert err.count("tallycast: Too many requests: asking again in ") == 2
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("command", "wait"),
    [(("channel", "resume", "x"), "0"), (("campaign", "list"), "3600")],
    ids=["unsafe", "too long"],
)
def test_what_is_not_safe_to_repeat_or_would_take_too_long_is_not_asked_again(
    command: tuple[str, ...], wait: str
) -> None:
    busy = (429, {"Retry-After": wait}, b'{"code":6451010,"message":"Too many requests"}')
    with a_stranger(lambda _: busy) as (url, seen):
        assert complain(url, command) == "tallycast: Too many requests\n"
    assert len(seen) == 1


def test_a_server_that_stays_busy_is_given_up() -> None:
    busy = (503, {"Retry-After": "0"}, b'{"code":6451001,"message":"Bad response from the service"}')
    with a_stranger(lambda _: busy) as (url, seen):
        _, err = call("campaign", "list", "--url", url, "--token", TOKEN, status=2)
    assert err.endswith("tallycast: Bad response from the service\n")
    assert len(seen) == 5
