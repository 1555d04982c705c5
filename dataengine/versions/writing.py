"""Jobs that change what a store holds without bringing recordings in: each has a heartbeat like any other, and some must be alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dataengine.core.errors import StoreError
from dataengine.core.objects import Objects
from dataengine.store.jobs import Heartbeat, JobRecord, all_jobs, new_job_id


def alive_jobs(objects: Objects, own: str = "") -> list[JobRecord]:
    """Return the jobs that may still write, without one's own."""
    return [record for name, record in sorted(all_jobs(objects).items()) if name != own and record.alive]


@contextmanager
def writing(objects: Objects, command: str, alone: bool = False) -> Iterator[str]:
    """Run the block as a job of its own and give it the job's id.

    A job that must be alone announces itself first and looks for others then: of two that start at once both see the other, and none goes on.

    Raises:
        StoreError: `alone`, and another job is at work.
    """
    job_heartbeat = Heartbeat(objects, new_job_id(), command)
    try:
        if alone:
            require_alone(objects, job_heartbeat.job)
        yield job_heartbeat.job
    except BaseException:
        job_heartbeat.end("failed")
        raise
    job_heartbeat.end("ended")


def require_alone(objects: Objects, own: str = "") -> None:
    """Raise StoreError where another job is at work."""
    others = alive_jobs(objects, own)
    if others:
        other = others[0]
        raise StoreError(
            f"{objects.url}: expected no other job at work, found {other.job} ({other.command or 'no command'}) on {other.host}, process {other.pid}; "
            f"wait until it has ended"
        )
