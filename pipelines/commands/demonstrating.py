"""`dataengine demo`: the whole flow on recordings that the project makes itself, in four formats, one of them broken on purpose."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import typer

from dataengine.core.errors import StoreError, UsageError
from dataengine.samples.demo import write_demo
from dataengine.store.refs import put_tag, tags
from dataengine.store.store import open_store
from pipelines.commands import showing, statistics
from pipelines.commands.ingesting import say
from pipelines.commands.printing import Bar, note
from pipelines.commands.versioning import log
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime

MARK = ".dataengine-demo"


def _heading(*command: str) -> None:
    print(f"\n$ dataengine {shlex.join(command)}", flush=True)


def demo(folder: str, local: bool) -> None:
    """Make recordings, ingest them, and look at what is in the store; run again, it finds everything there already."""
    root = Path(folder)
    recordings, store = root / "recordings", root / "store"
    if root.exists() and any(root.iterdir()) and not (root / MARK).exists():
        raise UsageError(f"{root}: must be an empty folder or that of an earlier demo; choose another")
    if not (root / MARK).exists() or not recordings.exists():
        shutil.rmtree(recordings, ignore_errors=True)
        note(f"making sample recordings in {recordings} ...")
        write_demo(recordings, 0)
        (root / MARK).write_text("made by `dataengine demo`\n")
    runtime = Runtime(local)
    bar = Bar()
    _heading("ingest", str(recordings), "--store", str(store))
    try:
        report = run(IngestJob((str(recordings),), str(store), command="demo"), runtime, bar)
    finally:
        bar.end()
        runtime.stop()
    say(report)
    if not report.found or report.rejected != 1:
        raise StoreError(
            f"{store}: the demo must reject exactly the recording that it broke, and rejected {report.rejected} of {report.found}; please report this"
        )
    _heading("ls", str(store))
    showing.ls(str(store), None, None, False)
    row = open_store(str(store)).episodes().sort("dataset", "episode_id").head(1).collect().row(0, named=True)
    _heading("show", str(store), row["episode_id"][:12])
    showing.show(str(store), row["episode_id"], False)
    _heading("stats", str(store), "--dataset", row["dataset"])
    statistics.stats(str(store), row["dataset"])
    _heading("check", str(store), "--deep")
    try:
        showing.check(str(store), True, False)
    except typer.Exit as done:
        note(f"check ended with exit code {done.exit_code}")
    objects = open_store(str(store)).objects
    if "first" not in tags(objects) and report.version is not None:
        put_tag(objects, "first", report.version)
    _heading("log", str(store))
    log(str(store), False)
    print(f"\nThe store lies in {store}; read it from Python:\n  from dataengine import open_store\n  store = open_store({str(store)!r})")
    print(f"  trajectory = store.read_trajectory({row['episode_id'][:12]!r})")
