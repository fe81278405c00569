"""Set up a separate environment and run everything a change must pass: lint, types, tests.

python3 tools/check.py [PYTEST ARGUMENTS]
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-check"


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - this script is what an older Python meets first
        print("deepisp needs Python 3.10 or newer", file=sys.stderr)
        return 2
    python = str(FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if not Path(python).exists():
        venv.create(FOLDER, with_pip=True, symlinks=os.name != "nt")
    commands = [
        [python, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[dev]"],
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "mypy"],
        [python, "-m", "pytest", "-q", *sys.argv[1:]],
    ]
    for command in commands:
        print("+", *command[1:], flush=True)
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
