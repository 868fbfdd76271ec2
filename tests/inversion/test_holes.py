"""Voxels of unreliable phase: without weight, and merged in from a second pass."""

import inspect

import numpy as np
import pytest

from qsmprep.inversion.fansi import FansiOptions, fansi
from qsmprep.inversion.medi import MediOptions, medi
from qsmprep.inversion.medi0 import Medi0Options, medi0
from qsmprep.inversion.rts import RtsOptions, rts
from qsmprep.inversion.tfi import TfiOptions, tfi
from qsmprep.phantom.forward import DipoleField
from qsmprep.scan import Scan

HOLE = (slice(19, 24), slice(14, 19), slice(18, 23))


def small(name, **changes):
    """A method and options that end soon; medi and medi0 without erosion."""
    method, options, extra = {
        "fansi": (fansi, FansiOptions, {"max_iterations": 40}),
        "medi": (medi, MediOptions, {"max_iterations": 40, "smv_radius": 0.0, "merit": False}),
        "medi0": (medi0, Medi0Options, {"max_iterations": 40, "smv_radius": 0.0, "merit": False}),
        "tfi": (tfi, TfiOptions, {"max_iterations": 40, "merit": False, "start_iterations": 5, "padding_mm": 6.0}),
        "rts": (rts, RtsOptions, {"max_iterations": 20}),
    }[name]
    return method, options(**extra | changes)


@pytest.fixture(scope="module")
def bleed(head):
    """The head with a strong source whose own phase is random: field, residual map, and where the source is."""
    source = np.zeros(head.mask.shape, bool)
    source[HOLE] = True
    field = head.field + head.mask * DipoleField(head.mask.shape, Scan(head.voxel_size_mm, head.b0_direction))(
        0.6 * source
    )
    random = np.random.default_rng(8)
    field[source] += random.uniform(-0.4, 0.4, np.count_nonzero(source))
    residual = np.where(source, np.float32(0.9), np.float32(0.01))
    return field.astype(np.float32), residual, source


def run(name, head, bleed, **changes):
    method, options = small(name, **changes.pop("options", {}))
    field, residual, _ = bleed
    first = "total_field_ppm" if name == "tfi" else "field_ppm"
    second = "total_mask" if name == "tfi" else "mask"
    given = {first: field, second: head.mask, "relative_residual": residual, "scan": head.scan, "options": options}
    if name != "rts":
        given["magnitude_rss"] = head.magnitude
    return method(**given | changes)


NAMES = ("fansi", "medi", "medi0", "tfi", "rts")


@pytest.mark.parametrize("name", NAMES)
def test_merged_map_takes_each_voxel_from_its_pass(name, head, bleed):
    source = bleed[2]
    calls = []
    merged = run(name, head, bleed, options={"two_pass": True}, progress=lambda *done: calls.append(done))
    without = run(name, head, bleed)
    whole = run(name, head, bleed, relative_residual=None)
    outside = head.mask & ~source
    assert np.array_equal(merged.chi_ppm[outside], without.chi_ppm[outside])
    shift = without.chi_ppm[outside].mean(dtype=float) - whole.chi_ppm[outside].mean(dtype=float)
    np.testing.assert_allclose(merged.chi_ppm[source], whole.chi_ppm[source] + shift, atol=1e-5)
    assert np.array_equal(merged.mask, head.mask) and "two passes" in merged.convergence.monitored
    assert merged.convergence.second > 1
    assert merged.convergence.iterations == len(calls) == calls[-1][0]
    assert merged.convergence.iterations == without.convergence.iterations + whole.convergence.iterations


@pytest.mark.parametrize("name", NAMES)
def test_tissue_around_is_clean_and_the_strong_source_is_seen(name, head, bleed):
    source = bleed[2]
    merged = run(name, head, bleed, options={"two_pass": True})
    believed = run(name, head, bleed, relative_residual=None)
    around = head.mask & ~source
    assert head.error(merged.chi_ppm, around) < 0.9 * head.error(believed.chi_ppm, around)
    assert merged.chi_ppm[source].mean() - merged.chi_ppm[around].mean() > 0.15


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_when_nothing_is_unreliable(name, head, bleed):
    calm = np.full(head.mask.shape, 0.01, np.float32)
    two = run(name, head, bleed, options={"two_pass": True}, relative_residual=calm)
    one = run(name, head, bleed, relative_residual=None)
    assert np.array_equal(two.chi_ppm, one.chi_ppm) and two.convergence.iterations == one.convergence.iterations


def test_method_without_weights_is_given_the_residual_and_leaves_the_voxels_out(head, bleed):
    assert "relative_residual" in inspect.signature(rts).parameters
    result = run("rts", head, bleed)
    source = bleed[2]
    assert np.all(result.chi_ppm[source] == 0) and not np.any(result.mask & source)
    changed = bleed[0] + 5 * source
    assert np.array_equal(run("rts", head, (changed, *bleed[1:])).chi_ppm, result.chi_ppm)
