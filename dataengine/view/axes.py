"""Axes of a chart: what they span, where their marks stand, and the frame that curves are drawn in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.view.markup import Markup, element, joined

LEFT, RIGHT, TOP, BOTTOM = 52, 10, 8, 38  # px around the frame: numbers and the names of the axes
MARKS = 5
GROWTH = 1.4  # of its own size at most: beyond that its text would be larger than that of the page


@dataclass(frozen=True)
class Axis:
    """What an axis spans; `log` for one of powers of ten."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Return how far along a value lies: 0 at `low`, 1 at `high`."""
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def kept(self, value: float) -> float:
        """Return the nearest value that the axis spans."""
        return min(max(value, self.low), self.high)

    @property
    def marks(self) -> list[float]:
        """Return where marks stand: at 1, 2 or 5 times a power of ten, about five of them; of a logarithmic axis powers of ten, or 1, 2 and 5 times."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1.0,) if self.high / self.low > 1e3 else (1.0, 2.0, 5.0)
            return [mark for power in powers for factor in factors if self.low <= (mark := factor * 10.0**power) <= self.high]
        rough = (self.high - self.low) / MARKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.7 * rough)
        first = math.ceil(self.low / step - 1e-9)
        return [place * step for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis_of(values: Array, log: bool = False, margin: float = 0.0) -> Axis:
    """Return an axis that spans all finite values, with a margin on both sides as a share of them."""
    there = np.asarray(values, np.float64)
    there = there[np.isfinite(there) & ((there > 0) | (not log))]
    if not len(there):
        return Axis(0.1 if log else 0.0, 1.0, log)
    low, high = float(there.min()), float(there.max())
    if log:
        return Axis(low / 1.1, high * 1.1, True)
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = 0.5 if high == 0 else abs(high) / 2
        return Axis(low - pad, high + pad)
    return Axis(low - margin * (high - low), high + margin * (high - low))


@dataclass(frozen=True)
class Plot:
    """A frame with two axes; `x_names` are names at 0, 1, 2, ... instead of numbers along x."""

    x: Axis
    y: Axis
    width: int
    height: int
    x_label: str = ""
    y_label: str = ""
    x_names: Sequence[str] | None = None

    def across(self, value: float) -> float:
        """Return how far from the left a value of x is drawn, in px."""
        return LEFT + self.x.share(float(value)) * (self.width - LEFT - RIGHT)

    def up(self, value: float) -> float:
        """Return how far from the top a value of y is drawn, in px."""
        return self.height - BOTTOM - self.y.share(float(value)) * (self.height - TOP - BOTTOM)

    def drawable(self, x: Array, y: Array) -> Array:
        """Return where a point can be drawn."""
        return np.asarray(np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not self.y.log)))

    def svg(self, *content: Markup) -> Markup:
        """Return the drawing: marks, the frame, and the content over them."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        for mark, text in zip(self.y.marks, _written(self.y.marks, self.y.log), strict=True):
            at = self.up(mark)
            parts += [element("line", class_="grid", x1=LEFT, x2=right, y1=at, y2=at), element("text", text, x=LEFT - 6, y=at + 3.5, text_anchor="end")]
        if self.x_names is not None:
            room = (right - LEFT) / max(1, len(self.x_names))
            parts += [
                element("text", element("title", name), _fitting(name, room), x=self.across(place), y=bottom + 15, text_anchor="middle")
                for place, name in enumerate(self.x_names)
            ]
        else:
            for mark, text in zip(self.x.marks, _written(self.x.marks, self.x.log), strict=True):
                at = self.across(mark)
                parts += [element("line", class_="grid", x1=at, x2=at, y1=TOP, y2=bottom), element("text", text, x=at, y=bottom + 15, text_anchor="middle")]
        if self.x_label:
            parts.append(element("text", self.x_label, x=(LEFT + right) / 2, y=self.height - 5, text_anchor="middle"))
        if self.y_label:
            middle = (TOP + bottom) / 2
            parts.append(element("text", self.y_label, x=11, y=middle, text_anchor="middle", transform=f"rotate(-90 11 {middle:.1f})"))
        frame = element("rect", class_="frame", x=LEFT, y=TOP, width=right - LEFT, height=bottom - TOP)
        return element(
            "svg", joined(*parts), frame, *content, viewBox=f"0 0 {self.width} {self.height}", role="img", style=f"max-width:{round(self.width * GROWTH)}px"
        )


def _written(marks: Sequence[float], log: bool) -> list[str]:
    if log or not marks:
        return [f"{mark:g}" for mark in marks]
    step = min((abs(b - a) for a, b in itertools.pairwise(marks)), default=abs(marks[0]) or 1.0)
    largest = max(abs(mark) for mark in marks)
    if largest >= 1e5 or (0 < largest < 1e-3):
        return [f"{mark:.1e}" if mark else "0" for mark in marks]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{mark + 0.0:.{places}f}".replace("-", "−") for mark in marks]


def _fitting(name: str, room_px: float) -> str:
    most = max(3, int(room_px / 6))
    return name if len(name) <= most else name[: most - 1] + "…"
