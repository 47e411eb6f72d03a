"""Floating-point operations of a program, from XLA's analysis of it.

XLA counts the body of a loop once, however often it runs, and of a program spread over devices the part of one of
them. What it leaves out is added here, but for loops whose length is an argument of the program: they count once.
"""

import math

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun


def flops(program: ClosedJaxpr) -> float:
    """Operations on all devices together, of the program as it is written, before XLA simplifies it."""
    return _analysed(program) + _left_out(program)


def _analysed(program: ClosedJaxpr) -> float:
    """What XLA counts; not a number if it does not say."""
    inputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    costs = jax.jit(jaxpr_as_fun(program)).lower(*inputs).cost_analysis()
    return math.nan if costs is None else costs.get("flops", 0.0)


def _left_out(program: ClosedJaxpr) -> float:
    total = 0.0
    for equation in program.jaxpr.eqns:
        times = _times(equation)
        for body in _bodies(equation):
            total += times * _left_out(body)
            if times > 1:
                total += (times - 1) * _analysed(body)
    return total


def _times(equation: JaxprEqn) -> int:
    """How often the body of an equation runs, on all devices together."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map":
        return math.prod(equation.params["mesh"].shape[axis] for axis in equation.params["newly_manual_axes"])
    return 1


def _bodies(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """The programs within an equation."""
    found = jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr))
    bodies = [ClosedJaxpr(x, ()) if isinstance(x, Jaxpr) else x for x in found]
    return [x for x in bodies if isinstance(x, ClosedJaxpr)]
