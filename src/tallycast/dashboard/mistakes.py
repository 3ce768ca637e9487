"""What is wrong with a form, beside the field that it is about."""

import re
from collections.abc import Mapping

from tallycast.dashboard import catalogue
from tallycast.dashboard.guard import viewer_of
from tallycast.errors import Problem
from tallycast.web.answers import Asked

_NAME = re.compile(r"[\w.]+")


def place(problem: Problem, fields: Mapping[str, str]) -> dict[str, str]:
    """The message by field: `fields` are the form's by what domain errors begin with; '' is for the form as a whole."""
    message = problem.message.removeprefix("Bad query: ")
    match = _NAME.match(message)
    return {fields.get(match[0] if match else "", ""): message}


def tell(request: Asked, mistakes: Mapping[str, str]) -> dict[str, str]:
    """The same in the reader's language, where the catalogue has the text; what a provider or the domain says, as it is."""
    language = viewer_of(request).language
    known = catalogue.load(language)
    return {
        field: catalogue.translate(language, text) if text in known else text
        for field, text in mistakes.items()
    }
