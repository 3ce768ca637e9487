"""The audit of `make audit`: dependencies, static analysis, and secrets in the repository.

    run.py --python PYTHON [--offline | --strict]

PYTHON is that of the environment whose packages are checked. Exit status 1 on any finding. Where the service that knows
vulnerabilities cannot be reached, or does not really answer, that is said and is no finding, so that a build without a
network does not fail for it; --strict makes it one, for a build that has a network. --offline does not ask at all.
--accept takes everything that looks like a secret now into the baseline: look at its diff before you commit it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TOOLS = Path(sys.executable).parent
SOURCE = ("src", "client/src")
# A version with published vulnerabilities: a service that knows none of it is not one.
CANARY = "jinja2==3.1.2"
_PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;\\]+")
_SECONDS = 600


class Unreachable(Exception):
    """The service that knows vulnerabilities was not asked with success; the message says why."""


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)


def tool(name: str) -> str:
    return str(TOOLS / name)


def tracked(*patterns: str) -> list[str]:
    """The repository's files; also those that are new and not ignored."""
    return sorted(run("git", "ls-files", "-co", "--exclude-standard", "--", *patterns).stdout.splitlines())


# Dependencies.


def find_unpinned(lock: str) -> list[str]:
    """The requirements of a lock file that are not one version with its hashes."""
    whole = lock.replace("\\\n", " ").splitlines()
    lines = [line for line in whole if line.strip() and not line.lstrip().startswith("#")]
    return [
        line.split("--hash")[0].strip()
        for line in lines
        if not _PIN.match(line) or "--hash=sha256:" not in line
    ]


def check_pins() -> list[str]:
    locks = tracked("*.lock")
    found = [
        f"{lock}: {one} has no version with hashes"
        for lock in locks
        for one in find_unpinned((ROOT / lock).read_text())
    ]
    return found or ([] if locks else ["there are no lock files"])


def check_installed(python: str) -> list[str]:
    """Whether what is installed fits together."""
    done = run(python, "-m", "pip", "--disable-pip-version-check", "check")
    return done.stdout.splitlines() if done.returncode else []


def ask_service(requirements: str) -> list[dict[str, Any]]:
    """What pip-audit says of each requirement. Unreachable."""
    done = run(
        tool("pip-audit"),
        "--disable-pip",
        "--no-deps",
        "-f",
        "json",
        "--progress-spinner",
        "off",
        "-r",
        requirements,
    )
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise Unreachable((done.stderr.strip().splitlines() or ["no answer"])[-1][:300]) from None
    return dependencies


def read_findings(dependencies: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(vulnerabilities, names of what the service does not know)."""
    found = [
        f"{one['name']} {one['version']}: {bug['id']}, mended in {', '.join(bug['fix_versions']) or 'no version'}"
        for one in dependencies
        for bug in one.get("vulns", [])
    ]
    return found, [one["name"] for one in dependencies if "skip_reason" in one]


def check_vulnerabilities() -> list[str]:
    """First one look-up whose answer is known: a mirror without the service answers as if all were well."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(f"{CANARY}\n")
        if not read_findings(ask_service(str(canary)))[0]:
            raise Unreachable(f"it knows no vulnerability of {CANARY}, which has some")
    found: list[str] = []
    for lock in tracked("*.lock"):
        vulnerable, unknown = read_findings(ask_service(lock))
        found += [f"{lock}: {one}" for one in vulnerable]
        if unknown:
            print(f"  {lock}: the service does not know {', '.join(unknown)}")
    return sorted(set(found))


# Static analysis.


def check_bandit() -> list[str]:
    template = "{relpath}:{line}: {test_id} {msg}"
    command = (
        "-q",
        "-c",
        str(HERE / "bandit.yml"),
        "-r",
        *SOURCE,
        "-f",
        "custom",
        "--msg-template",
        template,
    )
    done = run(tool("bandit"), *command)
    found = done.stdout.splitlines()
    return found or ([f"bandit failed: {done.stderr[-500:]}"] if done.returncode else [])


def scan(*paths: str) -> dict[str, Any]:
    """Our own rules over some files; nothing is fetched or sent."""
    rules = str(HERE / "rules.yml")
    options = ("--metrics", "off", "--disable-version-check", "--quiet", "--no-git-ignore", "--json")
    done = run(tool("semgrep"), "scan", *options, "--config", rules, *paths)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"semgrep failed: {done.stderr[-1000:]}{done.stdout[-1000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _rule_of(result: dict[str, Any]) -> str:
    return str(result["check_id"]).rpartition(".")[2]


def check_rules() -> list[str]:
    """Each rule must find its sample: one that finds nothing guards nothing."""
    report = scan(*SOURCE)
    found = [
        f"{one['path']}:{one['start']['line']}: {_rule_of(one)}: {one['extra']['message']}"
        for one in report["results"]
    ]
    for error in report["errors"]:
        print(f"  not read as a whole: {error.get('path', '')} ({' '.join(error['message'].split())[:120]})")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("samples.py", "samples.html"):
            (Path(folder) / name).write_text((HERE / f"{name}.txt").read_text())
        tried = {_rule_of(one) for one in scan(folder)["results"]}
    known = set(re.findall(r"^  - id: (\S+)$", (HERE / "rules.yml").read_text(), re.MULTILINE))
    return found + [f"the rule {name} does not find its sample" for name in sorted(known - tried)]


# Secrets.


def check_secrets() -> list[str]:
    """What looks like a secret in any file, and is not in the baseline of those that were looked at."""
    known = json.loads((HERE / "secrets.json").read_text())["known"]
    return [
        f"{file}:{one['line_number']}: {one['type']}: take it out, or if it opens nothing: make audit ARGS=--accept"
        for file, these in find_secrets().items()
        for one in these
        if _name(one) not in known.get(file, [])
    ]


def find_secrets() -> dict[str, list[dict[str, Any]]]:
    skipped = re.compile("|".join(json.loads((HERE / "secrets.json").read_text())["skipped"]))
    files = [file for file in tracked() if not skipped.search(file) and (ROOT / file).is_file()]
    done = run(tool("detect-secrets"), "scan", "--no-verify", *files)
    results: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)["results"]
    return dict(sorted(results.items()))


def _name(one: dict[str, Any]) -> str:
    return str(one["hashed_secret"])[:12]


def accept_secrets() -> None:
    """What is found now opens nothing: somebody has looked at each."""
    baseline = json.loads((HERE / "secrets.json").read_text())
    found = {file: sorted({_name(one) for one in these}) for file, these in find_secrets().items()}
    (HERE / "secrets.json").write_text(json.dumps({**baseline, "known": found}, indent=2) + "\n")


def say(title: str, check: Callable[[], list[str]]) -> bool:
    """Whether a check found nothing."""
    print(f"{title} ...", flush=True)
    found = check()
    for line in found:
        print(f"  {line}")
    print(f"  {'nothing was found' if not found else f'{len(found)} findings'}", flush=True)
    return not found


def ask(is_strict: bool) -> bool:
    try:
        return say("vulnerabilities of the locked packages", check_vulnerabilities)
    except Unreachable as error:
        print(f"  NOT CHECKED: the service that knows vulnerabilities is not reachable from here: {error}")
        return not is_strict


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True)
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--accept", action="store_true")
    given = parser.parse_args()
    if given.accept:
        accept_secrets()
    done = [
        say("pins and hashes of all lock files", check_pins),
        say("what is installed fits together", lambda: check_installed(given.python)),
        say("bandit", check_bandit),
        say("the project's own rules (.ci/audit/rules.yml)", check_rules),
        say("secrets in the repository", check_secrets),
    ]
    if given.offline:
        print("vulnerabilities of the locked packages ...\n  NOT CHECKED: --offline")
    else:
        done.append(ask(given.strict))
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
