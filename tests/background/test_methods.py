"""What every background removal method owes its user, on a small head."""

from dataclasses import fields, replace

import numpy as np
import pytest

from qsmprep import registry
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

# Networks are looked at in tests/nets.
METHODS = tuple(m.name for m in registry.METHODS if m.stage == "background" and not m.needs_network())
FEW = 8  # iterations: enough to compare, too few to wait for


def run(name, field, head, **changes):
    method = registry.find("background", name)
    options = method.options_type()()
    if "max_iterations" in {f.name for f in fields(options)}:
        options = replace(options, max_iterations=FEW)
    return method.run(options, **dict(total_field=field, mask=head.mask, scan=head.scan) | changes)


@pytest.fixture
def head(make_head):
    return make_head(24.0, (1.0, 1.2, 2.0), (0.3, -0.2, 0.933))


@pytest.mark.parametrize("name", METHODS)
def test_result_is_finite_zero_outside_its_mask_and_the_input_untouched(name, head):
    field = head.background + head.tissue
    before = field.copy()
    result = run(name, field, head)
    assert np.array_equal(field, before)
    assert result.tissue_field.dtype == np.float32 and np.isfinite(result.tissue_field).all()
    assert result.mask.dtype == bool and result.mask.any() and not (result.mask & ~head.mask).any()
    assert (result.tissue_field[~result.mask] == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_number_of_threads_changes_no_bit_and_torch_agrees(name, head):
    field, results = head.background + head.tissue, []
    for threads in (1, 2):
        with use_threads(threads):
            results.append(run(name, field, head).tissue_field)
    assert np.array_equal(*results)
    on_torch = run(name, field, head, device="torch:cpu").tissue_field
    assert np.allclose(on_torch, results[0], atol=1e-3 * np.abs(results[0]).max())


@pytest.mark.parametrize("name", METHODS)
def test_order_of_the_axes_does_not_matter(name, head):
    field, axes = head.background + head.tissue, (2, 0, 1)
    turned = {
        "mask": head.mask.transpose(axes),
        "scan": Scan(*(tuple(edges[a] for a in axes) for edges in (head.voxel_size_mm, head.b0_direction))),
    }
    expected = run(name, field, head)
    result = run(name, field.transpose(axes), head, **turned)
    assert np.array_equal(result.mask, expected.mask.transpose(axes))
    difference = result.tissue_field - expected.tissue_field.transpose(axes)
    assert np.abs(difference).max() < 1e-3 * np.abs(expected.tissue_field).max()


@pytest.mark.parametrize("name", METHODS)
def test_values_outside_the_mask_do_not_matter_even_when_they_are_nan(name, head):
    clean = run(name, head.background, head)
    dirty = run(name, np.where(head.mask, head.background, np.nan), head)
    assert np.array_equal(dirty.tissue_field, clean.tissue_field)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("filled", [False, True])
def test_zero_field_gives_zero_in_a_mask_that_fills_the_volume_too(name, filled, head):
    result = run(name, np.zeros(head.mask.shape, np.float32), head, mask=head.mask | filled)
    assert (result.tissue_field == 0).all()
    assert result.convergence is None or result.convergence.converged


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_work_is_said_clearly(name, head):
    field = head.background
    with pytest.raises(ValueError, match="mask is empty"):
        run(name, field, head, mask=np.zeros_like(head.mask))
    with pytest.raises(ValueError, match="one shape"):
        run(name, field[1:], head)
    with pytest.raises(ValueError, match="not finite"):
        run(name, np.where(head.mask, np.nan, field), head)
