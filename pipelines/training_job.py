"""What a training job is asked for, and what is decided of it before it begins: which version, which episodes, which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field as Setting

from dataengine.core.config import Config, merged, parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.splitting import MOST, held_out
from dataengine.core.training import Trainee
from dataengine.store.query import where as rows_where
from dataengine.store.refs import parse_address
from dataengine.store.store import Store, open_store, require_store
from pipelines.devices import chosen_device
from pipelines.training_folder import begun_with, require_own, whole_url


def rows_of(store: Store, dataset: str, condition: str | None) -> Any:
    """Return the episodes of a dataset for which a condition holds, as a table."""
    import polars as pl

    return rows_where(store.episodes().filter(pl.col("dataset") == dataset), condition).collect()


class HeldOutConfig(Config):
    """Episodes that are not learned from: what the model is calibrated on."""

    share: float = 0.1
    most: int = MOST


class TrainingConfig(Config):
    """What a YAML file of `dataengine train` may hold; the settings of the model and of fitting are read by the kind of model."""

    model: dict[str, Any] = Setting(default_factory=dict)
    fit: dict[str, Any] = Setting(default_factory=dict)
    held_out: HeldOutConfig = HeldOutConfig()
    weights: dict[str, float] | None = None  # of the datasets; by default each sample comes once an epoch


@dataclass(frozen=True)
class TrainJob:
    """What a user asks for: a kind of model, the version and datasets that it learns from, and where it goes."""

    kind: str
    store: str
    out: str
    datasets: tuple[str, ...]
    config: TrainingConfig = field(default_factory=TrainingConfig)
    scale: str = "tiny"
    where: str | None = None
    seed: int = 0
    steps: int | None = None
    device: str = "auto"
    ranks: int = 1
    workers: int = 0
    storage_options: Mapping[str, str] = field(default_factory=dict)


KINDS = ("idm", "latent", "mapped", "value", "flow_ridge")
AT_ONCE = ("flow_ridge",)  # kinds that are solved for, not fitted batch by batch


@dataclass(frozen=True, eq=False)
class Chosen:
    """A kind of model with its settings: the module that knows it, what is trained, how it is fitted (both None of what is solved for), and the settings as JSON."""

    room: Any
    model: Any
    trainee: Trainee | None
    fitting: Any
    said: Mapping[str, Any]


def chosen_model(job: TrainJob) -> Chosen:
    """Return what a job trains, and how.

    Raises:
        UsageError: a choice is wrong.
    """
    import importlib

    kind, scale, config = job.kind, job.scale, job.config
    if kind not in KINDS:
        raise UnknownName("kind of model", kind, KINDS)
    room = importlib.import_module(f"dataengine.labels.{kind}")
    if scale not in room.SCALES:
        raise UnknownName(f"scale of a model of kind {kind!r}", scale, room.SCALES)
    model = parse_config(room.CONFIG, merged(room.SCALES[scale].model_dump(mode="json"), config.model), "model")
    said = {"kind": kind, "scale": scale, "model": model.model_dump(mode="json")}
    if kind in AT_ONCE:
        given = {"fit": config.fit, "weights": config.weights, "--steps": job.steps, "--ranks": job.ranks - 1}
        if any(given.values()):
            raise UsageError(
                f"train {kind}: is solved for in one go, from each step once; leave out {', '.join(name for name, value in given.items() if value)}"
            )
        return Chosen(room, model, None, None, said | {"fit": {}})
    fitting = parse_config(
        type(room.FITS[scale]), merged(room.FITS[scale].model_dump(mode="json"), config.fit | ({"steps": job.steps} if job.steps else {})), "fit"
    )
    least = room.least_steps(model) if hasattr(room, "least_steps") else 1
    if fitting.steps < least:
        raise UsageError(
            f"train {kind}: its codebooks begin after {least - 1} steps, so that it needs at least {least}, got {fitting.steps}; give more, or set model.bottleneck.warmup_steps lower"
        )
    return Chosen(room, model, room.trainee(model), fitting, said | {"fit": fitting.model_dump(mode="json")})


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job with everything decided: what each process that trains needs to begin."""

    job: TrainJob
    address: str  # of the version
    trained_on: str
    held: Mapping[str, tuple[str, ...]]  # episodes held out, by dataset
    recipe: Mapping[str, Any]
    device: str

    @property
    def digest(self) -> str:
        """Return what tells this run from others."""
        return digest_json(self.recipe)


def prepare(job: TrainJob) -> Prepared:
    """Decide what a job stands for.

    Raises:
        UsageError: a choice is wrong, or the folder holds another model.
    """
    said = chosen_model(job).said
    out = Path(job.out).absolute()
    before = begun_with(out)
    parsed = parse_address(job.store)
    parsed = replace(parsed, url=whole_url(parsed.url))
    if parsed.ref is None and before is not None and before.get("store") == parsed.url:
        parsed = replace(parsed, ref=str(before["version"]))  # what it began with, whatever was committed since
    store = open_store(f"{parsed.url}@{parsed.ref}" if parsed.ref else parsed.url, dict(job.storage_options) or None)
    if store.version is None:
        raise UsageError(f"{job.store}: must be a version, to say later what the model learned from; STORE@open is none, and an empty store has none yet")
    there = store.datasets()
    if not job.datasets:
        raise UsageError(f"train: must name a dataset with --dataset, got none; datasets: {', '.join(there) or 'none'}")
    for name in job.datasets:
        if name not in there:
            raise UnknownName("dataset", name, there)
    held: dict[str, tuple[str, ...]] = {}
    rates: set[float | None] = set()
    for name in job.datasets:
        rows = rows_of(store, name, job.where)
        ids = rows["episode_id"].to_list()
        rates |= set(rows["rate_hz"].to_list())
        if not ids:
            raise UsageError(f"dataset {name!r}: holds no episode" + (f" for which {job.where} holds" if job.where else ""))
        held[name] = tuple(held_out(ids, job.seed, job.config.held_out.share, job.config.held_out.most))
    stepped = _in_steps(job, said, rates)
    if stepped is not job:
        job = stepped
        said = chosen_model(job).said
    recipe = {
        "store": parsed.url,
        "version": store.version.number,
        "datasets": list(job.datasets),
        "where": job.where,
        "seed": job.seed,
        "held_out": {name: list(ids) for name, ids in held.items()},
        "weights": job.config.weights,
        "ranks": job.ranks,
        **said,
    }
    require_own(out, recipe)
    store_id = require_store(store.objects)["store_id"]
    address = f"{parsed.url}@{store.version.number}"
    return Prepared(replace(job, out=str(out)), address, f"{store_id}@{store.version.number}", held, recipe, chosen_device(job.device))


def _in_steps(job: TrainJob, said: Mapping[str, Any], rates: set[float | None]) -> TrainJob:
    """Return the job with a window in whole steps of the data, where nobody chose its gap and all data are of one rate."""
    (rate, *others) = rates
    if job.kind != "idm" or "gap_s" in job.config.model or rate is None or others:
        return job
    from dataengine.labels.idm_windows import fitted_to

    found = fitted_to(said["model"], rate)
    return replace(job, config=job.config.model_copy(update={"model": found | job.config.model})) if found else job
