"""Matrix products: rows on OX, columns on K, the contraction on C, batches of products on G."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import broadcast_shape, full_maps, read, read_all, weight
from dfc.frontend.values import FLOAT, INT32, Shape, Value
from dfc.ir import Dim, Kind, Operand, sizes

_IN, _WEIGHT = (Dim.B, Dim.G, Dim.C, Dim.OX), (Dim.G, Dim.K, Dim.C)


@dataclass(frozen=True, slots=True)
class _Product:
    """``batch`` products of (rows, inner) by (inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int


@operator("Gemm")
def gemm(n: Node) -> None:
    """A'·B' + C of matrices, either of them transposed."""
    a, b = n.need(0), n.need(1)
    _gemm(n, a, b, n.maybe(2), a.elem)


@operator("QGemm", domain=MICROSOFT)
def qgemm(n: Node) -> None:
    """Quantised Gemm: A, a_scale, a_zero, B, b_scale, b_zero, C, y_scale, y_zero."""
    last = n.maybe(8)
    _gemm(n, n.need(0), n.need(3), n.maybe(6), FLOAT if last is None else last.elem)


def _gemm(n: Node, a: Value, b: Value, c: Value | None, elem: int) -> None:
    if a.rank != 2 or b.rank != 2:
        n.fail(f"inputs of shape {list(a.shape)} and {list(b.shape)}; two matrices expected")
    rows, inner = a.shape[::-1] if n.int_("transA", 0) else a.shape
    inner_b, columns = b.shape[::-1] if n.int_("transB", 0) else b.shape
    if inner != inner_b:
        n.fail(f"inputs of shape {list(a.shape)} and {list(b.shape)} do not fit each other")
    out = n.out((rows, columns), elem)
    extra, bias = _addend(n, c, out)
    _product(n, "gemm", a, b, out, _Product(1, rows, inner, columns), bias, extra)


def _addend(n: Node, c: Value | None, out: Value) -> tuple[list[Operand], int]:
    if c is None:
        return [], 0
    if broadcast_shape([c.shape, out.shape]) != out.shape:
        n.fail(f"C of shape {list(c.shape)} cannot be added to {list(out.shape)}")
    return ([], c.elements) if c.constant else ([read_all(c, (Dim.K, Dim.OX))], 0)


@operator("MatMul")
def matmul(n: Node) -> None:
    """numpy's matmul."""
    _matmul(n, n.need(0), n.need(1), n.need(0).elem)


@operator("MatMulInteger")
def matmul_integer(n: Node) -> None:
    """matmul of integers with 32-bit results: A, B, zero points."""
    _matmul(n, n.need(0), n.need(1), INT32)


@operator("QLinearMatMul")
def qlinear_matmul(n: Node) -> None:
    """Quantised matmul: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero."""
    _matmul(n, n.need(0), n.need(3), n.need(7).elem)


@operator("FusedMatMul", domain=MICROSOFT)
def fused_matmul(n: Node) -> None:
    """matmul with transposed inputs."""
    if n.int_("transBatchA", 0) or n.int_("transBatchB", 0):
        raise Unmodelled("transposed batches")
    a, b = n.need(0), n.need(1)
    shape_a = _swapped(a.shape) if n.int_("transA", 0) else a.shape
    shape_b = _swapped(b.shape) if n.int_("transB", 0) else b.shape
    _matmul(n, a, b, a.elem, shape_a, shape_b)


def _swapped(shape: Shape) -> Shape:
    return (*shape[:-2], *shape[:-3:-1])


def _matmul(n: Node, a: Value, b: Value, elem: int, shape_a: Shape | None = None, shape_b: Shape | None = None) -> None:
    """The product; the shapes may be given transposed."""
    shape_a, shape_b = shape_a or a.shape, shape_b or b.shape
    if not shape_a or not shape_b:
        n.fail("a scalar cannot be multiplied as a matrix")
    wide_a = shape_a if len(shape_a) > 1 else (1, *shape_a)
    wide_b = shape_b if len(shape_b) > 1 else (*shape_b, 1)
    lead = broadcast_shape([wide_a[:-2], wide_b[:-2]])
    if wide_a[-1] != wide_b[-2] or lead is None:
        n.fail(f"inputs of shape {list(shape_a)} and {list(shape_b)} do not fit each other")
    rows, inner, columns = wide_a[-2], wide_a[-1], wide_b[-1]
    out_shape = (*lead, *((rows,) if len(shape_a) > 1 else ()), *((columns,) if len(shape_b) > 1 else ()))
    out = n.out(out_shape, elem)
    if prod(wide_b[:-2]) == 1:  # one matrix for all: its rows are all rows
        product = _Product(1, rows * prod(lead), inner, columns)
    else:
        product = _Product(prod(lead), rows, inner, columns)
    _product(n, "matmul", a, b, out, product, 0, [])


def _product(n: Node, op: str, a: Value, b: Value, out: Value, p: _Product, bias: int, extra: list[Operand]) -> None:
    """One DENSE layer. A constant left factor takes the place of the weights: then columns and rows swap."""
    swapped = a.constant and not b.constant
    x, w = (b, a) if swapped else (a, b)
    rows, columns = (p.columns, p.rows) if swapped else (p.rows, p.columns)
    x_dims = _without_batch(_IN, x, rows * p.inner, p.batch)
    w_dims = _without_batch(_WEIGHT, w, columns * p.inner, p.batch)
    single = out.rank == 2 and rows * p.batch == 1 and not swapped
    n.layer(
        Kind.DENSE,
        op,
        [read(x, full_maps(x), x_dims), weight(w, w_dims), *extra],
        out,
        sizes(G=p.batch, OX=rows, C=p.inner, K=columns),
        macs=p.batch * p.rows * p.inner * p.columns,
        weight_elements=(w.elements if w.constant else 0) + bias,
        barrier=not single,
    )


def _without_batch(dims: tuple[Dim, ...], value: Value, matrix: int, batch: int) -> tuple[Dim, ...]:
    """``dims`` without G where one matrix serves every product of the batch."""
    shared = batch > 1 and value.elements == matrix
    return tuple(d for d in dims if not (shared and d == Dim.G))
