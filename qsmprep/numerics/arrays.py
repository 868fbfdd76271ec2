"""Names for the arrays that go through the steps.

An annotation says the kind of number, never the shape: the docstring says that. numpy's stubs give float64 for
`float32_array / 2` (in truth float32): write `/ 2.0`, which makes the same bits. What scipy returns is untyped; give it
a name with one of these types, or pass it through `np.asarray`, where a function returns it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatImage: TypeAlias = NDArray[np.float32]
"""Real numbers of single precision: what a step is given and what it returns."""

DoubleArray: TypeAlias = NDArray[np.float64]
"""Real numbers of double precision: echo times, small systems, sums that need the digits."""

RealArray: TypeAlias = NDArray[np.floating[Any]]
"""Real numbers of either precision, where a function takes both."""

ComplexImage: TypeAlias = NDArray[np.complexfloating[Any, Any]]
"""Complex numbers of either precision."""

Mask: TypeAlias = NDArray[np.bool_]
"""True where a voxel belongs to what the name says."""

Labels: TypeAlias = NDArray[np.integer[Any]]
"""Whole numbers: the region, the echo or the count of a voxel."""

Scalar: TypeAlias = float | np.floating[Any]
"""One number, as a compiled loop is given it: in the precision that it computes in."""

Array: TypeAlias = Any
"""A numpy array or a torch tensor.

The same solver serves both, and the two share no type: their methods have the same names but other signatures, and
torch is not imported where it is not needed. Only for code that truly takes both; elsewhere say which of the above it
is.
"""
