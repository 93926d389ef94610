"""What the engine's process itself spends on a reserve: planning, encoding, the answer; in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.measure import Figure, figure_of
from engine import Line
from engine.ids import OperationIds, fingerprint, parse_reservation_id, reservation_id
from engine.planner import check_lines, new_reservation, plan_lines
from engine.records import Detail, decode_plan, encode_detail

CALLS = 20_000


def codec_figures(repetitions: int, calls: int = CALLS) -> list[Figure]:
    """The cost of each step, for baskets of one and of ten lines."""
    figures = []
    for count in (1, 10):
        for step, call in _steps([Line(f"S-{number:07d}", 1, "w0") for number in range(count)]).items():
            series = [_micros(call, calls) for _ in range(repetitions)]
            name = f"codec: {step}, {count} line{'s' if count > 1 else ''}"
            labels = {"codec": step, "lines": count}
            figures.append(figure_of(name, series, "µs", labels=labels))
    return figures


def _steps(lines: list[Line]) -> dict[str, Callable[[], object]]:
    plan, shares = plan_lines(lines)
    detail = Detail(900, None, "cart-1", None, {}, shares)
    body = plan.packed + encode_detail(detail)
    ids = OperationIds(bytes(32))
    operation = ids.of_request("", "cart-1")
    public = reservation_id(0, operation)
    return {
        "check the lines": lambda: check_lines(lines),
        "plan": lambda: plan_lines(lines),
        "encode the detail": lambda: encode_detail(detail),
        "operation id and fingerprint": lambda: (ids.of_request("", "cart-1"), fingerprint(body)),
        "reservation id, both ways": lambda: parse_reservation_id(reservation_id(0, operation), 1),
        "decode the plan": lambda: decode_plan(plan.packed),
        "build the answer": lambda: new_reservation(public, plan, detail, 1, 1, 1),
    }


def _micros(call: Callable[[], object], calls: int) -> float:
    turns = range(calls)
    begun = time.process_time_ns()
    for _ in turns:
        call()
    return (time.process_time_ns() - begun) / calls / 1000
