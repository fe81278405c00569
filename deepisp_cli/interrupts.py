"""The signals by which people and systems end a program."""

import signal


def ending_signals() -> list[int]:
    """Ctrl-C, a kill, a closed terminal, Ctrl-Break on Windows: those that this system has."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
