"""Charts as inline SVG that takes its colours from the page, so that they read in light and in dark alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modalign.evaluation.report.page import text

Curve = Sequence[tuple[float, float]]

_COLOURS = 10
_MAX_POINTS = 400


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot's area in the SVG's units, and how values map into it."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_y: bool = False

    def x(self, value: float) -> float:
        """The horizontal place of a value."""
        low, high = self.x_range
        return self.left + (value - low) / ((high - low) or 1) * (self.right - self.left)

    def y(self, value: float) -> float:
        """The vertical place of a value."""
        low, high = self.y_range
        if self.log_y:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.bottom - (value - low) / ((high - low) or 1) * (self.bottom - self.top)


def colour(index: int) -> str:
    """The page's colour number `index`, starting anew after the last."""
    return f"var(--c{index % _COLOURS})"


def legend(names: Sequence[str], colours: Mapping[str, int]) -> str:
    """Names with their colours, as HTML."""
    items = "".join(f'<span><i style="background:{colour(colours[n])}"></i>{text(n)}</span>' for n in names)
    return f'<div class="legend">{items}</div>'


def line_chart(
    curves: Mapping[str, Curve],
    colours: Mapping[str, int],
    x_label: str,
    y_label: str,
    dashed: Mapping[str, Curve] | None = None,
    width: int = 520,
    height: int = 260,
    y_range: tuple[float, float] | None = None,
    x_ticks: Mapping[float, str] | None = None,
    marks: bool = False,
    log_y: bool = False,
) -> str:
    """Curves of (x, y) in one frame, with a legend where there are several.

    `dashed` curves share the colours of the names they carry; `x_ticks` replaces the numbers under the axis.
    """
    dashed = dashed or {}
    everything = [c for c in (*curves.values(), *dashed.values()) if c]
    if not everything:
        return ""
    ys = [y for curve in everything for _, y in curve]
    xs = [x for curve in everything for x, _ in curve]
    frame = Frame(54, width - 10, 10, height - 38, _x_range(xs, x_ticks), y_range or _y_range(ys, log_y), log_y)
    drawn = "".join(_path(frame, curves[n], colours[n], "line", marks) for n in curves if curves[n])
    drawn += "".join(_path(frame, dashed[n], colours[n], "line dash", marks) for n in dashed if dashed[n])
    axes = _y_axis(frame, y_label) + _x_axis(frame, x_label, x_ticks)
    names = [n for n in colours if curves.get(n) or dashed.get(n)]
    return f"{_svg(width, height, axes + drawn, y_label)}{legend(names, colours) if len(names) > 1 else ''}"


def spans_decades(curves: Mapping[str, Curve]) -> bool:
    """Whether the values are all positive and reach over more than a factor of ten: a matter for a logarithmic axis."""
    ys = [y for curve in curves.values() for _, y in curve]
    return bool(ys) and min(ys) > 0 and max(ys) > 10 * min(ys)


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval and chance level, all in 0..1, in colour number `tint`; `faint` draws it paler."""

    value: float
    low: float
    high: float
    chance: float | None
    tint: int
    faint: bool = False


def interval_bars(rows: Mapping[str, Sequence[Bar]], width: int = 640) -> str:
    """Horizontal bars from 0 to 100 %, one or more a row, with whiskers for the interval and a dash for chance."""
    if not rows:
        return ""
    left = 16 + 7 * max(len(label) for label in rows)
    thick, gap, top = 15, 9, 4
    height = top + sum(thick * len(bars) + gap for bars in rows.values()) + 22
    frame = Frame(left, width - 56, top, height - 22, (0, 1), (0, 1))
    ticks = "".join(
        f'<line class="grid" x1="{frame.x(t):.1f}" x2="{frame.x(t):.1f}" y1="{top}" y2="{frame.bottom}"/>'
        f'<text x="{frame.x(t):.1f}" y="{frame.bottom + 15}" text-anchor="middle">{100 * t:.0f}</text>'
        for t in (0, 0.25, 0.5, 0.75, 1)
    )
    body, y = [], top + gap / 2
    for label, bars in rows.items():
        middle = y + thick * len(bars) / 2
        body.append(f'<text class="name" x="{left - 10}" y="{middle + 4}" text-anchor="end">{text(label)}</text>')
        body += [_bar(frame, bar, y + thick * (i + 0.5)) for i, bar in enumerate(bars)]
        y += thick * len(bars) + gap
    return _svg(width, height, ticks + "".join(body), "percent right, with 95 % interval; dashes: chance")


def stacked_bars(rows: Mapping[str, Sequence[float]], names: Sequence[str], width: int = 640) -> str:
    """One bar a row, cut into shares that sum to one, each with its percent where there is room; with a legend."""
    if not rows:
        return ""
    left = 16 + 7 * max(len(name) for name in rows)
    span, row = width - left - 10, 28
    drawn = []
    for i, (name, shares) in enumerate(rows.items()):
        y, x = 4 + row * i, float(left)
        drawn.append(f'<text class="name" x="{left - 10}" y="{y + 16}" text-anchor="end">{text(name)}</text>')
        for k, share in enumerate(shares):
            wide = span * share / (sum(shares) or 1)
            drawn.append(
                f'<rect x="{x:.1f}" y="{y}" width="{max(wide - 1, 0):.1f}" height="22" rx="2" fill="{colour(k)}" '
                f'fill-opacity=".45"><title>{text(names[k])}: {100 * share:.1f} %</title></rect>'
            )
            if wide > 38:
                middle = f'x="{x + wide / 2:.1f}" y="{y + 15.5}" text-anchor="middle"'
                drawn.append(f'<text class="value" {middle}>{100 * share:.0f} %</text>')
            x += wide
    colours = {name: k for k, name in enumerate(names)}
    return _svg(width, 8 + row * len(rows), "".join(drawn), "shares") + legend(list(names), colours)


def _bar(frame: Frame, bar: Bar, middle: float) -> str:
    low, high, end = frame.x(bar.low), frame.x(bar.high), frame.x(bar.value)
    ends = "".join(
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 4}" y2="{middle + 4}"/>' for x in (low, high)
    )
    parts = [
        f'<rect x="{frame.left}" y="{middle - 6}" width="{end - frame.left:.1f}" height="12" rx="2" '
        f'fill="{colour(bar.tint)}" fill-opacity="{0.35 if bar.faint else 0.75}"/>',
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        ends,
        f'<text class="value" x="{max(high, end) + 7:.1f}" y="{middle + 4}">{100 * bar.value:.1f}</text>',
    ]
    if bar.chance is not None:
        at = frame.x(bar.chance)
        parts.append(f'<line class="chance" x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 7.5}" y2="{middle + 7.5}"/>')
    return "".join(parts)


def _path(frame: Frame, curve: Curve, tint: int, style: str, marks: bool) -> str:
    shown = curve[:: max(1, math.ceil(len(curve) / _MAX_POINTS))]
    if shown[-1] != curve[-1]:
        shown = [*shown, curve[-1]]
    places = [(frame.x(x), frame.y(y)) for x, y in shown]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour(tint)}"/>' for x, y in places)
    line = f'<polyline class="{style}" stroke="{colour(tint)}" points="{joined}"/>'
    return line + (dots if marks or len(places) == 1 else "")


def _x_range(xs: Sequence[float], ticks: Mapping[float, str] | None) -> tuple[float, float]:
    low, high = min(xs), max(xs)
    if ticks:
        return min(low, *ticks) - 0.3, max(high, *ticks) + 0.3
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y_range(ys: Sequence[float], log_y: bool) -> tuple[float, float]:
    low, high = min(ys), max(ys)
    if log_y:
        return low / 1.15, high * 1.15
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _y_axis(frame: Frame, label: str) -> str:
    low, high = frame.y_range
    values = _decades(low, high) if frame.log_y else nice_ticks(low, high)
    lines = "".join(
        f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{frame.y(v):.1f}" y2="{frame.y(v):.1f}"/>'
        f'<text x="{frame.left - 6}" y="{frame.y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in values
    )
    middle = (frame.top + frame.bottom) / 2
    turned = f'x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})"'
    return f"{lines}<text {turned}>{text(label)}</text>"


def _x_axis(frame: Frame, label: str, ticks: Mapping[float, str] | None) -> str:
    named = ticks or {v: f"{v:g}" for v in nice_ticks(*frame.x_range)}
    numbers = "".join(
        f'<text x="{frame.x(v):.1f}" y="{frame.bottom + 15}" text-anchor="middle">{text(name)}</text>'
        for v, name in named.items()
    )
    middle = (frame.left + frame.right) / 2
    return numbers + f'<text x="{middle}" y="{frame.bottom + 31}" text-anchor="middle">{text(label)}</text>'


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within a range, about `wanted` of them."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / wanted))
    step *= next(f for f in (1, 2, 5, 10) if span / (step * f) <= wanted)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for p in powers for f in (1, 2, 5) if low <= (v := round(f * 10.0**p, 12)) <= high]


def _svg(width: float, height: float, body: str, label: str) -> str:
    box = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return f'<svg {box} role="img" aria-label="{text(label)}">{body}</svg>'
