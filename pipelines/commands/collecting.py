"""`dataengine collect`."""

from __future__ import annotations

import re
import shlex

from dataengine.core.config import read_config
from dataengine.core.errors import UnknownName, UsageError
from dataengine.synth.rollout import POLICIES, Play
from pipelines.collect import CollectJob, Size
from pipelines.collect import collect as run_collection
from pipelines.commands.ingesting import carry_through
from pipelines.config import IngestConfig
from pipelines.runtime import Runtime


def collect(
    environment: str,
    store: str,
    dataset: str,
    episodes: int,
    seed: int,
    noise: str,
    policy: str,
    size: str | None,
    max_steps: int | None,
    lossless: bool,
    config: str | None,
    workers: int | None,
    local: bool,
    address: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Run a collection job."""
    if local and address is not None:
        raise UsageError("--local and --address: only one of them can be meant; leave one out")
    if policy not in POLICIES:
        raise UnknownName("policy", policy, POLICIES)
    chosen = read_config(IngestConfig, config) if config is not None else IngestConfig()
    if chosen.privacy.on:
        raise UsageError("collect: what is simulated shows nobody; leave `privacy` out of the config")
    if lossless:
        chosen = chosen.model_copy(update={"lossless": True})
    words = ["collect", environment, "--store", store, "--dataset", dataset, "-n", str(episodes), "--seed", str(seed), "--noise", noise, "--policy", policy]
    words += [
        *(["--size", size] if size is not None else []),
        *(["--max-steps", str(max_steps)] if max_steps is not None else []),
        *(["--lossless"] if lossless else []),
    ]
    play = Play(policy, _levels(noise), max_steps)
    job = CollectJob(environment, store, dataset, episodes, seed, play, picture_size(size), limit, chosen, command=shlex.join(words))
    runtime = Runtime(local, address, workers)
    carry_through(lambda bar: run_collection(job, runtime, bar), runtime, as_json)


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--noise: must be numbers with commas between them, as 0,0.3,0.6, got {text!r}") from None


def picture_size(text: str | None) -> Size | None:
    """Return (height, width) in px of a text such as 96x128."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise UsageError(f"--size: must be height x width in px, as 96x128, got {text!r}")
    return int(found[1]), int(found[2])
