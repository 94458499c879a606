"""Ending at once and in order, whatever asks for it: Ctrl-C, `kill`, a terminal that closes."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Those that there are: Windows has no SIGHUP.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Seconds in which asking again does not disturb the tidying up.
PATIENCE = 3.0


class StoppedError(KeyboardInterrupt):
    """A signal asked this process to end; `status` is the exit status that says which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, signals that ask to end raise StoppedError in the main thread.

    Asked again within `PATIENCE` seconds, it is tidying up already; once that is done, it is ended on the spot.
    Signals that are ignored before, as under `nohup`, stay so. In another thread than the main one nothing changes.
    """
    stopped = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped or time.monotonic() - stopped > PATIENCE:
            stopped = time.monotonic()
            raise StoppedError(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, stop)
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL if stopped else before[number])
