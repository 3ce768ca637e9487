"""What is in deploy/ is right by its own linters, lets in what it should, and keeps what must not be lost."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from litestar import Router
from litestar.handlers import BaseRouteHandler

from harness import App, Server, free_port, wait_for
from tallycast.web.server import ROUTES

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SITE = {"SITE": "campaigns.example.com", "DATABASE_PASSWORD": "p", "ENCRYPTION_KEY": "k"}
PRIVATE = {"/metrics", "/health"}
pytestmark = pytest.mark.deploy


def lint(*command: str, **environ: str) -> str:
    """Run a linter, by its name beside our Python or on the machine; what it says. It must be content."""
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.exists() else command[0]
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def manifests() -> list[dict[str, Any]]:
    files = [path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"]
    return [one for path in files for one in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def test_all_yaml_is_as_yamllint_wants_it() -> None:
    assert lint("yamllint", "--strict", "-c", str(DEPLOY / ".yamllint.yaml"), str(DEPLOY)) == ""


# The image and compose.


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    assert lint("hadolint", str(DEPLOY / "Dockerfile")) == ""


def test_the_image_gets_only_what_it_copies_runs_as_nobody_and_installs_what_is_locked() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    admitted = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(name for line in copied for name in line.split()) == sorted(admitted)
    assert all((DEPLOY.parent / name).exists() for name in admitted)
    assert "--require-hashes -r requirements.lock" in text
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]


def compose() -> dict[str, Any]:
    """The file as Docker Compose itself understands it."""
    said = lint("docker-compose", "-f", str(DEPLOY / "compose/compose.yaml"), "config", **SITE)
    found: dict[str, Any] = yaml.safe_load(said)
    return found


def test_compose_keeps_the_spools_and_opens_nothing_but_the_proxy() -> None:
    services = compose()["services"]
    assert [name for name, one in services.items() if one.get("ports")] == ["proxy"]
    disks = {
        one["source"]: name
        for name, service in services.items()
        for one in service["volumes"]
        if one["type"] == "volume"
    }
    assert disks == {
        "database": "database", "serve": "serve", "worker": "worker", "certificates": "proxy", "proxy": "proxy",
    }  # fmt: skip
    ours = [services["serve"], services["worker"]]
    assert all(one["cap_drop"] == ["ALL"] and one["read_only"] for one in ours)
    assert services["database"]["networks"].keys() == {"inside"}


def test_the_proxy_and_the_servers_meet_only_where_the_proxy_is_trusted() -> None:
    found = compose()
    serve, proxy = found["services"]["serve"], found["services"]["proxy"]
    assert serve["networks"].keys() & proxy["networks"].keys() == {"edge"}
    (subnet,) = found["networks"]["edge"]["ipam"]["config"]
    assert serve["environment"]["TALLYCAST_TRUSTED_PROXIES"] == subnet["subnet"]


def test_compose_refuses_to_start_without_its_secrets() -> None:
    with pytest.raises(AssertionError, match=r"see \.env\.example"):
        lint("docker-compose", "-f", str(DEPLOY / "compose/compose.yaml"), "config", SITE="a.example.com")


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Iterator[str]:
    """Caddy as the compose file has it, before the shared server; without TLS, as no name leads here."""
    url, program = f"http://127.0.0.1:{free_port()}", Path(sys.executable).parent / "caddy"
    file = DEPLOY / "compose/Caddyfile"
    places = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    environ = {**os.environ, **places, "SITE": url, "SERVERS": server.url.removeprefix("http://")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--config", file, "--adapter", "caddyfile"], env=environ, stdout=log, stderr=log
        )

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return httpx.get(url).status_code < 500
        except httpx.TransportError:
            return False

    wait_for(answers)
    yield url
    process.terminate()
    process.wait(30)


def test_the_proxy_passes_webhooks_reports_and_pages_and_hides_metrics_and_health(
    proxy: str, app: App
) -> None:
    app.server_url = proxy
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, ["a"])
    assert app.post_receipts(channel_id, {"messageID": "a", "status": "delivered"}).status_code == 200
    assert app.totals(campaign_id)["delivered"] == 1
    assert httpx.get(f"{proxy}/sign-in").status_code == 200
    for path in (
        "/metrics",
        "/metrics/",
        "/health/live",
        "/health/ready",
        "/health",
        "//metrics",
        "/%6Detrics",
    ):
        assert httpx.get(proxy + path).status_code == 404, path


def test_the_caddyfile_is_formatted_and_valid() -> None:
    file = str(DEPLOY / "compose/Caddyfile")
    assert lint("caddy", "fmt", file) == Path(file).read_text()
    assert "Valid configuration" in lint(
        "caddy", "validate", "--adapter", "caddyfile", "--config", file, SERVERS="serve:8080", **SITE
    )


# systemd.


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_as_systemd_wants_them_and_hardly_exposed(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here (Debian: apt-get install systemd)")
    program = Path(sys.executable).parent / "tallycast"
    for one in UNITS:
        text = one.read_text()
        assert "/opt/tallycast/bin/tallycast" in text
        (tmp_path / one.name).write_text(text.replace("/opt/tallycast/bin/tallycast", str(program)))
    mine = tmp_path / unit.name.replace("@", "@1")
    if not mine.exists():
        mine.symlink_to(unit.name)
    assert lint("systemd-analyze", "verify", "--man=no", str(mine)) == ""
    lint("systemd-analyze", "security", "--offline=true", "--threshold=15", str(mine))  # of 100


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_wait_for_the_last_answers_and_let_the_first_process_end_the_others(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert {"KillMode=mixed", "TimeoutStopSec=60", "ProtectSystem=strict", "NoNewPrivileges=yes"} <= set(
        lines
    )
    (folder,) = [line.removeprefix("StateDirectory=") for line in lines if line.startswith("StateDirectory=")]
    assert any(f"--data-dir /var/lib/{folder}" in line for line in lines)


# Kubernetes.


def test_manifests_are_what_kubernetes_takes() -> None:
    files = [str(path) for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"]
    lint("kubernetes-validate", "--strict", *files)


def test_the_kustomization_has_every_manifest() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in KUBERNETES.glob("*.yaml"))


def test_what_kustomize_makes_is_what_kubernetes_takes(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here")
    (tmp_path / "made.yaml").write_text(lint("kubectl", "kustomize", str(KUBERNETES)))
    lint("kubernetes-validate", "--strict", str(tmp_path / "made.yaml"))


def test_pods_have_a_disk_for_the_spool_that_outlives_them() -> None:
    sets = of_kind("StatefulSet")
    assert sets.keys() == {"tallycast-serve", "tallycast-worker"}
    for one in sets.values():
        spec = one["spec"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }
        assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
        assert {"name": "data", "mountPath": "/var/lib/tallycast"} in container["volumeMounts"]
        assert pod["terminationGracePeriodSeconds"] == 60
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert of_kind("PodDisruptionBudget").keys() == sets.keys()


def test_a_server_whose_database_is_away_goes_on_getting_webhooks() -> None:
    (container,) = of_kind("StatefulSet")["tallycast-serve"]["spec"]["template"]["spec"]["containers"]
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {
        "startupProbe": "/health/ready", "readinessProbe": "/health/live", "livenessProbe": "/health/live",
    }  # fmt: skip


def test_the_ingress_lets_in_every_route_but_the_private_ones() -> None:
    (rule,) = of_kind("Ingress")["tallycast"]["spec"]["rules"]
    paths = [one["path"] for one in rule["http"]["paths"]]
    routers = [one for one in ROUTES if isinstance(one, Router)]
    found = {route.path for one in routers for route in one.routes}
    found |= {path for one in ROUTES if isinstance(one, BaseRouteHandler) for path in one.paths}
    routes = {"/" + path.split("/")[1] for path in found}
    assert sorted(paths) == sorted((routes | {"/webhooks"}) - PRIVATE)
    assert next(one["pathType"] for one in rule["http"]["paths"] if one["path"] == "/") == "Exact"
