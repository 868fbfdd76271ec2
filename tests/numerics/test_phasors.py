"""Products of complex numbers: right, and the same bits on a processor without fused instructions."""

import os
import subprocess
import sys

import numpy as np

from qsmprep.numerics.phasors import conjugate_product, length, product

SMOOTHED = """
import hashlib, numpy as np
from qsmprep.phase.smoothing import smooth_phase
random = np.random.default_rng(0)
x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 44, 30)], indexing="ij")
phase = (2 * x + 3 * y * y - z * x + random.normal(0, 0.3, x.shape)).astype(np.float32)
options = dict(sigma_mm=10, voxel_size_mm=(4, 4, 4), passes=2, trend=True)
made = smooth_phase(phase, x * x + y * y + z * z < 0.9, **options)
print(hashlib.sha256(made.tobytes()).hexdigest(), np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
"""


def smoothed(**environment):
    """Checksum of a smoothed phase, and what numpy found of the processor."""
    done = subprocess.run([sys.executable, "-c", SMOOTHED], env={**os.environ, **environment}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    checksum, _, found = done.stdout.partition(" ")
    return checksum, found.strip()


def test_smoothed_phase_is_the_same_bits_on_an_older_processor():
    here = smoothed()
    older = smoothed(NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR")
    assert older[0] == here[0]
    assert older[1] == "[]"  # it did as told


def test_products_and_lengths_are_those_of_numpy_but_for_rounding():
    random = np.random.default_rng(1)
    a, b = (random.normal(size=(2, 9, 8, 7)).astype(np.float32) for _ in range(2))
    a, b = a[0] + 1j * a[1], b[0] + 1j * b[1]
    assert product(a, b).dtype == np.complex64
    np.testing.assert_allclose(product(a, b), a * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(conjugate_product(a, b), a * b.conj(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(length(a), np.abs(a), rtol=1e-6)
