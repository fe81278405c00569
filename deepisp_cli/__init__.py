"""deepisp: develop raw photographs with the DeepISP network.

The names below are the library; they are imported when first used, so that the command line starts at once.
The stages are in the modules of their name: ``deepisp_cli.demosaic.demosaic``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deepisp_cli.batch import Report, develop_many
    from deepisp_cli.engine import open_engine
    from deepisp_cli.errors import DeepIspError
    from deepisp_cli.pipeline import Options, develop
    from deepisp_cli.raw import read_raw

_HOME = {
    "DeepIspError": "errors",
    "Options": "pipeline",
    "Report": "batch",
    "develop": "pipeline",
    "develop_many": "batch",
    "open_engine": "engine",
    "read_raw": "raw",
}
__all__ = [
    "DeepIspError",
    "Options",
    "Report",
    "__version__",
    "develop",
    "develop_many",
    "open_engine",
    "read_raw",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"deepisp_cli.{_HOME[name]}"), name)
    raise AttributeError(f"module 'deepisp_cli' has no attribute {name!r}")
