"""Exponentials, logarithms, tanh, erf, sigmoids and whole powers, many at a time on a processor.

TVM's code for processors calls the C library for them, one element after the other: a GELU after a
product of matrices may take longer than the product. Here they become the polynomials and quotients
of polynomials that Cephes (``expf``, ``logf``) and Eigen (``tanh``, ``erf``) compute, in plain
arithmetic that LLVM turns into vector instructions. It is a change of the code alone, made when a
schedule is compiled: the subgraph, its trace and its place in a database stay what they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from familyseer.tvm_env import load_tvm

# Cephes, expf.c: a polynomial for exp(f) - 1 - f over f^2, and ln 2 in two parts of which the first
# has so few bits that its product with a whole number is exact
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# beyond these the result is infinite, or zero, in single precision
_EXP_LEAST, _EXP_MOST = -104.0, 89.0
# more than the logarithm to base 2 of any result is below zero: a conversion rounds towards zero
_POSITIVE = 256
# Cephes, logf.c: a polynomial for log(1 + f) - f + f^2 / 2 over f^3
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
# the bits of the root of a half: what a logarithm is computed of is brought between it and twice it
_ROOT_OF_HALF = 0x3F3504F3
_NAN, _INFINITY, _MINUS_INFINITY = 0x7FC00000, 0x7F800000, -0x800000
# Eigen, MathFunctionsImpl.h and SpecialFunctionsImpl.h: the polynomials of x^2 above and below the
# line, highest power first
_TANH_ABOVE = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_BELOW = (
    1.19825839466702e-06,
    1.18534705686654e-04,
    2.26843463243900e-03,
    4.89352518554385e-03,
)
_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
# where the quotients times x come out as 1 or a little more, and stay so
_TANH_MOST, _ERF_MOST = 9.0, 3.9
# TVM takes eight times as long to compile each further function inside another
_MOST_DEPTH = 3
# a power of more than so many is rounded too often on the way
_MOST_POWER = 8


def vectorisable(mod: Any, target: Any) -> Any:
    """A module that computes float32 exp, log, tanh, erf, sigmoids and powers by arithmetic.

    Results are within 8 units in the last place of the true ones (2 for exp and log; a sigmoid
    below 3e-39 is 0, as TVM's is), and infinities and NaN as the C library's; a power is taken
    apart where its exponent is a whole constant of 2 to 8. Doubles and halves stay as they are, and
    so does what has three others inside one another in its argument.

    Parameters
    ----------
    mod
        A module of TIR functions, scheduled or not, or of Relax functions that call them. It is not
        changed.
    target
        For other targets than LLVM's the module is given back: GPUs have instructions for these.
    """
    if target.kind.name != "llvm":
        return mod
    tvm = load_tvm()
    from tvm_ffi import structural_map

    def respelled(call: Any) -> Any:
        if not _is_one(call) or _depth(call) > _MOST_DEPTH:
            return call
        return _SPELLINGS[call.op.name](call)

    found = {}
    for name, function in mod.functions_items():
        if isinstance(function, tvm.tirx.PrimFunc):
            body = structural_map(function.body, (tvm.ir.Call, respelled), order="pre")
            if not body.same_as(function.body):
                found[name] = function.with_body(body)
    if not found:
        return mod
    changed = mod.clone()
    for name, function in found.items():
        changed.update_func(name, function)
    return changed


def _is_one(call: Any) -> bool:
    return getattr(call.op, "name", "") in _SPELLINGS and call.ty.dtype == "float32"


def _depth(call: Any) -> int:
    """Of calls that are respelled, how many are inside one another, this one counted."""
    from tvm_ffi import structural_walk
    from tvm_ffi.structural import WalkResult

    deepest = 0

    def look(inner: Any) -> Any:
        nonlocal deepest
        if not _is_one(inner):
            return None
        deepest = max(deepest, _depth(inner))
        return WalkResult.SKIP

    structural_walk(call.args, (load_tvm().ir.Call, look), order="pre")
    return deepest + 1


def _named(value: Any, use: Callable[[Any], Any]) -> Any:
    """What `use` makes of a variable that stands for a value, so that it is computed once."""
    tirx = load_tvm().tirx
    name = tirx.Var("v", "float32")
    return tirx.Let(name, value, use(name))


def _within(x: Any, least: float, most: float) -> Any:
    """x moved into a range. NaN stays: TVM takes the second operand where no comparison holds.

    (No condition would do: TVM's passes put what a name stands for in its place to judge one, which
    takes time that doubles and more with each function inside another.)
    """
    tirx = load_tvm().tirx
    return tirx.max(_number(least), tirx.min(_number(most), x))


def _exp(x: Any) -> Any:
    tirx = load_tvm().tirx

    def power_of_two(n: Any) -> Any:
        return _float_of((n + 127) << 23)

    def scaled(y: Any, n: Any) -> Any:
        # in two steps, as the least and the greatest results are out of one step's reach
        half = tirx.Var("half", "int32")
        return tirx.Let(half, n >> 1, y * power_of_two(half) * power_of_two(n - half))

    def reduced(x: Any) -> Any:
        n = tirx.Var("n", "int32")
        # to the nearest whole number, with a conversion that every processor has for vectors
        nearest = x * _number(math.log2(math.e)) + _number(_POSITIVE + 0.5)
        whole = tirx.Cast("float32", n)
        f = x - whole * _number(_LN2_HIGH) - whole * _number(_LN2_LOW)
        value = _named(f, lambda f: _polynomial(f, _EXP) * (f * f) + f + 1.0)
        return tirx.Let(n, tirx.Cast("int32", nearest) - _POSITIVE, scaled(value, n))

    return _named(_within(x, _EXP_LEAST, _EXP_MOST), reduced)


def _log(x: Any) -> Any:
    tirx = load_tvm().tirx
    bits, size, small, n = (tirx.Var(name, "int32") for name in ("bits", "size", "small", "n"))

    def near_one(f: Any) -> Any:
        e = tirx.Cast("float32", n + 64 * small)
        rest = _polynomial(f, _LOG) * (f * f * f) + e * _number(_LN2_LOW) - f * f * 0.5
        return rest + f + e * _number(_LN2_HIGH)

    # masks, all ones where the name holds: a condition would be judged, see `_within`
    zero = (size - 1) >> 31
    not_finite = ((_INFINITY - 1) - size) >> 31
    # to be added: nothing for what has a logarithm, else the result itself
    result = (bits >> 31 & ~zero & _NAN) | (zero & _MINUS_INFINITY) | (not_finite & size)
    # of x without its sign, so that no difference overflows; a denormal number times 2^64
    scale = _float_of((small & (64 << 23)) + (127 << 23))
    scaled = tirx.reinterpret("int32", _float_of(size) * scale)
    value = _named(_float_of(scaled - (n << 23)) - 1.0, near_one) + _float_of(result)
    value = tirx.Let(n, (scaled - _ROOT_OF_HALF) >> 23, value)
    value = tirx.Let(small, (size - (1 << 23)) >> 31, value)
    value = tirx.Let(size, bits & 0x7FFFFFFF, value)
    return tirx.Let(bits, tirx.reinterpret("int32", x), value)


def _float_of(bits: Any) -> Any:
    return load_tvm().tirx.reinterpret("float32", bits)


def _tanh(x: Any) -> Any:
    return _odd(x, _TANH_ABOVE, _TANH_BELOW, _TANH_MOST)


def _erf(x: Any) -> Any:
    return _odd(x, _ERF_ABOVE, _ERF_BELOW, _ERF_MOST)


def _odd(x: Any, above: tuple[float, ...], below: tuple[float, ...], most: float) -> Any:
    """x times a quotient of polynomials of x^2, never beyond -1 and 1."""

    def quotient(x: Any) -> Any:
        value = _named(x * x, lambda s: x * (_polynomial(s, above) / _polynomial(s, below)))
        return _within(value, -1.0, 1.0)

    return _named(_within(x, -most, most), quotient)


def _whole_power(call: Any) -> Any:
    base, exponent = call.args
    power = float(getattr(exponent, "value", math.nan))
    if not power.is_integer() or not 2 <= power <= _MOST_POWER:
        return call
    return _named(base, lambda x: _product(x, int(power)))


def _product(x: Any, power: int) -> Any:
    if power == 1:
        return x
    half = _named(_product(x, power // 2), lambda h: h * h)
    return half * x if power % 2 else half


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    value = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + _number(coefficient)
    return value


def _number(value: float) -> Any:
    return load_tvm().tirx.const(value, "float32")


_SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": lambda call: _named(call.args[0], _exp),
    "tirx.log": lambda call: _log(call.args[0]),
    "tirx.tanh": lambda call: _named(call.args[0], _tanh),
    "tirx.erf": lambda call: _named(call.args[0], _erf),
    "tirx.sigmoid": lambda call: _named(0.0 - call.args[0], lambda x: 1.0 / (_exp(x) + 1.0)),
    "tirx.pow": _whole_power,
}
