"""What becomes of exceptions that nobody expected."""

import pytest

from deepisp_cli.errors import DeepIspError, EngineError, loading, told_of

LACKS = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    ImportError("_pocketfft_umath.so: failed to map segment from shared object"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", LACKS, ids=repr)
def test_too_little_memory_is_told_whatever_it_is_called(error):
    with (
        pytest.raises(EngineError, match=r"^a\.dng: not enough memory; close other programs"),
        told_of("a.dng"),
    ):
        raise error
    if isinstance(error, ImportError | OSError):
        with pytest.raises(MemoryError), loading("onnxruntime"):
            raise error


def test_a_bug_is_told_with_the_file_and_a_damaged_library_by_its_name():
    with (
        pytest.raises(
            DeepIspError,
            match=r"^a\.dng: bug, please report it: KeyError\('x'\) in test_errors\.py, line \d+$",
        ),
        told_of("a.dng"),
    ):
        raise KeyError("x")
    with (
        pytest.raises(EngineError, match=r"onnxruntime cannot be loaded .*install it again"),
        loading("onnxruntime"),
    ):
        raise ImportError("libcudart.so: cannot open shared object file")
