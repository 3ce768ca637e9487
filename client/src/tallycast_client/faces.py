"""Each verb is written once, as a script, and has two faces: `Client` gives its result, `AsyncClient` when awaited."""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tallycast_client.pages import AsyncPages, Listing, Pages
from tallycast_client.steps import Script

if TYPE_CHECKING:
    from tallycast_client.clients import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")


class Verb(Generic[P, T]):
    """A method that runs a script."""

    def __init__(self, write: Callable[Concatenate[Any, P], Script[T]]) -> None:
        self._write = write
        self.__doc__ = write.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> "Verb[P, T]": ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        write = self._write.__get__(client)
        return functools.wraps(write)(lambda *args, **options: client.run(write(*args, **options)))


class ListVerb(Generic[P, T]):
    """A method that gives rows to iterate over."""

    def __init__(self, write: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        self._write = write
        self.__doc__ = write.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> "ListVerb[P, T]": ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, Pages[T]]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, AsyncPages[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        write = self._write.__get__(client)
        return functools.wraps(write)(lambda *args, **options: client.each(write(*args, **options)))
