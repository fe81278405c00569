"""The signals by which people and systems end a program, and how it ends after them."""

import atexit
import os
import signal
from types import FrameType

_received: list[int] = []


def ending_signals() -> list[int]:
    """Ctrl-C, a kill, a closed terminal, Ctrl-Break on Windows: those that this system has."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]


def heed_endings() -> None:
    """Let these signals raise KeyboardInterrupt, so that the program cleans up; it then ends by the signal.

    What the program's starter has had ignored, as nohup has SIGHUP, stays so.
    """
    for number in ending_signals():
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler that `heed_endings` installs."""
    _received.append(number)
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that a library may have swallowed while it was imported, as ONNX Runtime
    does."""
    if _received:
        raise KeyboardInterrupt


@atexit.register  # before all others are, so it is the last to be called
def _die_of_it() -> None:
    """End as a program does that has no handler: a shell's loop goes on after one that only returns 130."""
    if _received and os.name == "posix":
        signal.signal(_received[0], signal.SIG_DFL)
        os.kill(os.getpid(), _received[0])
