"""Compiled loops: compiled on first use only, callable from one another, bounded in threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.threads import available_cores, thread_count, use_threads

SCALE = 3.0


@jit()
def scaled(value):
    return SCALE * value


@jit(parallel=True)
def scale_all(values, out):
    for i in prange(values.size):
        out[i] = scaled(values[i])


def test_compiled_loops_call_one_another():
    values = np.arange(100.0)
    out = np.empty_like(values)
    scale_all(values, out)
    assert np.array_equal(out, 3 * values)


def test_threads_of_a_compiled_loop_are_bounded():
    import numba

    with use_threads(1):
        scale_all(np.arange(3.0), np.empty(3))
        assert numba.get_num_threads() == 1
    scale_all(np.arange(3.0), np.empty(3))
    assert numba.get_num_threads() == min(available_cores(), numba.config.NUMBA_NUM_THREADS)


def test_thread_bounds_nest_and_end():
    everything = thread_count()
    with use_threads(5):
        assert thread_count() == 5
        with use_threads(2):
            assert thread_count() == 2
        with use_threads(None):
            assert thread_count() == everything
        assert thread_count() == 5
    assert thread_count() == everything


def test_importing_a_method_imports_nothing_heavy():
    code = (
        "import sys, qsmprep.numerics.operators, qsmprep.numerics.dipole;"
        "import qsmprep.background.vsharp, qsmprep.background.pdf;"
        "print([m for m in ('numba', 'scipy', 'torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


BITS = """
import hashlib
import sys
from importlib import import_module

import numpy as np

from qsmprep.inversion.tgv import TgvOptions, tgv
from qsmprep.numerics.krylov import _partial_products
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

random, times, shape = np.random.default_rng(0), np.array([0.006, 0.013, 0.02]), (16, 17, 18)
x, y, z = np.indices(shape) - np.array(shape).reshape(3, 1, 1, 1) / 2
phase = times[:, None, None, None] * 100 * (0.05 * x * y + random.standard_normal(shape))
forward, data, dual, wanted, weights = random.random((5, 5000)).astype(np.float32)
with use_threads(1):
    chi = tgv(
        phase=np.angle(np.exp(1j * phase)).astype(np.float32), total_mask=x**2 + y**2 + z**2 < 50,
        magnitude=np.ones((3, *shape), np.float32), options=TgvOptions(erosions=1, max_iterations=20),
        scan=Scan((1.5, 1.5, 1.5), (0.0, np.sin(0.3), np.cos(0.3)), times, 127.7),
    ).chi_ppm
    sums = np.empty(1)
    _partial_products(forward, dual, 5000, sums)
    one = np.float32(1)
    import_module("qsmprep.numerics.proximal")._fit_phase(forward, data, dual, wanted, weights, one, one)
    import_module("qsmprep.inversion.ndi")._sine_of_misfit(forward, wanted, weights)
for array in (chi, sums, dual, data, forward):
    print(hashlib.sha256(array.tobytes()).hexdigest())
"""


def test_the_first_run_after_installing_gives_the_same_bits_as_later_ones(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, later = (
        subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first.split() == later.split()


def test_what_would_reorder_sums_is_refused():
    with pytest.raises(ValueError, match="partial sums"):
        jit(fastmath=True)
