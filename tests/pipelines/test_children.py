"""Processes around tasks: what dies, hangs or eats memory costs its task, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dataengine.core.errors import DataEngineError
from pipelines.children import Died, Limits, in_kept_child, map_in_children, turn_to
from tests.support.jobs import wait_for
from tests.support.shared import REPOSITORY
from tests.support.tasks import Unreadable, die_at, eat, fail, fail_awkwardly, leave_a_file, pause, square, square_or_die

AMPLE = Limits(memory_bytes=2 << 30, seconds=60.0)


def test_every_task_comes_back_once_from_no_more_processes_than_workers() -> None:
    results = dict(map_in_children(square, range(9), 2, AMPLE))
    assert {number: value[0] for number, value in results.items() if not isinstance(value, Died)} == {n: n * n for n in range(9)}
    processes = {value[1] for value in results.values() if not isinstance(value, Died)}
    assert len(processes) <= 2
    assert os.getpid() not in processes


def test_a_death_costs_its_task_only() -> None:
    results = dict(map_in_children(square_or_die, range(7), 2, AMPLE))
    assert results[3] == Died("the process that read it died of SIGSEGV")
    assert results[5] == Died("the process that read it ended with exit code 7")
    assert {number: value for number, value in results.items() if number not in (3, 5)} == {0: 0, 1: 1, 2: 4, 4: 16, 6: 36}


def test_a_death_says_at_which_part() -> None:
    results = dict(map_in_children(die_at, [(4, 9), (4, 2)], 1, AMPLE))
    assert results == {0: 4, 1: Died("the process that read it died of SIGKILL", part=2)}


def test_a_part_that_takes_too_long_is_stopped_and_parts_are_timed_one_by_one() -> None:
    limits = Limits(seconds=1.0)
    started = time.monotonic()
    results = dict(map_in_children(pause, [(0.5, 0.5, 0.5, 0.5), (0.1, 60.0, 0.1)], 2, limits))
    assert results == {0: 4, 1: Died("took longer than 1 s", part=1, stopped=True)}
    assert time.monotonic() - started < 20


def test_limits_hold_while_nobody_waits_for_the_results() -> None:
    results = map_in_children(pause, [(0.0,), (0.0, 60.0)], 2, Limits(seconds=0.5))
    assert next(results) == (0, 1)
    time.sleep(2.0)  # the caller commits, say; what is done meanwhile is not held against a child, what hangs is
    started = time.monotonic()
    assert list(results) == [(1, Died("took longer than 0.5 s", part=1, stopped=True))]
    assert time.monotonic() - started < 1.0


def test_a_finished_task_is_not_held_against_its_child_while_nobody_fetches_it() -> None:
    results = map_in_children(pause, [(0.0,), (0.0,), (0.0,), (0.0,)], 2, Limits(seconds=0.3))
    assert next(results)[1] == 1
    time.sleep(1.0)
    assert [value for _, value in results] == [1, 1, 1]


def test_memory_is_bounded() -> None:
    limits = Limits(memory_bytes=400 << 20)
    results = dict(map_in_children(eat, [10, 4000], 1, limits))
    assert results == {0: 10, 1: Died("used more than 400 MiB of memory", stopped=True)}


def test_errors_are_raised_here() -> None:
    with pytest.raises(ValueError, match="of its own"):
        list(map_in_children(fail, ["of its own"], 1, AMPLE))
    with pytest.raises(RuntimeError, match="Awkward: awkward"):
        list(map_in_children(fail_awkwardly, [0], 1, AMPLE))


def test_a_kept_child_is_used_again_and_replaced_when_it_died() -> None:
    first, second = in_kept_child(square, 3, AMPLE), in_kept_child(square, 4, AMPLE)
    assert not isinstance(first, Died)
    assert not isinstance(second, Died)
    assert first[1] == second[1]
    os.kill(first[1], signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(first[1]) or psutil.Process(first[1]).status() == psutil.STATUS_ZOMBIE)
    third = in_kept_child(square, 5, AMPLE)
    assert not isinstance(third, Died)
    assert third[0] == 25
    assert third[1] != first[1]
    assert in_kept_child(pause, (30.0,), Limits(seconds=0.5)) == Died("took longer than 0.5 s", part=0, stopped=True)


def test_processes_that_do_not_start_are_nobodys_fault_and_end_the_job() -> None:
    """A broken installation must not make rejections of sound recordings."""
    with pytest.raises(DataEngineError, match="ended before \\(the process that read it ended with exit code 9\\)"):
        list(map_in_children(square, [Unreadable()], 1, AMPLE))  # type: ignore[list-item]
    with pytest.raises(DataEngineError, match="begins its task"):
        in_kept_child(square, Unreadable(), AMPLE)  # type: ignore[arg-type]


def test_an_idle_process_that_is_killed_costs_nothing() -> None:
    results = map_in_children(square, [1, 2, 3], 1, AMPLE)
    number, first = next(results)
    assert (number, not isinstance(first, Died)) == (0, True)
    assert not isinstance(first, Died)
    os.kill(first[1], signal.SIGKILL)
    rest = dict(results)
    assert [rest[number][0] for number in (1, 2)] == [4, 9]  # type: ignore[index]


def test_temporary_files_go_with_their_process() -> None:
    (answer,) = map_in_children(leave_a_file, [False], 1, AMPLE)
    assert isinstance(answer[1], str)
    assert not Path(answer[1]).exists()
    assert next(iter(map_in_children(leave_a_file, [True], 1, AMPLE)))[1] == Died("the process that read it died of SIGKILL")


def test_turning_to_a_part_means_nothing_outside_a_child() -> None:
    turn_to(3)


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed alone leaves nobody behind who goes on writing."""
    target = tmp_path / "written"
    code = (
        "from pipelines.children import Limits, map_in_children\n"
        "from tests.support.tasks import write_when_done\n"
        "if __name__ == '__main__':\n"
        f"    list(map_in_children(write_when_done, [({str(target)!r}, 20.0)], 1, Limits()))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    pid_file = Path(f"{target}.pid")
    wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    child = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 10.0)
    assert not target.exists()
