"""What can go wrong, by what a program can do about it."""


class TallycastError(Exception):
    """The server refused, failed, or was not reached.

    `status` is the HTTP status and `code` the one of the answer's body; `cid` names the request in the server's log.
    Each is None where the server did not say it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | None = None,
        cid: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.cid = cid
        self.retry_after = retry_after
        """How many seconds to wait, where the server said so."""

    def __str__(self) -> str:
        marks = {"HTTP": self.status, "code": self.code, "cid": self.cid}
        known = ", ".join(f"{name} {value}" for name, value in marks.items() if value is not None)
        return f"{self.message} ({known})" if known else self.message


class ConnectionFailed(TallycastError):
    """No answer, or half of one. Whether the server did what was asked is not known."""


class UnreadableAnswer(TallycastError):
    """An answer that is not what the API's page says."""


class BadRequest(TallycastError):
    """400: a parameter or the body is wrong; the message names it."""


class Unauthorized(TallycastError):
    """401: no such token, or it expired or was revoked."""


class Forbidden(TallycastError):
    """403: the token is for another app, or lacks the scope."""


class NotFound(TallycastError):
    """404: no such campaign, or no such URL on this server."""


class TooLarge(TallycastError):
    """413: the body is larger than the server takes."""


class Unprocessable(TallycastError):
    """422: this cannot be done in the campaign's stage, or is not ready; the message says what is."""


class TooManyRequests(TallycastError):
    """429: over the rate limit, also after the retries."""


class ServerFailure(TallycastError):
    """5xx: something failed there."""


_BY_STATUS: dict[int, type[TallycastError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    422: Unprocessable,
    429: TooManyRequests,
}
# CINNOX's codes, for servers that answer a failure with HTTP 200.
_BY_CODE = {6450001: 404, 6451000: 400, 6451001: 500, 6451010: 429}
_FIRST_SERVER_FAILURE = 500


def class_of(status: int) -> type[TallycastError]:
    if status >= _FIRST_SERVER_FAILURE:
        return ServerFailure
    return _BY_STATUS.get(status, TallycastError)


def status_of(code: int) -> int:
    """The HTTP status that a failure's code stands for: itself, where it is none of CINNOX's."""
    return _BY_CODE.get(code, code)
