"""Folders for temporary files: removed by their process, or by the next one where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.scratch import Scratch, remove_abandoned
from tests.support.shared import REPOSITORY


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = Scratch()
    (mine.folder / "large").write_bytes(b"x" * 100)
    (tmp_path / "dataengine-of-somebody").mkdir()
    code = "from pipelines.scratch import Scratch; import sys; s = Scratch(); (s.folder / 'large').write_bytes(b'x'); print(s.folder, flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    assert theirs.parent == tmp_path
    remove_abandoned()
    assert (theirs / "large").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    remove_abandoned()
    assert not theirs.exists()
    assert (mine.folder / "large").exists()
    assert (tmp_path / "dataengine-of-somebody").exists()
    mine.remove()
    mine.remove()
    assert not mine.folder.exists()
