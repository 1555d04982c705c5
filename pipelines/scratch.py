"""Folders for temporary files that go with their process: also those of a process that was killed, when the next one comes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "dataengine-"
LOCK = ".lock"


class Scratch:
    """A folder for temporary files. It is locked while its process lives, so that others can tell it from what a killed process left."""

    def __init__(self) -> None:
        new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
        self._lock = os.open(new / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.folder = new.rename(new.with_name(new.name.lstrip(".")))  # a folder gets this name only when it is locked

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_abandoned() -> None:
    """Remove the folders of processes that were killed; those of others, and of other users, stay."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:
            continue  # not ours, or going away just now
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use
        finally:
            os.close(lock)
