"""The error table of the HTTP API: every failure that a client can see is one of these."""


class Problem(Exception):
    """A failure to be answered as `{"code": …, "message": …, "cid": …}`. The docstring is the default message."""

    status = 500
    code = 6451001

    def __init__(self, message: str | None = None, *, headers: dict[str, str] | None = None) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.headers = headers or {}
        super().__init__(self.message)


class BadQuery(Problem):
    """Bad query"""

    status = 400
    code = 6451000

    @classmethod
    def of(cls, detail: str) -> "BadQuery":
        """A parameter or body that cannot be read: `Bad query: <detail>`."""
        return cls(f"Bad query: {detail}")


class Unauthorized(Problem):
    """a valid AppToken is required: Authorization: Bearer <AppToken>"""

    status = 401
    code = 401

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """the token does not allow this"""

    status = 403
    code = 403


class NotFound(Problem):
    """not found"""

    status = 404
    code = 404


class MethodNotFound(Problem):
    """method not found"""

    status = 404
    code = 6450001

    @classmethod
    def at(cls, method: str, url: str) -> "MethodNotFound":
        return cls(f"method not found, method: {method} url: {url}")


class MethodNotAllowed(Problem):
    """method not allowed"""

    status = 405
    code = 405


class TooLarge(Problem):
    """the request body is too large"""

    status = 413
    code = 413


class UnsupportedMediaType(Problem):
    """the Content-Type is not supported here"""

    status = 415
    code = 415


class Unprocessable(Problem):
    """the request cannot be carried out as it is"""

    status = 422
    code = 422


class TooManyRequests(Problem):
    """Too many requests"""

    status = 429
    code = 6451010


class ServiceFailure(Problem):
    """Bad response from the service"""

    status = 500
    code = 6451001


class ServiceUnavailable(Problem):
    """Bad response from the service"""

    status = 503
    code = 6451001
