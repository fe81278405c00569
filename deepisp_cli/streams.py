"""The streams that whoever starts the program has opened for it."""

import contextlib
import os
import sys
from typing import Any


def let_wait(stream: Any) -> None:
    """Make a standard stream wait for the other end of its pipe: whoever has it open, too, may have changed
    that."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError, AttributeError):  # no real file
            os.set_blocking(stream.fileno(), True)
