"""Multiply-accumulates of a function, counted from its jaxpr.

The papers' "GFLOPs" are multiply-accumulates of convolutions and matrix products.
"""

import math
from collections.abc import Callable
from typing import Any

import jax


def count_macs(function: Callable, *args: Any) -> int:
    """Multiply-accumulates of ``function(*args)``; arguments may be ``ShapeDtypeStruct``s."""
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            numbers = parameters["dimension_numbers"]
            # Each output element sums over the kernel's space and its input channels (of one group).
            per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
            # In gradients of strided convolutions the input is spread out; zeros between are not multiplied.
            spread = math.prod(parameters["lhs_dilation"])
            total += math.prod(equation.outvars[0].aval.shape) * per_output // spread
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            per_output = math.prod(shape[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * per_output
        else:
            repeats = parameters["length"] if name == "scan" else 1
            total += repeats * sum(_count(inner) for inner in _inner_jaxprs(parameters))
    return total


def _inner_jaxprs(parameters: dict[str, Any]) -> list[Any]:
    """Jaxprs that an equation calls: of jit, scan, remat, custom derivatives ..."""
    found = []
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found
