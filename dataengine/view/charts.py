"""Charts as inline SVG: curves, bands, scatters and bars, drawn from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dataengine.core.arrays import Array, require
from dataengine.view.axes import Axis, Plot, axis_of
from dataengine.view.markup import Markup, element, joined, number

COLOURS = 8
MOST_DOTS = 1200  # of a scatter: more are not told apart, and the page grows
MOST_POINTS = 1500  # of a curve, by the same reason: a page is about 700 px wide


@dataclass(frozen=True, eq=False)
class Series:
    """A curve: `x` and `y` (N,), with NaN where it is broken, and perhaps a band from `low` to `high` (N,).

    `colour` is a number from 0, by default its place among the series. `dashed` draws it broken, `dots` only its points.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    colour: int | None = None
    dashed: bool = False
    dots: bool = False
    steps: bool = False

    def __post_init__(self) -> None:
        require(len(np.asarray(self.x)) == len(np.asarray(self.y)), f"series {self.name!r}: must have as many x as y")
        require((self.low is None) == (self.high is None), f"series {self.name!r}: a band must have both ends")


def line_chart(
    series: Sequence[Series],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    *,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
    width: int = 380,
    height: int = 250,
) -> Markup:
    """Return curves in one frame.

    Args:
        series: the curves; what is not finite breaks them.
        title: what it shows.
        x_label, y_label: of the axes, with the unit.
        log_y: whether y is logarithmic; what is not above 0 is left out.
        y_range: what y shows at least; by default what there is.
        width, height: in px where it is drawn in its own size; it grows and shrinks with the page.
    """
    xs = np.concatenate([np.asarray(each.x, np.float64) for each in series] or [np.zeros(0)])
    ys = np.concatenate([np.asarray(value, np.float64) for each in series for value in (each.y, each.low, each.high) if value is not None] or [np.zeros(0)])
    plot = Plot(axis_of(xs), axis_of(np.concatenate([ys, np.asarray(y_range or (), np.float64)]), log=log_y, margin=0.04), width, height, x_label, y_label)
    drawn = [_curve(each, plot, each.colour if each.colour is not None else place) for place, each in enumerate(series)]
    return _figure(title, plot.svg(*drawn), [(each.name, each.colour if each.colour is not None else place, each.dots) for place, each in enumerate(series)])


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    *,
    diagonal: bool = False,
    colour: int = 0,
    width: int = 380,
    height: int = 320,
) -> Markup:
    """Return dots; `diagonal` gives both axes one range and draws where y equals x. Of many dots every n-th is drawn."""
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    require(across.shape == up.shape and across.ndim == 1, "scatter: x and y must be (N,)")
    there = np.isfinite(across) & np.isfinite(up)
    across, up = across[there], up[there]
    step = max(1, math.ceil(len(across) / MOST_DOTS))
    across, up = across[::step], up[::step]
    both = np.concatenate([across, up])
    plot = Plot(axis_of(both if diagonal else across, margin=0.03), axis_of(both if diagonal else up, margin=0.03), width, height, x_label, y_label)
    parts = []
    if diagonal:
        low, high = plot.x.low, plot.x.high
        parts.append(
            element("line", x1=plot.across(low), y1=plot.up(low), x2=plot.across(high), y2=plot.up(high), stroke="var(--soft)", stroke_dasharray="4 3")
        )
    path = "".join(f"M{plot.across(one):.1f} {plot.up(other):.1f}h0" for one, other in zip(across, up, strict=True))
    parts.append(element("path", d=path, stroke=f"var(--c{colour % COLOURS})", stroke_width=3.4, stroke_linecap="round", fill="none", opacity=0.45))
    return _figure(title, plot.svg(*parts), [])


def bars(
    groups: Sequence[str],
    series: Sequence[str],
    values: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    title: str = "",
    y_label: str = "",
    *,
    y_range: tuple[float, float] | None = None,
    width: int = 380,
    height: int = 250,
) -> Markup:
    """Return bars in groups, with the ends of intervals where they are given.

    Args:
        groups: names along x, G of them.
        series: names of the bars of a group, S of them.
        values: (G, S), NaN for a bar that is not there; `low` and `high` the same for the ends of intervals.
        low, high: see values.
        title: what it shows.
        y_label: of the axis, with the unit.
        y_range: what y shows at most and at least; what lies beyond is cut off at the edge. By default all there is.
        width, height: see `line_chart`.
    """
    tall = np.asarray(values, np.float64)
    require(tall.shape == (len(groups), len(series)), f"bars: values must be ({len(groups)}, {len(series)}), got {tall.shape}")
    ends = [np.asarray(end, np.float64) for end in (low, high) if end is not None]
    seen = np.concatenate([np.zeros(1), tall.ravel(), *[end.ravel() for end in ends]])
    up = Axis(*y_range) if y_range is not None else axis_of(seen, margin=0.04)
    plot = Plot(Axis(-0.5, len(groups) - 0.5), up, width, height, "", y_label, x_names=groups)
    thick = 0.8 / max(1, len(series))
    parts = [element("line", x1=plot.across(-0.5), x2=plot.across(len(groups) - 0.5), y1=plot.up(0), y2=plot.up(0), stroke="var(--soft)")]
    for (group, one), value in np.ndenumerate(tall):
        if not math.isfinite(value):
            continue
        left, right = plot.across(group - 0.4 + one * thick), plot.across(group - 0.4 + (one + 0.92) * thick)
        top, bottom = sorted((plot.up(up.kept(value)), plot.up(up.kept(0.0))))
        label = f"{groups[group]}, {series[one]}: {number(float(value))}"
        if len(ends) == 2 and np.isfinite([end[group, one] for end in ends]).all():
            label += f" ({number(float(ends[0][group, one]))} … {number(float(ends[1][group, one]))})"
        parts.append(
            element(
                "rect",
                element("title", label),
                x=left,
                y=top,
                width=max(right - left, 0.5),
                height=max(bottom - top, 0.6),
                fill=f"var(--c{one % COLOURS})",
                opacity=0.85,
            )
        )
        if len(ends) == 2:
            middle = (left + right) / 2
            stops = [plot.up(up.kept(float(end[group, one]))) for end in ends if math.isfinite(end[group, one])]
            if len(stops) == 2:
                parts.append(
                    element(
                        "path",
                        d=f"M{middle:.1f} {stops[0]:.1f}V{stops[1]:.1f}M{middle - 2.5:.1f} {stops[0]:.1f}h5M{middle - 2.5:.1f} {stops[1]:.1f}h5",
                        stroke="var(--ink)",
                        fill="none",
                    )
                )
    return _figure(title, plot.svg(*parts), [(name, place, True) for place, name in enumerate(series)] if len(series) > 1 else [])


def _curve(series: Series, plot: Plot, colour: int) -> Markup:
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    step = max(1, math.ceil(len(x) / MOST_POINTS))
    paint = f"var(--c{colour % COLOURS})"
    parts = []
    if series.low is not None and series.high is not None:
        low, high = np.asarray(series.low, np.float64), np.asarray(series.high, np.float64)
        for run in _runs(plot.drawable(x, low) & plot.drawable(x, high)):
            run = run[::step]
            there = [f"{plot.across(x[at]):.1f} {plot.up(high[at]):.1f}" for at in run]
            back = [f"{plot.across(x[at]):.1f} {plot.up(low[at]):.1f}" for at in run[::-1]]
            parts.append(element("path", d=f"M{'L'.join([*there, *back])}Z", fill=paint, opacity=0.18))
    runs = [run[::step] for run in _runs(plot.drawable(x, y))]
    if series.dots:
        path = "".join(f"M{plot.across(x[at]):.1f} {plot.up(y[at]):.1f}h0" for run in runs for at in run)
        parts.append(element("path", d=path, stroke=paint, stroke_width=5.0, stroke_linecap="round", fill="none"))
    else:
        path = "".join(f"M{'L'.join(_points(plot, x, y, run, series.steps))}" + ("h0" if len(run) == 1 else "") for run in runs)
        parts.append(
            element(
                "path",
                d=path,
                stroke=paint,
                stroke_width=1.6,
                stroke_linejoin="round",
                stroke_linecap="round",
                fill="none",
                stroke_dasharray="5 3" if series.dashed else None,
            )
        )
    return joined(*parts)


def _points(plot: Plot, x: Array, y: Array, run: Array, steps: bool) -> list[str]:
    found = []
    for place, at in enumerate(run):
        if steps and place:
            found.append(f"{plot.across(x[at]):.1f} {plot.up(y[run[place - 1]]):.1f}")
        found.append(f"{plot.across(x[at]):.1f} {plot.up(y[at]):.1f}")
    return found


def _runs(there: Array) -> list[Array]:
    """Return the stretches in which all is there, as indices."""
    places = np.flatnonzero(there)
    return [run for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(run)]


def _figure(title: str, drawing: Markup, legend: Sequence[tuple[str, int, bool]]) -> Markup:
    keys = [
        element("span", element("i", class_="dot" if dot else None, style=f"background:var(--c{colour % COLOURS})"), name)
        for name, colour, dot in legend
        if name
    ]
    return element("figure", element("figcaption", title) if title else "", element("div", *keys, class_="legend") if keys else "", drawing)
