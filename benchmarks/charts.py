"""Plots as SVG text, made here: no script, no fonts from elsewhere, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from msgspec import Struct

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 16, 44
BAR_HEIGHT, BAR_GAP, BAR_LEFT = 18, 8, 300
COLOURS = ("#3b6fd4", "#d4703b", "#3b9d5a", "#9a4fc4", "#b0902a", "#c43f6a", "#4aa3b5", "#7a7a7a")
MANY, FEW = 1000.0, 0.01


class Line(Struct, frozen=True):
    """A curve: its name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


class Bar(Struct, frozen=True):
    """A bar; `target` draws a line across it, `is_met` chooses its colour."""

    name: str
    value: float
    target: float | None = None
    is_met: bool | None = None


def curve(
    lines: Sequence[Line], *, across: str, up: str, across_log: bool = True, up_log: bool = False
) -> str:
    """Curves in one frame with a legend; logarithmic axes where asked."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    x_axis = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, is_log=across_log)
    y_axis = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, is_log=up_log, from_zero=not up_log)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(up)} by {escape(across)}">']
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        placed = [(x_axis.place(x), y_axis.place(y)) for x, y in sorted(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        y = TOP + 14 + 18 * index
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 28}" y="{y}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"])


def bars(rows: Sequence[Bar], *, unit: str) -> str:
    """Horizontal bars, each with its number and, where it has one, the line of its target."""
    if not rows:
        return ""
    longest = max(max(row.value, row.target or 0) for row in rows) or 1.0
    scale = (WIDTH - BAR_LEFT - 70) / longest
    height = len(rows) * (BAR_HEIGHT + BAR_GAP) + BAR_GAP
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(unit)}">']
    for index, row in enumerate(rows):
        y = BAR_GAP + index * (BAR_HEIGHT + BAR_GAP)
        kind = {None: "plain", True: "met", False: "missed"}[row.is_met]
        length = row.value * scale
        parts.append(
            f'<text x="{BAR_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(row.name)}</text>'
            f'<rect class="{kind}" x="{BAR_LEFT}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}"/>'
            f'<text x="{BAR_LEFT + length + 6:.1f}" y="{y + 13}">{number(row.value)} {escape(unit)}</text>'
        )
        if row.target is not None:
            x = BAR_LEFT + row.target * scale
            parts.append(
                f'<line class="target" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + BAR_HEIGHT + 3}"/>'
            )
    return "\n".join([*parts, "</svg>"])


def number(value: float) -> str:
    """A number as a person reads it."""
    if value == 0:
        return "0"
    if abs(value) >= MANY:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) >= FEW else f"{value:.1g}"


class _Axis:
    """Places numbers between two edges of a picture."""

    def __init__(
        self, values: Sequence[float], begin: float, end: float, *, is_log: bool, from_zero: bool = False
    ) -> None:
        self._begin, self._end, self._is_log = begin, end, is_log
        low, high = min(values), max(values)
        if is_log:
            low, high = max(low, 1e-6), max(high, 1e-6)
        elif from_zero:
            low = 0.0
        if low == high:
            high = low * 2 or 1.0
        self._low, self._high = low, high

    def place(self, value: float) -> float:
        low, high = self._low, self._high
        if self._is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-6))
        return self._begin + (value - low) / (high - low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        if not self._is_log:
            step = 10 ** math.floor(math.log10(self._high - self._low))
            while (self._high - self._low) / step > 6:  # noqa: PLR2004 - as many lines as an eye likes
                step *= 2 if (self._high - self._low) / step <= 12 else 5  # noqa: PLR2004 - same
            first = math.ceil(self._low / step)
            return [index * step for index in range(first, int(self._high / step) + 1)]
        first, last = math.floor(math.log10(self._low)), math.ceil(math.log10(self._high))
        found = [10.0**power for power in range(first, last + 1)]
        inside = [tick for tick in found if self._low <= tick <= self._high]
        return sorted({self._low, *inside, self._high}) if len(inside) < 3 else inside  # noqa: PLR2004 - too few to read
