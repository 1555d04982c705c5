"""The heartbeat of a job: it goes on after a beat that could not be written."""

from __future__ import annotations

from pathlib import Path

import pytest

import dataengine.store.jobs
from dataengine.core.objects import LocalObjects
from dataengine.store.jobs import Heartbeat, read_job
from tests.support.jobs import wait_for


class Flaky(LocalObjects):
    """A folder whose disk fails for a while."""

    failing = 0

    def put(self, key: str, data: bytes) -> None:
        """Write, or fail."""
        if self.failing:
            self.failing -= 1
            raise OSError("the network is unreachable")
        super().put(key, data)


def test_a_beat_that_fails_does_not_stop_the_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataengine.store.jobs, "HEARTBEAT_S", 0.02)
    objects = Flaky(tmp_path)
    heart = Heartbeat(objects, "20300101t000000-00000000", "test")
    before = read_job(objects, heart.job)
    assert before is not None
    assert before.alive
    objects.failing = 3
    wait_for(lambda: objects.failing == 0)
    assert heart.missed == "the network is unreachable"

    def beats_again() -> bool:
        record = read_job(objects, heart.job)
        return record is not None and record.heartbeat_ns > before.heartbeat_ns

    wait_for(beats_again)
    heart.end("ended")
    after = read_job(objects, heart.job)
    assert after is not None
    assert (after.state, after.alive) == ("ended", False)
