"""Compiled loops: compiled on first use only, callable from one another, bounded in threads."""

import subprocess
import sys

import numpy as np

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
