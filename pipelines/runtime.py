"""Where work runs: on Ray Data, started locally by itself or on a cluster, or in child processes of this machine. The only file that imports Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dataengine.core.errors import DataEngineError, UsageError
from pipelines.children import Died, Limits, in_kept_child, map_in_children

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 1
STARTS = 3  # so often in a row may an actor end before it has begun anything


@dataclass(frozen=True)
class Share:
    """What each of some actors gets of the machines: threads for its model, and a device."""

    actors: int
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Runtime:
    """How tasks are run.

    `local` runs them in child processes without Ray; otherwise on Ray Data, on the cluster at `address` where one is given.
    """

    local: bool = False
    address: str | None = None
    workers: int | None = None

    @property
    def cores(self) -> int:
        """Return how many tasks run at once on this machine."""
        return self.workers or len(os.sched_getaffinity(0))

    def map(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        """Yield (task number, result) in the order in which tasks end; Died for a task whose worker did not come back, or went over a limit."""
        if not tasks:
            return iter(())
        if self.local:
            return map_in_children(function, tasks, self.cores, limits)
        return self._map_on_ray(function, tasks, limits)

    def alone(self, function: Callable[[T], R], task: T, limits: Limits, attempts: int = 2, share: Share | None = None) -> R | Died:
        """Return the result of one task in a process of its own, tried again if it dies by itself: for what killed its worker before.

        Under Ray it waits until what it needs is free (one core, or what `share` says an actor gets): never to be called while actors are mapped over.
        """
        guarded = _Guarded(function, limits, attempts)
        result: R | Died = guarded(task) if self.local else self._one_on_ray(guarded, task, share)
        return result

    def share(self, device: str, actors: int | None, tasks: int) -> Share:
        """Return how many actors there are to be for some tasks, and what each gets.

        Args:
            device: "cpu", "cuda", or "auto": a GPU where there is one.
            actors: how many; by default one a GPU, else one a core, and no more than there are tasks.
            tasks: how many tasks there are.

        Raises:
            UsageError: a GPU is asked for and there is none.
        """
        cores, gpus = self._cores_and_gpus(device)
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device: must be cpu, cuda or auto, got {device!r}")
        if device == "cuda" and not gpus:
            raise UsageError("--device cuda: needs a GPU that CUDA can use, found none; use --device cpu")
        if device != "cpu" and gpus:
            count = min(actors or (1 if self.local else gpus), max(1, tasks))
            return Share(count, max(1, cores // count), "cuda")
        count = min(actors or cores, max(1, tasks))
        return Share(count, max(1, cores // count))

    def _cores_and_gpus(self, device: str) -> tuple[int, int]:
        if self.address is not None:
            import ray

            self._start()
            there = ray.cluster_resources()
            return max(1, int(there.get("CPU", 1))), int(there.get("GPU", 0))
        gpus = 0
        if device != "cpu":
            import torch

            gpus = torch.cuda.device_count()
        return self.cores, gpus

    def map_on_actors(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits, share: Share) -> Iterator[tuple[int, R | Died]]:
        """Yield (task number, result) in the order in which tasks end, as `map` does; processes live on from task to task, so that they can hold a model.

        Under Ray they are actors, each with its share of cores and GPUs; what it holds is in a child process of the actor, whose death costs one task.
        """
        if self.local:
            return replace(self, workers=share.actors).map(function, tasks, limits)
        return self._map_on_ray_actors(function, tasks, limits, share) if tasks else iter(())

    def train_together(self, function: Callable[[int], None], ranks: int, gpu: bool, folder: Path) -> None:
        """Run a function in `ranks` processes that Ray Train brings together (torch.distributed), each told its rank; one GPU each where `gpu`.

        Raises:
            UsageError: what a process raised of this kind.
        """
        import ray.train
        from ray.train.torch import TorchTrainer

        self._start()
        trainer = TorchTrainer(
            _together,
            train_loop_config={"function": pickle.dumps(function), "folder": os.getcwd()},
            scaling_config=ray.train.ScalingConfig(num_workers=ranks, use_gpu=gpu),
            run_config=ray.train.RunConfig(name="ray", storage_path=str(folder.resolve())),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            cause = next((each for each in _causes(error) if isinstance(each, UsageError)), None)
            if cause is not None:
                raise cause from None
            raise

    # -- Ray

    def _map_on_ray_actors(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits, share: Share) -> Iterator[tuple[int, R | Died]]:
        import ray

        self._start()
        kind = ray.remote(_Actor).options(**_resources(share), max_restarts=0)
        waiting, failed = list(range(len(tasks))), 0
        busy: dict[Any, tuple[Any, int]] = {}  # what is awaited → the actor, and the number of its task, -1 while it starts
        actors = []

        def begin() -> None:
            actor = kind.remote(_RayCall(function, limits))
            actors.append(actor)
            busy[actor.begun.remote()] = actor, -1

        try:
            for _ in range(min(share.actors, len(tasks))):
                begin()
            while busy:
                (ready, *_), _ = ray.wait(list(busy), num_returns=1)
                actor, number = busy.pop(ready)
                try:
                    answer = ray.get(ready)
                except ray.exceptions.RayActorError as error:  # the machine is gone, or the actor was killed
                    failed = failed + 1 if number < 0 else 0
                    if failed >= STARTS:
                        raise DataEngineError(f"actor: must begin, and {failed} in a row ended before: {str(error)[:300]}; see Ray's logs") from error
                    if waiting:
                        begin()
                    if number >= 0:
                        yield number, Died("the actor that held the model died")
                    continue
                if waiting:
                    following = waiting.pop(0)
                    busy[actor.run.remote({"number": following, "task": pickle.dumps(tasks[following])})] = actor, following
                if number >= 0:
                    done, value = pickle.loads(answer["result"])  # noqa: S301 - what our own actor wrote
                    if not done:
                        raise value
                    yield number, value
        finally:
            for actor in actors:
                ray.kill(actor)

    def _start(self) -> None:
        import ray

        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
        if self.address is not None:
            settings = {"address": self.address, "logging_level": logging.ERROR, "log_to_driver": False}
        else:
            settings |= {"num_cpus": self.cores, "object_store_memory": 512 << 20}
        ray.init(**settings)

    def _map_on_ray(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        import ray

        self._start()
        with _quiet_ray_data():
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.max_errored_blocks = -1  # a lost block is found below, by the numbers that did not come back
            rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
            data = ray.data.from_items(rows, override_num_blocks=len(rows))
            mapped = data.map(
                _RayCall(function, limits), num_cpus=1, compute=ray.data.TaskPoolStrategy(size=min(self.workers, len(tasks)) if self.workers else None)
            )
            back: set[int] = set()
            for row in mapped.iter_rows():
                number = int(row["number"])
                back.add(number)
                done, value = pickle.loads(row["result"])  # noqa: S301 - what our own worker wrote
                if not done:
                    raise value
                yield number, value
            for number in range(len(tasks)):
                if number not in back:
                    yield number, Died("the worker that read it died")

    def _one_on_ray(self, guarded: _Guarded, task: Any, share: Share | None) -> Any:
        import ray

        self._start()
        needed = {"num_cpus": 1.0} if share is None else _resources(share)
        try:
            return ray.get(ray.remote(_call_guarded).options(**needed, max_retries=RETRIES).remote(guarded, task))
        except ray.exceptions.WorkerCrashedError:
            return Died("the worker that read it died")

    def stop(self) -> None:
        """Stop a Ray that this process started."""
        if self.local or self.address is not None:
            return
        import ray

        if ray.is_initialized():
            ray.shutdown()


def _resources(share: Share) -> dict[str, float]:
    """Return what Ray is to set aside for each actor."""
    import ray

    there = ray.cluster_resources()
    cpus = share.threads if share.actors * share.threads <= there.get("CPU", 1) else 0.01
    return {"num_cpus": cpus, "num_gpus": min(1.0, there.get("GPU", 0) / share.actors) if share.device == "cuda" else 0}


@dataclass(frozen=True)
class _RayCall:
    """Runs the function on a row of Ray Data, in a child process of the worker.

    A parser that dies then kills the child and not the worker: Ray Data runs a task whose worker died again and again, without end. Errors travel in
    the result, so that they never cost a block.
    """

    function: Callable[[Any], Any]
    limits: Limits

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        task = pickle.loads(row["task"])  # noqa: S301 - what our own driver wrote
        try:
            answer: tuple[bool, Any] = (True, in_kept_child(self.function, task, self.limits))
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            answer = (False, error)
        return {"number": row["number"], "result": pickle.dumps(answer)}


class _Actor:
    """Lives as long as a job, and with it the child process that holds what the function keeps."""

    def __init__(self, call: _RayCall) -> None:
        self._call = call

    def begun(self) -> None:
        """Answer as soon as the actor lives."""

    def run(self, row: dict[str, Any]) -> dict[str, Any]:
        """Run a task."""
        return self._call(row)


@dataclass(frozen=True)
class _Guarded:
    """Runs one task in a child process with limits; one that dies is tried again, one that was stopped at a limit is not."""

    function: Callable[[Any], Any]
    limits: Limits
    attempts: int

    def __call__(self, task: Any) -> Any:
        result: Any = Died("was never started")
        for _ in range(self.attempts):
            ((_, result),) = map_in_children(self.function, [task], 1, self.limits)
            if not isinstance(result, Died) or result.stopped:
                break
        return result


def _together(config: dict[str, Any]) -> None:
    """What a worker of Ray Train runs: it begins in a folder of Ray's, and relative paths of a configuration are meant from the caller's."""
    if os.path.isdir(config["folder"]):
        os.chdir(config["folder"])
    function = pickle.loads(config["function"])  # noqa: S301 - what our own driver wrote
    function(train_rank()[0])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it came of, and what Ray keeps of the workers' errors."""
    seen: list[BaseException] = [error]
    while seen:
        each = seen.pop()
        yield each
        seen += [
            found
            for found in (each.__cause__, getattr(each, "cause", None), *getattr(each, "worker_failures", {}).values())
            if isinstance(found, BaseException)
        ]


def train_rank() -> tuple[int, int]:
    """Return the rank of this worker of Ray Train, and how many there are.

    Raises:
        UsageError: this process is none.
    """
    import ray.train

    try:
        context = ray.train.get_context()
        return int(context.get_world_rank()), int(context.get_world_size())
    except (RuntimeError, AttributeError):
        raise UsageError(
            "train_loader: must be called in the function that a Ray Train worker runs; outside of it use loader(..., rank=, world_size=)"
        ) from None


def dataset_of_blocks(read: Callable[[int], dict[str, Any]], blocks: int) -> Any:
    """Return a ray.data.Dataset whose block `n` of `blocks` is what `read(n)` returns, a dict of arrays (rows, ...) and lists; the order is kept."""
    import ray.data

    data = ray.data.range(blocks, override_num_blocks=blocks).map_batches(_BlockCall(read), batch_size=None)
    data.context.execution_options.preserve_order = True
    return data


@dataclass(frozen=True)
class _BlockCall:
    """Reads the block whose number Ray Data hands over."""

    read: Callable[[int], dict[str, Any]]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (number,) = batch["id"].tolist()
        return self.read(number)


def _call_guarded(guarded: _Guarded, task: Any) -> Any:
    return guarded(task)


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Keep Ray Data's own log lines off the terminal; its files keep them."""
    import ray.data  # its import makes the handlers

    logger = logging.getLogger(ray.data.__name__)
    before = list(logger.handlers)
    logger.handlers = [handler for handler in before if "File" in type(handler).__name__]
    try:
        yield
    finally:
        logger.handlers = before
