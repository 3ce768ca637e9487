"""Twilio's own helper library against our signatures, and against the simulator's API: `make test-clients`."""

import json
import random
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tallycast.providers import twilio
from tallycast.providers.contract import Signed
from tallycast.simulator.child import simulating
from tallycast.simulator.server import Plan
from tallycast.simulator.twilio import sign

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
FORM = "application/x-www-form-urlencoded"
LETTERS = string.ascii_letters + string.digits + " +&=%ñé中\U0001f600/?#'\"\n"


def run_python(*arguments: str, lines: str = "") -> list[str]:
    done = subprocess.run(
        [str(PYTHON), *arguments],
        cwd=HERE,
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def make_cases() -> Iterator[dict[str, Any]]:
    dice = random.Random(20)

    def text(most: int) -> str:
        return "".join(dice.choice(LETTERS) for _ in range(dice.randrange(1, most)))

    for n in range(200):
        query = "?" + urlencode({"reference": f"tc:{dice.randrange(1, 2**60)}.{n}"}) if n % 2 else ""
        url = f"https://hooks.example.com{':8443' if n % 5 == 0 else ''}/webhooks/twilio/app-{n}{query}"
        fields = {text(12).strip() or "Body": text(60) for _ in range(dice.randrange(1, 9))}
        yield {"token": text(32), "url": url, "fields": fields}


def test_twilios_validator_and_ours_agree_on_every_signature_in_both_directions() -> None:
    cases = [{**case, "signature": sign(case["token"], case["url"], case["fields"])} for case in make_cases()]
    answers = run_python("twilio_validate.py", lines="".join(json.dumps(case) + "\n" for case in cases))
    assert len(answers) == 200
    for case, answer in zip(cases, map(json.loads, answers), strict=True):
        theirs, takes_ours = answer
        assert takes_ours, case
        body = urlencode(case["fields"]).encode()
        signed = Signed({"x-twilio-signature": theirs, "content-type": FORM}, (case["url"],), body)
        assert twilio.verify("", {"authToken": case["token"]}, signed), case
        tampered = signed._replace(body=body + b"&Body=more")
        assert not twilio.verify("", {"authToken": case["token"]}, tampered), case


def test_twilios_own_client_sends_through_the_simulator_as_through_twilio() -> None:
    with simulating(Plan(port=0, smpp_port=None)) as url:
        (sent,) = run_python("twilio_send.py", url, "+85298765432", "Hello")
        (refused,) = run_python("twilio_send.py", url, "12", "Hello")
    sid, status, segments = sent.split()
    assert (sid[:2], len(sid), status, segments) == ("SM", 34, "queued", "1")
    assert refused == "21211 400"
