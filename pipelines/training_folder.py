"""The folder that a training job writes into: what it was begun with, one job at a time, and what a job that was killed left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.objects import is_remote, open_objects

RUN, RECIPE, LOCK = "run", "recipe.json", ".lock"
SCRATCH = f"{RECIPE}.new"


def whole_url(url: str) -> str:
    """Return the address of a store with nothing relative in it: it is also read by processes that begin in other folders, and is the same however it was written."""
    return url if is_remote(url) else str(Path(open_objects(url).url).resolve())


def begun_with(out: Path) -> dict[str, Any] | None:
    """Return what a folder's model is, or is going to be, trained with; None where nothing was begun.

    Raises:
        UsageError: it holds something else.
    """
    for path in (out / RUN / RECIPE, out / "train.json"):
        if path.exists():
            found = json.loads(path.read_text())
            recipe = found if path.name == RECIPE else found.get("recipe")
            if not isinstance(recipe, dict):
                return None
            return recipe | ({"store": whole_url(recipe["store"])} if "store" in recipe else {})
    if out.exists() and not _barely_begun(out):
        raise UsageError(f"{out}: must be a new or empty folder, or one of a training that was cut, but holds other files; choose another")
    return None


def _barely_begun(out: Path) -> bool:
    """Return whether a folder holds nothing, or what a job leaves that is killed before it has written what it begins with."""
    names = {path.name for path in out.iterdir()}
    return not names or (names == {RUN} and (out / RUN).is_dir() and {path.name for path in (out / RUN).iterdir()} <= {LOCK, SCRATCH})


def require_own(out: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse a folder whose model is trained with something else."""
    before = begun_with(out)
    if before is not None and digest_json(before) != digest_json(dict(recipe)):
        changed = [key for key in recipe if before.get(key) != recipe[key] and key != "held_out"] or ["choice of what is held out"]
        raise UsageError(f"{out}: holds a model that is trained with another {' and another '.join(changed)}; choose another folder, or remove it")


@contextmanager
def begun(out: Path, recipe: Mapping[str, Any]) -> Iterator[None]:
    """Keep a folder for this job while it is at work, and write down what it begins with.

    The lock goes with the process, however it ends.

    Raises:
        UsageError: another job is at work there, or was begun there meanwhile.
    """
    lock = _lock(out)
    try:
        require_own(out, recipe)
        if not holds_model(out):
            (out / RUN / SCRATCH).write_text(json.dumps(dict(recipe)))
            os.replace(out / RUN / SCRATCH, out / RUN / RECIPE)
        yield
    finally:
        os.close(lock)


def _lock(out: Path) -> int:
    while True:
        (out / RUN).mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(out / RUN / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            break
        except FileNotFoundError:
            continue  # a job that has just ended took the folder away
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"{out}: another training is at work in this folder; wait until it has ended, or choose another") from None
    except OSError:
        pass  # a file system without locks: nothing is known of others
    return lock


def holds_model(out: Path) -> bool:
    """Return whether a folder holds a whole model: `config.json` is what is written last."""
    return (out / "config.json").exists()


def clear(out: Path) -> None:
    """Take away what is of no use once the model is whole, also what a job left that was killed just then."""
    if holds_model(out):
        for path in (out / RUN, *out.glob(".model-*")):
            with contextlib.suppress(OSError):  # another call is taking it away too, or nobody may
                shutil.rmtree(path)
