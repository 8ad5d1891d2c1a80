"""One critical line rings, from HTTP to a receiver: also the first of its service, also right after the worker was replaced; and the ringing ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.polling import wait_for
from tests.system.whole import receiver, whole

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.whole import Receiver, Whole

pytestmark = pytest.mark.system

RING_SECONDS = 60
CALM_SECONDS = 150


def send(system: Whole, message: str, service: str) -> None:
    status, answer = system.post(
        "/logs", json.dumps({"message": message, "service": service}).encode(), {"Content-Type": "application/json"}
    )
    assert status == 202, answer


def rang(receiver: Receiver, times: int) -> bool:
    return len(receiver.named("CriticalLogDetected", "firing")) >= times


def ended(receiver: Receiver, times: int) -> bool:
    return len(receiver.named("CriticalLogDetected", "resolved")) >= times


def test_one_critical_line_rings_and_the_ringing_ends(tmp_path: Path) -> None:
    """Harmless lines are silent; one critical line of a service never seen before rings within a minute and resolves; so does the next, with a new worker."""
    for program in (("prometheus",), ("prometheus-alertmanager", "alertmanager")):
        if not any(shutil.which(name) for name in program):
            message = f"{program[0]} is not installed"
            if os.environ.get("CI"):  # noqa: TID251 - tests ask whether they run in CI, nothing else
                pytest.fail(message)
            pytest.skip(message)
    with receiver() as told, whole(tmp_path, HARKLINE_ALERT_WEBHOOK=told.url) as system:
        for at in range(20):
            send(system, f"request {at} served in 12 ms", "calm")
        send(system, "ERROR: could not write block 1204 of base/16385: no space left on device", "never-seen-before")
        wait_for(lambda: rang(told, 1), RING_SECONDS, "the first alert", 0.2)
        wait_for(lambda: ended(told, 1), CALM_SECONDS, "the first alert to resolve", 0.5)

        for process in system.processes("harkline_workers.app:app", "worker"):
            os.kill(process, signal.SIGKILL)
        send(system, "FATAL: the write-ahead log is corrupt, giving up", "after-the-kill")
        wait_for(lambda: rang(told, 2), RING_SECONDS, "the alert after the worker was replaced", 0.2)
        wait_for(lambda: ended(told, 2), CALM_SECONDS, "it to resolve", 0.5)
        assert len(told.named("CriticalLogDetected", "firing")) == 2
