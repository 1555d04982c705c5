"""Fitting a model to batches: deterministic, and resumable at any step.

All randomness of a step (dropout, augmentation, gaps) comes from a generator that is a function of (seed, step, rank), and batches from a loader that knows
its place, so that a run that was cut goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field as Setting
from torch import Tensor, nn

from dataengine.core.config import Config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.randomness import hash64

STATE, PLACE, CURVE = "state.safetensors", "state.json", "curve.jsonl"


class FitConfig(Config):
    """How a model is fitted: AdamW with warm-up and a cosine decay to a tenth."""

    steps: int = Setting(default=600, ge=1)
    batch_size: int = Setting(default=64, ge=1)
    learning_rate: float = Setting(default=1e-3, gt=0)
    weight_decay: float = Setting(default=1e-2, ge=0)
    warmup_steps: int = Setting(default=50, ge=0)
    clip_norm: float = Setting(default=1.0, gt=0)
    average: float = Setting(default=0.0, ge=0, lt=1)  # decay of the running mean of the weights, which is what is kept; 0 for none
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    log_every: int = Setting(default=20, ge=1)
    save_every: int = Setting(default=200, ge=1)


class Fitted(Protocol):
    """What is fitted: a module and its loss on a batch."""

    module: nn.Module

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and figures to be logged, from a loader's batch that lies on the module's device; all that is random comes from `generator`."""


class Batches(Protocol):
    """A loader: endless, with a place that can be kept."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def seeded(device: torch.device, seed: int, *keys: int) -> torch.Generator:
    """Return a generator that is a function of a seed and keys."""
    return torch.Generator(device).manual_seed(int(hash64(seed, *keys)) & (2**63 - 1))


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device."""
    return {name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for name, value in batch.items()}


def fit(
    fitted: Fitted,
    batches: Batches,
    config: FitConfig,
    seed: int,
    folder: str | Path,
    *,
    rank: int = 0,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Fit a model, going on where an earlier run with the same configuration, seed and data in the same folder was cut.

    Args:
        fitted: the model, on its device. At the end it holds the weights that are to be kept.
        batches: a loader over the training episodes.
        config: how.
        seed: of all that is random.
        folder: for the state between runs and the curve.
        rank: this process among those that train together; only the first writes, all read what it wrote, so that the folder must be one for all.
        wrap: what makes a module one of several that train together (DistributedDataParallel).
        progress: is told the step and its figures every `log_every` steps.

    Returns:
        {"steps", "seconds", "cpu_seconds", "resumed_at", "last": figures, "before": {"seconds", "cpu_seconds"}}: times are of all runs together, as far as their
        state was kept, and those "before" of the runs that were cut.

    Raises:
        UsageError: the loss is not finite, or the folder holds a run of another kind.
    """
    module = fitted.module
    run = _Run(module, config, seed, Path(folder), rank)
    start = run.resume(batches)
    device = next(module.parameters()).device
    computed: Any = _Loss(fitted)
    if wrap is not None:
        computed = wrap(computed)
    if config.compile:
        computed = torch.compile(computed)
    shown = time.monotonic()
    last = run.last
    source = itertools.chain.from_iterable(iter(batches) for _ in itertools.count())
    for step in range(start, config.steps):
        batch = next(source)
        module.train()
        for group in run.optimizer.param_groups:
            group["lr"] = config.learning_rate * _share(step, config)
        with _precision(config, device):
            loss, figures = computed(on_device(batch, device), seeded(device, seed, step, rank))
        if not bool(torch.isfinite(loss)):
            raise UsageError(f"training: the loss must be finite, got {float(loss.detach())} at step {step}; lower learning_rate")
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
        run.optimizer.step()
        run.average(step)
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            now = time.monotonic()
            last = {"loss": float(loss.detach()), "gradient_norm": float(norm), **{name: float(value.detach()) for name, value in figures.items()}}
            run.last = last
            run.write(step + 1, last, now - shown)
            shown = now
            if progress is not None:
                progress(step + 1, last)
        if (step + 1) % config.save_every == 0 and step + 1 < config.steps:
            run.save(step + 1, batches)
    if start < config.steps:
        run.save(config.steps, batches)
    run.finish()
    return {"steps": config.steps, **run.spent(), "resumed_at": start, "last": last, "before": run.before}


class _Loss(nn.Module):
    """The loss as a module, so that what wraps or compiles it sees all that is computed."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.inner = fitted.module
        self._loss = fitted.loss

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(batch, generator)


def _precision(config: FitConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if config.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _share(step: int, config: FitConfig) -> float:
    """Return the share of the learning rate at a step."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    along = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.1 + 0.45 * (1 + float(torch.cos(torch.tensor(torch.pi * along))))


class _Run:
    """The optimiser, the running mean of the weights, and their state on disk."""

    def __init__(self, module: nn.Module, config: FitConfig, seed: int, folder: Path, rank: int) -> None:
        self._module, self._config, self._folder, self._writes = module, config, folder, rank == 0
        self._recipe = digest_json([config.model_dump(mode="json"), seed, [[name, list(value.shape)] for name, value in module.state_dict().items()]])
        kept = [value for value in self._module.parameters() if value.requires_grad]
        decayed, other = [value for value in kept if value.ndim >= 2], [value for value in kept if value.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": other, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, betas=(0.9, 0.99))
        self._parameters = {id(value): name for name, value in self._module.named_parameters()}
        self._mean = {name: value.detach().clone() for name, value in self._module.named_parameters()} if config.average else {}
        self._began, self._used = time.monotonic(), time.process_time()
        self.before = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.last: dict[str, float] = {}

    def spent(self) -> dict[str, float]:
        """Return how long this run and those that were cut before it took."""
        here = {"seconds": time.monotonic() - self._began, "cpu_seconds": time.process_time() - self._used}
        return {name: self.before[name] + value for name, value in here.items()}

    def average(self, step: int) -> None:
        """Move the running mean of the weights."""
        decay = min(self._config.average, (1 + step) / (10 + step))
        for name, value in self._module.named_parameters():
            if name in self._mean:
                self._mean[name].lerp_(value.detach(), 1 - decay)

    def finish(self) -> None:
        """Give the module the weights that are kept."""
        with torch.no_grad():
            for name, value in self._module.named_parameters():
                if name in self._mean:
                    value.copy_(self._mean[name])
        self._module.eval()

    def write(self, step: int, figures: Mapping[str, float], seconds: float) -> None:
        """Put figures into the curve."""
        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / CURVE).open("a") as file:
            told = {name: value if math.isfinite(value) else None for name, value in figures.items()}  # JSON knows no infinity
            file.write(json.dumps({"step": step, **told, "seconds": round(seconds, 3)}) + "\n")

    def _moments(self) -> dict[str, Tensor]:
        found = {}
        for value, state in self.optimizer.state.items():
            for key, moment in state.items():
                found[f"optimizer.{self._parameters[id(value)]}.{key}"] = moment.detach().reshape(-1) if moment.ndim == 0 else moment.detach()
        return found

    def save(self, step: int, batches: Batches) -> None:
        """Keep the state of a step: the one before is there until the new one is whole."""
        from safetensors.torch import save_file

        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"module.{name}": value.detach() for name, value in self._module.state_dict().items()} | self._moments()
        tensors |= {f"mean.{name}": value for name, value in self._mean.items()}
        name = f"state-{step}.safetensors"
        save_file({name: value.cpu().contiguous().clone() for name, value in tensors.items()}, self._folder / name)
        told = {name: value if math.isfinite(value) else None for name, value in self.last.items()}
        place = {"recipe": self._recipe, "step": step, "state": name, "loader": batches.state_dict(), "spent": self.spent(), "last": told}
        scratch = self._folder / (PLACE + ".new")
        scratch.write_text(json.dumps(place))
        os.replace(scratch, self._folder / PLACE)  # the one instant at which the state becomes the new one
        for old in self._folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def resume(self, batches: Batches) -> int:
        """Take up the state that was kept, and return its step."""
        from safetensors.torch import load_file

        path = self._folder / PLACE
        if not path.exists():
            self._cut_curve(0)
            return 0
        place = json.loads(path.read_text())
        if place["recipe"] != self._recipe:
            raise UsageError(f"{self._folder}: holds a run with other settings; give another folder, or remove it")
        tensors = load_file(self._folder / place["state"])
        device = next(self._module.parameters()).device
        self._module.load_state_dict({name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")})
        for name, value in self._module.named_parameters():
            prefix = f"optimizer.{name}."
            state = {key.removeprefix(prefix): moment for key, moment in tensors.items() if key.startswith(prefix)}
            if state:
                self.optimizer.state[value] = {key: moment.reshape(()) if key == "step" else moment.to(device) for key, moment in state.items()}
        self._mean = {name: tensors[f"mean.{name}"].to(device) for name in self._mean}
        self._cut_curve(int(place["step"]))
        self.before = {name: float(value) for name, value in place.get("spent", self.before).items()}
        self.last = {name: math.nan if value is None else float(value) for name, value in place.get("last", {}).items()}
        batches.load_state_dict(place["loader"])
        return int(place["step"])

    def _cut_curve(self, step: int) -> None:
        """Leave out of the curve what will be done again."""
        path = self._folder / CURVE
        if self._writes and path.exists():
            kept = [figures for figures in curve(self._folder) if figures["step"] <= step]
            scratch = self._folder / (CURVE + ".new")
            scratch.write_text("".join(json.dumps(figures) + "\n" for figures in kept))
            os.replace(scratch, path)  # a run that is killed here leaves the old one or the new one


def curve(folder: str | Path) -> list[dict[str, float]]:
    """Return the figures that were logged, by step; NaN of one that was not finite. A line that was cut with the process that wrote it is left out."""
    path, found = Path(folder) / CURVE, []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            found.append({name: math.nan if value is None else value for name, value in json.loads(line).items()})
    return found
