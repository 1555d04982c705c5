"""Jobs that write: their names, their heartbeats, and whether one that fell silent is dead."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from dataengine.core.errors import StoreError
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.refs import read_json

HEARTBEAT_S = 10.0
SILENT_AFTER_S = 180.0

State = Literal["running", "ended", "failed"]


def new_job_id() -> str:
    """Return a job id: the time in UTC and 8 random hex digits."""
    return f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class JobRecord:
    """What a job's file says."""

    job: str
    state: State
    host: str
    pid: int
    pid_started: float
    heartbeat_ns: int
    command: str

    @property
    def alive(self) -> bool:
        """Whether the job may still write: on this host by its process, elsewhere by its heartbeat."""
        if self.state != "running":
            return False
        if self.host == socket.gethostname():
            try:
                return bool(abs(psutil.Process(self.pid).create_time() - self.pid_started) < 1.0)
            except psutil.Error:
                return False
        return time.time_ns() - self.heartbeat_ns < SILENT_AFTER_S * 1e9


def read_job(objects: Objects, job: str) -> JobRecord | None:
    """Return a job's record, None where there is no file."""
    try:
        document = read_json(objects, layout.job_key(job))
    except FileNotFoundError:
        return None
    return JobRecord(
        document["job"], document["state"], document["host"], document["pid"], document["pid_started"], document["heartbeat_ns"], document["command"]
    )


def all_jobs(objects: Objects) -> dict[str, JobRecord]:
    """Return every job's record by id."""
    names = [meta.key.rsplit("/", 1)[-1] for meta in objects.list(layout.JOBS)]
    records = [read_job(objects, name[:-5]) for name in names if name.endswith(".json")]
    return {record.job: record for record in records if record is not None}


class Heartbeat:
    """Keeps `jobs/<job>.json` fresh from a thread until the job ends."""

    def __init__(self, objects: Objects, job: str, command: str) -> None:
        self._objects, self.job = objects, job
        self._document: dict[str, Any] = {
            "job": job,
            "command": command,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": psutil.Process().create_time(),
            "started_ns": time.time_ns(),
        }
        self.missed: str | None = None
        self._stop = threading.Event()
        self._write("running")
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job}", daemon=True)
        self._thread.start()

    def _write(self, state: State) -> None:
        document = self._document | {"heartbeat_ns": time.time_ns(), "state": state}
        self._objects.put(layout.job_key(self.job), json.dumps(document, indent=1).encode())

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._write("running")
            except (OSError, StoreError) as error:  # one beat that is missed is not yet silence; the next is due soon
                self.missed = str(error)

    def end(self, state: State) -> None:
        """Stop beating and write the job's last state."""
        self._stop.set()
        self._thread.join()
        self._write(state)
