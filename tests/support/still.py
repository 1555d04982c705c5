"""Processes that are held still for a moment, so that what they share can be measured."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def still(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Stop processes for the time of the block; those that have ended stay so."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 20
    for process in processes:
        while process.poll() is None and psutil.Process(process.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            assert time.monotonic() < until
            time.sleep(0.001)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def largest_folder(folder: Path, processes: Sequence[subprocess.Popen[str]]) -> int:
    """Return the most bytes that all files of a folder had together, however they are named, until all processes ended."""
    most = 0
    while any(process.poll() is None for process in processes):
        with still(processes):
            most = max(most, folder_bytes(folder))
        time.sleep(0.01)
    return max(most, folder_bytes(folder))


def folder_bytes(folder: Path) -> int:
    """Return what all files of a folder take on a disk of 4 KiB pages; one that vanishes meanwhile counts or not."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                total += -(-os.stat(os.path.join(top, name)).st_size // 4096) * 4096
            except FileNotFoundError:
                continue
    return total
