"""Weights of experts by their age: TIME, arXiv 2412.06712, offline merging."""

import math
from collections.abc import Callable
from typing import Literal, get_args

_Scheme = Literal["uniform", "linear", "sqrt", "quadratic", "cubic", "fifth", "tenth", "exp", "log"]
Recency = (
    _Scheme
    | Literal[
        "reverse_linear", "reverse_sqrt", "reverse_quadratic", "reverse_cubic", "reverse_fifth", "reverse_tenth",
        "reverse_exp", "reverse_log",
    ]
)  # fmt: skip

_RAW: dict[str, Callable[[int, int], float]] = {  # of the i-th of n experts, from 1, the oldest; up to a factor
    "uniform": lambda i, n: 1.0,
    "linear": lambda i, n: float(i),
    "sqrt": lambda i, n: math.sqrt(i),
    "quadratic": lambda i, n: float(i) ** 2,
    "cubic": lambda i, n: float(i) ** 3,
    "fifth": lambda i, n: float(i) ** 5,
    "tenth": lambda i, n: float(i) ** 10,
    "exp": lambda i, n: math.ldexp(1.0, i - n),
    "log": lambda i, n: math.log(i + 1),
}
assert set(_RAW) == set(get_args(_Scheme))


def shares_of(weights: tuple[float, ...] | Recency | None, experts: int) -> tuple[float, ...]:
    """The weight of each of `experts`, oldest first, summing to 1; raises ValueError for weights of another number."""
    if weights is None:
        return (1 / experts,) * experts
    if isinstance(weights, tuple):
        if len(weights) != experts:
            raise ValueError(
                f"{len(weights)} merge weights for {experts} experts; give one per expert, a scheme or null"
            )
        return weights
    raw = [_RAW[weights.removeprefix("reverse_")](i, experts) for i in range(1, experts + 1)]
    if weights.startswith("reverse_"):
        raw.reverse()
    return tuple(value / math.fsum(raw) for value in raw)
