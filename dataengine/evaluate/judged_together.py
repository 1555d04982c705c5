"""What sources of labels must have in common to stand in one table: names of their own, and one time over which the achieved change is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataengine.core.errors import UsageError

NEXT_STEP = ("flow_ridge",)  # methods whose labels of the achieved change reach to the next step where they state no gap


def require_own_names(names: Iterable[str]) -> None:
    """Refuse two sources of one name: one would silently take the place of the other.

    Raises:
        UsageError: there are two.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"what is judged: each label set, model, kind that learns and baseline must have a name of its own, got {twice[0]!r} more than once; "
            "rename the model's folder, or leave one out"
        )


def common_gap(told: Mapping[str, Mapping[str, Any]], kinds: Sequence[str], rate_hz: float | None) -> float | None:
    """Return the time in s over which the achieved change is measured, as the sources state it; None where none does: up to the next step.

    Args:
        told: the parameters of each source's labels, by its name.
        kinds: which targets are judged.
        rate_hz: of what is judged; gaps that are as many steps of it are the same.

    Raises:
        UsageError: achieved changes are judged, and sources speak of different times.
    """
    gaps: dict[str, float] = {name: float(each["gap_s"]) for name, each in told.items() if isinstance(each.get("gap_s"), int | float)}
    steps: dict[str, float] = {name: steps_of(gap_s, rate_hz) if rate_hz else gap_s for name, gap_s in gaps.items()}
    steps |= {name: 1 if rate_hz else 0.0 for name, each in told.items() if name not in gaps and each.get("method") in NEXT_STEP}
    if "displacement" in kinds and len(set(steps.values())) > 1:
        said = ", ".join(f"{name}: {f'{gaps[name]:g} s' if name in gaps else 'the next step'}" for name in steps)
        raise UsageError(
            f"labels of the achieved change: must all be over one time to be compared with one truth, got {said}; "
            "judge them one at a time, or their commands alone with --against action"
        )
    return next(iter(gaps.values()), None)


def steps_of(gap_s: float | None, rate_hz: float | None) -> int:
    """Return how many steps a gap is, at least one; one where the gap or the rate is not known."""
    return max(1, round(gap_s * rate_hz)) if gap_s and rate_hz else 1
