"""The wait for packets under way: by the kernel's own means where it has them, else by a pause."""

import time

import pytest

from kube_router.core import rcu


def test_the_wait_ends() -> None:
    started = time.monotonic()
    rcu.wait_for_packets()
    assert time.monotonic() - started < 5


def test_an_unknown_machine_gets_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    monkeypatch.setattr("time.sleep", slept.append)
    rcu.wait_for_packets()
    assert slept == [rcu.PAUSE_S]
