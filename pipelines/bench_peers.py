"""The peers' side of the benchmarks: each runs in its own virtual environment, as a process of its own, on the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from dataengine.core.errors import UsageError

SCRIPTS = Path(__file__).parent / "peers"
EPISODES = 20


def run_peer(peers: Path, name: str, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a peer's environment and return the JSON of its last line; raise UsageError where the environment is not there."""
    python = peers / name / "bin" / "python"
    if not python.exists():
        raise UsageError(f"--peers {peers}: expected the virtual environment {python.parent.parent}, found none; `make peers` makes it")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(python), str(SCRIPTS / script), *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise UsageError(f"--peers {peers}: {name} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def bench_tfds_lerobot(source: Path, peers: Path, our_cpu_s: float, our_episodes: int, our_steps: int) -> dict[str, Any]:
    """Read with TFDS and write with LeRobot; `rlds_rate_over_tfds_lerobot` is our rate of steps over theirs, by CPU time."""
    version = next(path.parent for path in sorted(source.rglob("features.json")))
    folder = source.parent / "peers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    read = run_peer(peers, "tfds", "read_tfds.py", str(version), str(min(EPISODES, our_episodes)), str(folder / "steps.npz"))
    written = run_peer(peers, "lerobot", "write_lerobot.py", str(folder / "steps.npz"), str(folder / "lerobot"))
    theirs = read["cpu_s"] / read["steps"] + written["cpu_s"] / written["steps"]
    return {
        "tfds_read_steps_per_cpu_s": read["steps"] / read["cpu_s"],
        "lerobot_write_steps_per_cpu_s": written["steps"] / written["cpu_s"],
        "rlds_steps_per_cpu_s": our_steps / our_cpu_s,
        "rlds_rate_over_tfds_lerobot": theirs / (our_cpu_s / our_steps),
    }
