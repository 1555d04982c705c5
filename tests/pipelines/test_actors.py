"""Actors: how many, with what share of the machine; they live on from task to task, and one that dies costs its task alone."""

from __future__ import annotations

import pytest

from dataengine.core.errors import UsageError
from pipelines.children import Died, Limits
from pipelines.runtime import Runtime, Share
from tests.support.actor_tasks import Where


@pytest.mark.parametrize(
    ("cores", "actors", "tasks", "expected"),
    [
        (8, None, 100, Share(8, 1)),
        (8, None, 3, Share(3, 2)),
        (8, 2, 100, Share(2, 4)),
        (8, 1, 100, Share(1, 8)),
        (2, 5, 100, Share(5, 1)),
        (8, None, 0, Share(1, 8)),
    ],
)
def test_each_actor_gets_its_share_of_the_cores(cores: int, actors: int | None, tasks: int, expected: Share) -> None:
    assert Runtime(local=True, workers=cores).share("cpu", actors, tasks) == expected
    assert Runtime(workers=cores).share("cpu", actors, tasks) == expected


def test_a_gpu_each_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="--device cuda: needs a GPU that CUDA can use, found none; use --device cpu"):
        Runtime(workers=8).share("cuda", None, 9)
    assert Runtime(workers=8).share("auto", None, 9) == Share(8, 1, "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Runtime(workers=8).share("auto", None, 9) == Share(4, 2, "cuda")
    assert Runtime(workers=8).share("cuda", 8, 9) == Share(8, 1, "cuda")
    assert Runtime(local=True, workers=8).share("cuda", None, 9) == Share(1, 8, "cuda"), "without Ray nobody hands out the others"
    assert Runtime(workers=8).share("cpu", None, 9) == Share(8, 1, "cpu")
    with pytest.raises(UsageError, match="--device: must be cpu, cuda or auto, got 'tpu'"):
        Runtime(workers=8).share("tpu", None, 9)


def test_processes_live_on_from_task_to_task() -> None:
    runtime = Runtime(local=True)
    found = dict(runtime.map_on_actors(Where(), range(6), Limits(), Share(2)))
    assert sorted(found) == list(range(6))
    assert [found[number][0] for number in range(6)] == list(range(6))
    assert len({(pid, began) for _, pid, began in found.values()}) == 2


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.timeout(300)
def test_an_actor_that_dies_costs_its_task_alone() -> None:
    runtime = Runtime()
    try:
        found = dict(runtime.map_on_actors(Where(deadly=3), range(9), Limits(), Share(2)))
        assert sorted(found) == list(range(9))
        assert found.pop(3) == Died("the actor that held the model died")
        assert all(isinstance(each, tuple) and each[0] == number for number, each in found.items())
        assert len({each[1:] for each in found.values()}) <= 3, "two actors, and one in place of that which died"
        assert list(runtime.map_on_actors(Where(), [], Limits(), Share(2))) == []
    finally:
        runtime.stop()
