"""How every peer is served: by the same HTTP server, with the same settings as `tallycast serve`."""

import argparse
import ctypes
import os
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server

_BACKLOG = 4096
CONNECTIONS = 8  # to the database, as tallycast has by default


def serve(make_app: Callable[[argparse.Namespace], Any]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", default="")
    parser.add_argument("--app", default="")
    parser.add_argument("--token", default="")
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    # tallycast's metrics are shared by its processes through files: what has its edge has the same cost.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="tallycast-bench-metrics-")
    server = Server(
        "peer",
        address="127.0.0.1",
        port=options.port,
        interface=Interfaces.ASGI,
        workers=1,
        loop=Loops.uvloop,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        log_level=LogLevels.warning,
    )
    server.serve(target_loader=partial(_load, make_app, options), wrap_loader=False)


def _load(make_app: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> Any:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # never outlive the process that the benchmark stops
    return make_app(options)
