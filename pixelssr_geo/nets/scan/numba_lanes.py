"""Vectors of 16 floats in numba: a value that LLVM keeps in vector registers, and what it can do.

Loops over arrays leave it to the compiler to find vectors, which it does only between checks whether
arrays overlap. Here they are written down. All are float32, and LLVM cuts them to the processor's
width. Arrays are one-dimensional, and offsets into them are not checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

if TYPE_CHECKING:
    from collections.abc import Callable

LANES = 16
"""Floats in a vector."""
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
# 2^f for |f| <= 1/2 with the least maximum relative error that is exact at 0, highest power first
_POWERS = 0.00015353362, 0.0013398875, 0.009618437, 0.055503324, 0.24022648, 0.69314718, 1.0
_ROUNDING = 12582912.0  # 1.5 * 2^23: adding and subtracting it rounds to integers


class _Lanes(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    """A vector as LLVM sees it."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


_lanes = _Lanes()


def _full(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = "llvm.fmuladd.v16f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), (a, b, c))


def _greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _power(builder: Any, scale: Any, rate: Any) -> Any:
    """2^(scale * rate), not less than 2^-126."""
    exponent = _greater(builder, _full(-126.0), builder.fmul(scale, rate))
    rounded = builder.fadd(exponent, _full(_ROUNDING))
    rest = builder.fsub(exponent, builder.fsub(rounded, _full(_ROUNDING)))
    value = _full(_POWERS[0])
    for coefficient in _POWERS[1:]:
        value = _fma(builder, value, rest, _full(coefficient))
    shift = ir.Constant(_INTS, [23] * LANES)
    whole = builder.shl(builder.bitcast(rounded, _INTS), shift)
    return builder.bitcast(builder.add(builder.bitcast(value, _INTS), whole), _VECTOR)


def _shuffle(builder: Any, a: Any, b: Any, indices: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(_INT, len(indices)), indices)
    return builder.shuffle_vector(a, b, mask)


def _folded(builder: Any, a: Any, b: Any, width: int) -> Any:
    """Fold ``a`` and ``b``: each run of ``2 width`` lanes becomes one of ``width``, a's first."""
    starts = range(0, LANES, 2 * width)
    runs = [(i + from_b) for i in starts for from_b in (0, LANES)]
    low = [start + j for start in runs for j in range(width)]
    high = [start + j + width for start in runs for j in range(width)]
    return builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))


def _of_lanes(emit: Callable[..., Any], count: int) -> Any:
    """Return a function of ``count`` vectors for kernels, from one that emits instructions."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *values)

    return _lanes(*[_lanes] * count), generate


def _address(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """Pointer to element ``values[1]`` of the array ``values[0]``."""
    array = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(array.data, [values[1]])


def _vector_address(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    address = _address(context, builder, signature, values)
    return builder.bitcast(address, _VECTOR.as_pointer())


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """Return ``a + b``."""
    return _of_lanes(lambda builder, a, b: builder.fadd(a, b), 2)


@intrinsic
def mul(typing: Any, a: Any, b: Any) -> Any:
    """Return ``a * b``."""
    return _of_lanes(lambda builder, a, b: builder.fmul(a, b), 2)


@intrinsic
def div(typing: Any, a: Any, b: Any) -> Any:
    """Return ``a / b``."""
    return _of_lanes(lambda builder, a, b: builder.fdiv(a, b), 2)


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``."""
    return _of_lanes(_fma, 3)


@intrinsic
def greater(typing: Any, a: Any, b: Any) -> Any:
    """Return the greater; ``b`` if one is not a number."""
    return _of_lanes(_greater, 2)


@intrinsic
def power(typing: Any, scale: Any, rate: Any) -> Any:
    """Return ``2^(scale * rate)`` for products that are not positive; below 2^-126, that."""
    return _of_lanes(_power, 2)


@intrinsic
def positive(typing: Any, condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where ``condition`` is 0 or more, ``b`` elsewhere."""

    def emit(builder: Any, condition: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">=", condition, _full(0.0)), a, b)

    return _of_lanes(emit, 3)


@intrinsic
def spread(typing: Any, array: Any, offset: Any) -> Any:
    """Return one element of an array in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.load(_address(context, builder, signature, values))
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INT(0))
        return _shuffle(builder, one, one, [0] * LANES)

    return _lanes(array, types.intp), generate


@intrinsic
def fill(typing: Any, value: Any) -> Any:
    """Return a number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), values[0], _INT(0))
        return _shuffle(builder, one, one, [0] * LANES)

    return _lanes(types.float32), generate


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """Return 16 elements of an array from ``offset`` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_vector_address(context, builder, signature, values), align=4)

    return _lanes(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write 16 elements of an array from ``offset`` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _vector_address(context, builder, signature, values)
        builder.store(values[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@intrinsic
def lane_sums(typing: Any, array: Any, offset: Any) -> Any:
    """Return, in lane i, the sum of the 16 elements from ``offset + 16 i`` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        first = _vector_address(context, builder, signature, values)
        parts = [
            builder.load(builder.gep(first, [ir.Constant(_INT, i)]), align=4) for i in range(LANES)
        ]
        while len(parts) > 1:  # pairs so that the last fold leaves the sums in order
            half = len(parts) // 2
            parts = [_folded(builder, parts[i], parts[i + half], half) for i in range(half)]
        return parts[0]

    return _lanes(array, types.intp), generate


@njit(nogil=True, forceinline=True)
def load_some(array: Any, offset: int, count: int, spare: Any) -> Any:
    """Return ``count`` elements from ``offset`` on, and 0 in the lanes behind them.

    ``spare`` is scratch, 16 elements.
    """
    if count == LANES:
        return load(array, offset)
    for j in range(LANES):
        spare[j] = array[offset + j] if j < count else 0.0
    return load(spare, 0)


@njit(nogil=True, forceinline=True)
def store_some(array: Any, offset: int, count: int, spare: Any, vector: Any) -> None:
    """Write the first ``count`` lanes from ``offset`` on."""
    if count == LANES:
        store(array, offset, vector)
    else:
        store(spare, 0, vector)
        for j in range(count):
            array[offset + j] = spare[j]
