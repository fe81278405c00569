"""deepisp: develop raw photographs with the DeepISP network.

The names below are the library; they are imported on first use, so that the command line starts at once.
Each stage is in the module of its name: ``deepisp_cli.demosaic.demosaic``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
ENGINES = ("auto", "onnx", "onnx-int8", "torch")  # that `open_engine` takes; here, where --help finds it soon

if TYPE_CHECKING:
    from deepisp_cli.batch import Report, develop_many
    from deepisp_cli.engine import Engine, open_engine
    from deepisp_cli.errors import (
        DeepIspError,
        EngineError,
        InputError,
        ModelError,
        OutputError,
        UnsupportedRawError,
        UsageError,
    )
    from deepisp_cli.frame import Result
    from deepisp_cli.models import Model, find_model, list_models
    from deepisp_cli.options import Options
    from deepisp_cli.pipeline import develop, develop_array
    from deepisp_cli.plan import Job, plan_jobs
    from deepisp_cli.raw import RawImage, read_raw

_HOME = {
    "DeepIspError": "errors",
    "Engine": "engine",
    "EngineError": "errors",
    "InputError": "errors",
    "Job": "plan",
    "Model": "models",
    "ModelError": "errors",
    "Options": "options",
    "OutputError": "errors",
    "RawImage": "raw",
    "Report": "batch",
    "Result": "frame",
    "UnsupportedRawError": "errors",
    "UsageError": "errors",
    "develop": "pipeline",
    "develop_array": "pipeline",
    "develop_many": "batch",
    "find_model": "models",
    "list_models": "models",
    "open_engine": "engine",
    "plan_jobs": "plan",
    "read_raw": "raw",
}
__all__ = [
    "ENGINES",
    "DeepIspError",
    "Engine",
    "EngineError",
    "InputError",
    "Job",
    "Model",
    "ModelError",
    "Options",
    "OutputError",
    "RawImage",
    "Report",
    "Result",
    "UnsupportedRawError",
    "UsageError",
    "__version__",
    "develop",
    "develop_array",
    "develop_many",
    "find_model",
    "list_models",
    "open_engine",
    "plan_jobs",
    "read_raw",
]


if not TYPE_CHECKING:  # to which any misspelt name would be known

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(f"deepisp_cli.{_HOME[name]}"), name)
        raise AttributeError(f"module 'deepisp_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
