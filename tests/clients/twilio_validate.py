"""Reads {"token", "url", "fields", "signature"} lines; answers each with Twilio's own signature, and its own verdict."""

import json
import sys

from twilio.request_validator import RequestValidator

for line in sys.stdin:
    asked = json.loads(line)
    validator = RequestValidator(asked["token"])
    signature = validator.compute_signature(asked["url"], asked["fields"])
    verdict = validator.validate(asked["url"], asked["fields"], asked["signature"])
    print(json.dumps([signature, verdict]))  # noqa: T201 - its answer
