"""Row 8: an audience from a file, uploaded over HTTP and imported by `serve`'s worker, and the memory that it takes."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import campaigns
import servers
from campaigns import App
from figures import Figure, at_most
from plan import Plan

_MOST = 1_000_000
_SECONDS = 60
_MEGABYTES = 100
_PATIENCE = 600
_TEXT = "Dear {{name}}, your code is {{code}}"
# One row in 250 is of each bad kind.
_EVERY = 250
_BAD = {20: "invalid", 70: "landline", 120: "optedOut", 170: "duplicate"}
_INVALID = ("nobody", "+8526123", "", "+852612345678901234", "91234567")
_FIELDS = ("rows", "accepted", *_BAD.values())


def measure(plan: Plan) -> Iterator[Figure]:
    file, stopped = plan.work / "audience.csv", plan.work / "stopped.csv"
    plan.say(f"writing a file of {plan.imported:,} recipients")
    expected = _write_files(file, stopped, plan.imported)
    with campaigns.serving(plan.work / "import") as app:
        campaign = _prepare(app, stopped)
        yield from _import(plan, app, campaign, file, expected)


def _write_files(file: Path, stopped: Path, count: int) -> Counter[str]:
    """Mobile numbers of Hong Kong, each once, in no order, with bad rows between; how many rows are of which kind."""
    numbers = random.Random(8).sample(range(60_000_000, 69_999_999), count)
    expected = Counter({"rows": count})
    with file.open("w") as rows, stopped.open("w") as out:
        rows.write("Recipients Number,Name,Code\n")
        out.write("recipient\n")
        for n, own in enumerate(numbers):
            kind = _BAD.get(n % _EVERY, "accepted")
            earlier = n // 2 // _EVERY * _EVERY  # a good row, far above
            number = f"+852{numbers[earlier] if kind == 'duplicate' else own}"
            if kind == "invalid":
                number = _INVALID[n // _EVERY % len(_INVALID)]
            elif kind == "landline":
                number = f"+8522{1_000_000 + n}"
            elif kind == "optedOut":
                out.write(f"{number}\n")
            rows.write(f"{number},Customer {n % 5000},C-{n:08}\n")
            expected[kind] += 1
    return expected


def _prepare(app: App, stopped: Path) -> str:
    """A draft, and some who do not want its messages; the draft's path."""
    credentials = {"accountSID": "AC1", "authToken": "secret"}
    channel = {"type": "sms", "provider": "twilio", "phone": "SHOP", "credentials": credentials}
    channel_id = app.ask("POST", "/channels", channel)["id"]
    with stopped.open("rb") as body:
        app.ask("POST", "/opt-outs/import?kind=sms", body, "text/csv")
    draft = {"campaignName": "Season", "kind": "smsDynamic", "channelID": channel_id, "content": _TEXT}
    return f"/campaigns/{app.ask('POST', '/campaigns', draft)['id']}"


def _import(plan: Plan, app: App, campaign: str, file: Path, expected: Counter[str]) -> Iterator[Figure]:
    server, worker = find_processes(app.server.pid)
    before = {pid: begin_peak(pid) for pid in (*server, *worker)}
    plan.say("importing it")
    began = time.monotonic()
    import_id = campaigns.upload(app, campaign, file)["id"]
    uploaded = time.monotonic() - began
    server_grew = growth(server, before)
    found = campaigns.await_import(app, campaign, import_id, _PATIENCE)
    seconds = time.monotonic() - began
    worker_grew = growth(worker, before)
    wrong = {name: found[name] - expected[name] for name in _FIELDS if found[name] != expected[name]}
    wrong |= _recount(app, campaign, import_id, expected)
    told = {"upload": uploaded, "import": found, "wrong": wrong, "bytes": file.stat().st_size}
    what = f"import, {plan.imported:,} recipients, validated: CSV over HTTP, a number and two variables"
    shown = f"{seconds:.1f} s, {uploaded:.1f} s of it the upload ({plan.imported / seconds / 1000:.1f} k/s)"
    comparable = seconds * _MOST / plan.imported
    yield at_most(8, what, f"≤ {_SECONDS} s", shown, comparable, _SECONDS, **told)
    bad = expected["rows"] - expected["accepted"]
    shown = f"{sum(map(abs, wrong.values()))}, {expected['accepted']:,} accepted and {bad:,} set aside"
    yield at_most(8, "the same: rows counted wrongly", "0", shown, sum(map(abs, wrong.values())), 0)
    bound = f"≤ {_MEGABYTES} MB"
    for whose, grew in (("worker", worker_grew), ("server, while it is uploaded", server_grew)):
        title = f"the same: memory (RSS) that it takes more at its peak, {whose}"
        yield at_most(8, title, bound, f"{grew:.0f} MB", grew, _MEGABYTES)


def _recount(app: App, campaign: str, import_id: str, expected: Counter[str]) -> dict[str, int]:
    """What the campaign and the list of rows that were set aside have too many."""
    total = app.ask("GET", campaign)["totals"]["queued"]
    errors = app.fetch("GET", f"{campaign}/audience/{import_id}/errors", None, "text/csv")
    found = {
        "recipients": total - expected["accepted"],
        "errors": errors.count(b"\n") - 1 - (expected["rows"] - expected["accepted"]),
    }
    return {name: difference for name, difference in found.items() if difference}


def find_processes(pid: int) -> tuple[list[int], list[int]]:
    """Those that serve, and those that work in the background; PostgreSQL's are neither."""
    server: list[int] = []
    worker: list[int] = []
    for one in servers.descendants(pid):
        if Path("/proc", str(one), "exe").readlink().name != "postgres":
            command = Path("/proc", str(one), "cmdline").read_bytes().split(b"\0")
            (worker if b"worker" in command else server).append(one)
    return server, worker


def begin_peak(pid: int) -> float:
    """Forget the peak so far (proc(5), clear_refs); the megabytes that the process has now."""
    Path("/proc", str(pid), "clear_refs").write_text("5")
    return _read_memory(pid, "VmRSS")


def growth(pids: list[int], before: dict[int, float]) -> float:
    """By how many megabytes the processes had more at their peaks than they had before."""
    return sum(_read_memory(pid, "VmHWM") - before[pid] for pid in pids)


def _read_memory(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc", str(pid), "status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
