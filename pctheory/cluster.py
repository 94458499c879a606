"""A Dask cluster as an executor. Needs the extra `cluster`."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, InvalidStateError
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

try:
    from distributed import Client, rpc
except ImportError as error:
    raise ImportError(
        f"scheduler: needs dask and distributed ({error}); pip install 'pctheory[cluster]'"
    ) from error

PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss")
# Seconds: a scheduler that is there answers within one.
PATIENCE = 5


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """An executor of the cluster whose scheduler listens at `address`, and how many threads it has now.

    Left by an exception, Ctrl-C for one, it drops what the cluster has not begun.

    Raises: ValueError if the address is none, or nothing there answers as a scheduler does.
    """
    _require_address(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    logging.getLogger("tornado.application").addFilter(_not_of_a_cancelled_call)
    try:
        who = asyncio.run(asyncio.wait_for(_identity(address), PATIENCE))
    except Exception as error:  # what is no scheduler answers with anything
        raise ValueError(
            f"scheduler: no Dask scheduler answers at {address} within {PATIENCE} s ({type(error).__name__}); "
            "start one with `dask scheduler`, or correct the address"
        ) from error
    if who != "Scheduler":
        raise ValueError(f"scheduler: {address} is the address of a {who}; give that of its scheduler")
    connected: Any = Client  # has no types
    with connected(address, timeout=PATIENCE, set_as_default=False, name="pctheory") as client:
        yield client.get_executor(pure=False), sum(client.nthreads().values())


def _not_of_a_cancelled_call(record: logging.LogRecord) -> bool:
    """False for what Dask's executor logs if a call is cancelled while its result is on the way."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, CancelledError | InvalidStateError)


async def _identity(address: str) -> str:
    """What answers there: Scheduler, Worker, Nanny."""
    asked: Any = rpc
    async with asked(address) as there:
        return str((await there.identity())["type"])


def _require_address(address: str) -> None:
    """Raises ValueError unless it is PROTOCOL://HOST:PORT."""
    try:
        parts = urlsplit(address)
        well_formed = parts.scheme in PROTOCOLS and bool(parts.hostname) and bool(parts.port) and not parts.path
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError(f"scheduler: expected an address as tcp://HOST:PORT, got {address!r}")
