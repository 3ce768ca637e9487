"""Errors of pages: pages too, or for a part of a page a message in it. Never JSON, never a trace."""

import logging
from urllib.parse import quote

from litestar import Response

from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import Forged, SignInNeeded
from tallycast.dashboard.pages import is_partial, redirect, render
from tallycast.errors import Problem, ServiceFailure
from tallycast.web.answers import Asked, answer_problem, cid_of, path_of, problem_of

log = logging.getLogger("tallycast.dashboard")
_PAGES = ("/apps/", "/account", "/sign-", "/welcome/", "/preferences")
_MACHINES = ("/v1/", "/webhooks/", "/r/", "/health/", "/metrics", "/openapi.json", "/static/")
# What went wrong is told in the catalogue's words; of these also in the words of whoever refused it.
_TOLD = frozenset({400, 413, 415, 422})


def answer_error(request: Asked, error: Exception) -> Response[bytes]:
    """An error outside every page: what a browser asks for as a page is one, all else has the API's envelope."""
    path = path_of(request)
    is_page = path.startswith(_PAGES) or "text/html" in request.headers.get("accept", "")
    is_page = (is_page or path == "/") and not path.startswith(_MACHINES)
    return answer_fault(request, error) if is_page else answer_problem(request, error)


# Never sent back to a browser, not even to the one that sent it.
_SECRET = ("password", "current", "secret.", "webhook_secret")


def answer_fault(request: Asked, error: Exception) -> Response[bytes]:
    if isinstance(error, SignInNeeded | Forged) and _has_typed(request):
        return _give_back(request)
    if isinstance(error, SignInNeeded):
        return redirect(request, f"/sign-in?next={quote(error.next, safe='/')}")
    problem = problem_of(request, error)
    if problem is None:
        log.error("a page failed", exc_info=error, extra={"cid": cid_of(request)})
        problem = ServiceFailure()
    template = "fault_part.html" if is_partial(request) else "fault.html"
    return render(
        request,
        template,
        status=problem.status,
        headers=problem.headers,
        key=_key_of(problem),
        detail=_detail_of(problem),
        status_code=problem.status,
        cid=cid_of(request),
    )


def _has_typed(request: Asked) -> bool:
    """Whether a form of ours came too late, from a page of another session: the browser says that it was ours.

    What another site has a browser send is never shown again, for somebody might send it on.
    """
    form = request.state.get("form")
    is_ours = request.headers.get("sec-fetch-site") == "same-origin"
    is_page = path_of(request).startswith("/apps/") and not is_partial(request)
    return is_ours and is_page and form is not None and bool(form.items())


def _give_back(request: Asked) -> Response[bytes]:
    """What was typed, to be looked at and sent again with a token that holds."""
    fields = [(name, values) for name, values in form_of(request).items() if name != "csrf"]
    kept = [(name, values) for name, values in fields if not name.startswith(_SECRET)]
    left_out = len(kept) < len(fields)
    action = path_of(request)
    return render(request, "kept.html", status=403, fields=kept, left_out=left_out, action=action)


def _key_of(problem: Problem) -> str:
    return "fault.forged" if isinstance(problem, Forged) else f"fault.{problem.status}"


def _detail_of(problem: Problem) -> str:
    return problem.message.removeprefix("Bad query: ") if problem.status in _TOLD else ""
