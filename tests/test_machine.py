"""A container has fewer cores and less memory than its machine."""

import ctypes
import math
import os
import sys
from types import SimpleNamespace

import pytest

from deepisp_cli import machine


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux's")
def test_cores(cgroup, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.available_cores() == 8
    for limit, cores in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("1600000 100000", 8)):
        (cgroup / "cpu.max").write_text(limit + "\n")
        assert machine.available_cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux's")
@pytest.mark.parametrize(
    ("wanted", "cores"),
    [("3", 3), ("1", 1), ("99", 8), ("4,2", 4), ("0", 8), ("", 8), ("-1", 8), ("many", 8)],
)
def test_fewer_cores_may_be_asked_for(cgroup, monkeypatch, wanted, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert machine.available_cores() == cores
    (cgroup / "cpu.max").write_text("200000 100000\n")
    assert machine.available_cores() == min(cores, 2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux's")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("250000", 3), ("1000", 1)])
def test_limits_of_older_containers(cgroup, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, text in (
        ("cpu/cpu.cfs_quota_us", quota),
        ("cpu/cpu.cfs_period_us", "100000"),
        ("memory/memory.limit_in_bytes", "60000000"),
    ):
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text + "\n")
    assert machine.available_cores() == cores
    assert machine.total_memory() == 6e7


def test_memory(cgroup, monkeypatch):
    whole = machine.total_memory()
    assert whole > 1e8
    (cgroup / "memory.max").write_text("max\n")
    assert machine.total_memory() == whole
    (cgroup / "memory.max").write_text("50000000\n")
    assert machine.total_memory() == 5e7
    (cgroup / "memory.max").write_text("what?\n")
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(sys, "platform", "an unknown one")
    assert machine.total_memory() == math.inf


@pytest.mark.parametrize(("known", "memory"), [(1, 2**33), (0, math.inf)])
def test_memory_on_windows(cgroup, monkeypatch, known, memory):
    def installed(pointer):
        pointer._obj.value = 2**23  # kilobytes
        return known

    kernel = SimpleNamespace(GetPhysicallyInstalledSystemMemory=installed)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert machine.total_memory() == memory
