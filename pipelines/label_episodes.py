"""Episodes through a labeller: a thread decodes and gathers ahead of the model, batches are cut across episodes, and answers go back to their steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, DataEngineError, EpisodePurged, UsageError
from dataengine.core.labelling import Labeller, Watched
from dataengine.core.labels import Labels
from dataengine.store.open_shards import OpenShards
from dataengine.store.row import Row
from dataengine.store.store import Store
from dataengine.store.watching import watch_numbers, watch_parts
from pipelines.ahead import ahead
from pipelines.children import turn_to
from pipelines.label_batches import Answers, Batch, Cutter

BATCHES_AHEAD = 2
CANNOT = "cannot_label"


@dataclass(frozen=True)
class Refused:
    """An episode that got no labels, and why: the parts of the sentence, as with a recording that is rejected."""

    dataset: str
    episode_id: str
    check: str
    where: str
    expected: str
    found: str
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Done:
    """The labels of the episode of a catalog row, the `number`th of those that were asked for."""

    number: int
    row: Row
    labels: Labels


@dataclass(frozen=True, eq=False)
class Begun:
    """An episode whose batches follow, without its pictures."""

    number: int
    whole: Watched


@dataclass(frozen=True, eq=False)
class Failed:
    """An episode of which no more batches follow."""

    number: int
    error: Exception


def refusal(row: Row, error: Exception) -> Refused:
    """Return what is said of an episode that an error came of."""
    own = str(row["dataset"]), str(row["episode_id"])
    if isinstance(error, BadRecording):
        return Refused(*own, error.check, error.where, error.expected, error.found, error.advice)
    expected = "an episode that can be labelled"
    if isinstance(error, EpisodePurged):
        return Refused(*own, "purged", f"episode {own[1]}", expected, str(error))
    found = str(error) if isinstance(error, DataEngineError) else f"{type(error).__name__}: {error}"[:500]
    return Refused(*own, CANNOT, f"episode {own[1]}", expected, found)


def looked(labeller: Labeller, shards: OpenShards, rows: Sequence[Row], batch_size: int) -> Iterator[Begun | Failed | Batch]:
    """Yield batches as the model wants them, each episode announced before; what goes wrong with an episode ends that episode alone."""
    cutter = Cutter(batch_size)
    for number, row in enumerate(rows):
        turn_to(number)
        try:
            whole = watch_numbers(shards.store, row, labeller.needs, shards)
            yield Begun(number, whole)
            for part, steps in watch_parts(shards.store, row, labeller.needs, shards=shards):
                at = 0
                while at < len(steps):
                    chosen = steps[at : at + cutter.room]
                    inputs = labeller.inputs(part, chosen)
                    yield from cutter.add(number, part.first + chosen, inputs)
                    at += len(chosen)
        except Exception as error:  # noqa: BLE001 - whatever it is, the episode is refused with it
            yield Failed(number, error)
    yield from cutter.rest()


def label_episodes(labeller: Labeller, store: Store, rows: Sequence[Row], batch_size: int, seconds: dict[str, float] | None = None) -> Iterator[Done | Refused]:
    """Yield the labels of episodes as they are ready, or why there are none.

    Args:
        labeller: the method, open.
        store: the version that holds the episodes.
        rows: their rows in the catalog, best in the order in which they lie there.
        batch_size: how many steps the model is asked about at once.
        seconds: is added to, by what the time goes to: "waiting" for pictures, "model", "labels".
    """
    spent = {} if seconds is None else seconds
    wholes: dict[int, tuple[Watched, Answers]] = {}
    refused: set[int] = set()  # for its answers; more of its batches, or a failure, may follow
    with OpenShards(store) as shards, ahead(looked(labeller, shards, rows, batch_size), BATCHES_AHEAD) as events:
        while True:
            since = time.perf_counter()
            event = next(events, None)
            _add(spent, "waiting", since)
            if event is None:
                break
            if isinstance(event, Begun):
                wholes[event.number] = event.whole, Answers(event.whole.steps)
            elif isinstance(event, Failed):
                if event.number not in refused:
                    wholes.pop(event.number, None)
                    yield refusal(rows[event.number], event.error)
            else:
                yield from _answered(labeller, event, rows, wholes, refused, spent)
    assert not wholes, f"no answer for a step of {len(wholes)} episodes"


def _answered(
    labeller: Labeller, batch: Batch, rows: Sequence[Row], wholes: dict[int, tuple[Watched, Answers]], refused: set[int], spent: dict[str, float]
) -> Iterator[Done | Refused]:
    """Ask the model, put its answers at their steps, and yield the episodes that this completes."""
    since = time.perf_counter()
    parts = _ask(labeller, batch)
    _add(spent, "model", since)
    since = time.perf_counter()
    for part, answers in parts:
        for number in np.unique(part.episode).tolist():
            if number not in wholes:
                continue  # it was refused meanwhile
            whole, so_far = wholes[number]
            mine = part.episode == number
            try:
                if isinstance(answers, Exception):
                    raise answers
                so_far.put(part.step[mine], {name: values[mine] for name, values in answers.items()})
                if not so_far.complete:
                    continue
                labels = labeller.labels(whole, so_far.arrays())
                _require_whole(labels, rows[number])
            except Exception as error:  # noqa: BLE001 - whatever it is, the episode is refused with it
                del wholes[number]
                refused.add(number)
                yield refusal(rows[number], error)
                continue
            del wholes[number]
            yield Done(number, rows[number], labels)
    _add(spent, "labels", since)


def _ask(labeller: Labeller, batch: Batch) -> list[tuple[Batch, Mapping[str, Array] | Exception]]:
    """Return the model's answers; where it fails, those for each episode apart, so that one does not cost the others."""
    try:
        answers = labeller.answer(batch.inputs)
        _require_rows(answers, batch)
    except Exception as error:
        if _out_of_memory(error):
            raise UsageError(
                f"--batch-size: a batch must fit the memory beside the model, and one of {len(batch)} steps does not; give a smaller one"
            ) from error
        episodes = np.unique(batch.episode).tolist()
        if len(episodes) == 1:
            return [(batch, error)]
        return [answer for number in episodes for answer in _ask(labeller, batch.rows(batch.episode == number))]
    return [(batch, answers)]


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, without importing torch


def _require_rows(answers: Mapping[str, Array], batch: Batch) -> None:
    for name, values in answers.items():
        if len(values) != len(batch):
            raise ValueError(f"answers {name!r}: must have a row for each of {len(batch)} steps, got {len(values)}")


def _require_whole(labels: Labels, row: Row) -> None:
    """Raise ValueError unless labels have a row a step, and a finite number wherever they are valid."""
    if labels.steps != row["steps"]:
        raise ValueError(f"labels: must have {row['steps']} rows, one a step, got {labels.steps}")
    for name, values in labels.columns.items():
        if values.dtype.kind == "f":
            odd = np.flatnonzero(labels.valid[name] & ~np.isfinite(values).reshape(len(values), -1).all(axis=1))
            if len(odd):
                raise ValueError(f"labels {name!r}: must be finite where they are valid, got {values[odd[0]].tolist()} at step {int(odd[0])}")


def _add(spent: dict[str, float], what: str, since: float) -> None:
    spent[what] = spent.get(what, 0.0) + time.perf_counter() - since
