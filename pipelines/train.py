"""The training job: a version of a store in, a model's folder out. Run again with the same choices it goes on where it stopped.

The folder holds the model (see `dataengine.models.checkpoint`), the curve, a report page, and until it is done `run/` with the state to go on from.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.version import __version__
from pipelines.runtime import Runtime
from pipelines.training_data import open_batches, training_facts, watched
from pipelines.training_folder import RUN, begun, clear, holds_model
from pipelines.training_job import AT_ONCE, Prepared, TrainJob, chosen_model, prepare
from pipelines.written_model import write_model

Progress = Callable[[int, Mapping[str, float]], None]
Note = Callable[[str], None]


def train_process(prepared: Prepared, rank: int, wrap: Callable[[Any], Any] | None, progress: Progress | None) -> None:
    """Train in this process, alone or as one of several; the first of them calibrates and writes the model."""
    from dataengine.models.checkpoint import Checkpoint
    from dataengine.models.fit import CURVE, fit

    job, out = prepared.job, Path(prepared.job.out)
    chosen = chosen_model(job)
    trainee, fitting = chosen.trainee, chosen.fitting
    assert trainee is not None
    started, used = time.monotonic(), time.process_time()
    with open_batches(prepared, trainee.fields(), fitting.batch_size, rank) as batches:
        facts = training_facts(prepared, trainee.fields(), batches)
        fitted = trainee.begin(facts, prepared.device)
        done = fit(fitted, batches, fitting, job.seed, out / RUN, rank=rank, wrap=wrap, progress=progress)
        samples = batches.samples
    if rank:
        return
    before = done.pop("before")  # what earlier runs spent, that were cut
    done |= {"seconds": before["seconds"] + time.monotonic() - started, "cpu_seconds": before["cpu_seconds"] + time.process_time() - used}
    figures = trainee.calibrate(watched(prepared, trainee.needs))
    config, weights = trainee.checkpoint()
    parameters = sum(int(tensor.numel()) for tensor in fitted.module.parameters())
    shutil.copyfile(out / RUN / CURVE, out / CURVE)
    write_model(out, Checkpoint(job.kind, config, weights, _told(prepared, samples, parameters, prepared.device, done, figures)))


def solve(prepared: Prepared) -> None:
    """Make a model that is solved for in one go, and write it."""
    chosen = chosen_model(prepared.job)
    started, used = time.monotonic(), time.process_time()
    needs = chosen.room.needs_of(chosen.model, (0.0,))  # episodes are seen whole
    learned = chosen.room.learn(watched(prepared, needs, learning=True), chosen.model, prepared.trained_on, prepared.job.seed)
    done = {"steps": 1, "seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - used, "resumed_at": 0, "last": {}}
    figures = chosen.room.held_out_figures(learned, watched(prepared, needs))
    checkpoint = chosen.room.checkpoint_of(learned)
    parameters = sum(int(tensor.numel()) for tensor in checkpoint.weights.values())
    told = _told(prepared, int(learned.figures["steps"]), parameters, "cpu", done, figures)
    write_model(prepared.job.out, replace(checkpoint, train=dict(checkpoint.train) | told))


def _told(prepared: Prepared, samples: int, parameters: int, device: str, done: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `train.json` says."""
    import torch

    return {
        "trained_on": prepared.trained_on,
        "recipe": dict(prepared.recipe),
        "split": digest_json(prepared.recipe["held_out"]),
        "code": __version__,
        "samples": samples,
        "parameters": parameters,
        "device": device,
        "threads": torch.get_num_threads(),  # sums of another number of threads round otherwise
        "fit": {name: round(value, 3) if name.endswith("seconds") else value for name, value in done.items()},
        "held_out": dict(figures),
    }


def train(job: TrainJob, runtime: Runtime | None = None, progress: Progress | None = None, note: Note = lambda said: None) -> dict[str, Any]:
    """Run a training job to its end, and return what is in its `train.json`, with the model's digest under "model".

    Args:
        job: what is asked for.
        runtime: what several processes run on.
        progress: is told the figures of some steps.
        note: is told what was chosen for the user, and what the model cannot do.

    Raises:
        UsageError: a choice is wrong, the folder holds another model, or the loss is not finite.
    """
    from dataengine.labels.idm_targets import lacks
    from dataengine.models.checkpoint import load_checkpoint

    prepared = prepare(job)
    out = Path(job.out)
    if prepared.job.config.model != job.config.model:
        model = prepared.recipe["model"]
        note(
            f"a frame every {model['gap_s']:.4g} s, from {model['before_s']:.4g} s before a step to {model['after_s']:.4g} s after it: whole steps of these data, "
            "as the defaults are not; choose others with gap_s, before_s and after_s under model in --config"
        )
    if not holds_model(out):
        with begun(out, prepared.recipe):
            if holds_model(out):
                pass  # by another job, between the two looks
            elif job.kind in AT_ONCE:
                solve(prepared)
            elif job.ranks == 1:
                train_process(prepared, 0, None, progress)
            else:
                (runtime or Runtime()).train_together(partial(_one_of_several, prepared), job.ranks, prepared.device == "cuda", out / RUN)
    clear(out)
    checkpoint = load_checkpoint(out)
    for lack in lacks(checkpoint.config.get("bodies", ()) if job.kind in ("idm", "mapped") else ()):
        note(lack)
    return {**checkpoint.train, "model": checkpoint.digest, "out": str(out)}


def _one_of_several(prepared: Prepared, rank: int) -> None:
    """Train as one of several processes that Ray Train has brought together."""
    from torch.nn.parallel import DistributedDataParallel

    train_process(prepared, rank, partial(DistributedDataParallel, find_unused_parameters=True), None)
