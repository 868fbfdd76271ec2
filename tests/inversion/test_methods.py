"""What every inversion method owes its user, on a small head."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from qsmprep import registry
from qsmprep.inversion.fansi import FansiOptions, fansi
from qsmprep.inversion.medi import MediOptions, medi
from qsmprep.inversion.medi0 import Medi0Options
from qsmprep.inversion.rts import RtsOptions, rts
from qsmprep.inversion.tkd import TkdOptions, tkd
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

# Networks are looked at in tests/nets.
METHODS = tuple(
    method.name
    for method in registry.METHODS
    if method.stage == "inversion" and "field_ppm" in method.inputs() and not method.needs_network()
)
CLOSED_FORMS = ("tkd", "tsvd", "tikhonov", "l2")


def run(name, head, **changes):
    if name in ("medi", "medi0"):
        small = {"medi": MediOptions, "medi0": Medi0Options}[name](smv_radius=2.0)
        changes = {"options": small} | changes
    method = registry.find("inversion", name)
    inputs = dict(field_ppm=head.field, mask=head.mask, magnitude_rss=head.magnitude, scan=head.scan) | changes
    options = inputs.pop("options", method.options_type()())
    return method.run(options, **inputs)


def brief(name, most=12):
    """Options with few iterations, for what holds after each of them."""
    options = registry.find("inversion", name).options_type()()
    if name in ("medi", "medi0"):
        options = replace(options, smv_radius=2.0)
    few = {"max_iterations": most, "start_iterations": 5}
    return replace(options, **{f.name: few[f.name] for f in fields(options) if f.name in few})


@pytest.mark.parametrize("name", METHODS)
def test_result_is_finite_zero_outside_its_mask_and_reproducible(name, head):
    calls = []
    result = run(name, head, progress=lambda done, total: calls.append((done, total)))
    assert result.chi_ppm.dtype == np.float32 and result.mask.dtype == bool
    assert np.all(np.isfinite(result.chi_ppm)) and np.all(result.chi_ppm[~result.mask] == 0)
    assert result.mask.any() and not np.any(result.mask & ~head.mask)
    assert result.convergence.iterations == calls[-1][0] == len(calls)
    few = run(name, head, options=brief(name))
    with use_threads(1):
        assert np.array_equal(run(name, head, options=brief(name)).chi_ppm, few.chi_ppm)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tkd", TkdOptions()),
        ("rts", RtsOptions(max_iterations=10)),
        ("fansi", FansiOptions(max_iterations=25)),
        ("fansi", FansiOptions(max_iterations=10, weak_harmonic=False, nonlinear=False)),
        ("medi", MediOptions(smv_radius=2.0, max_iterations=25)),
    ],
)
def test_torch_gives_the_same_map(name, options, head):
    torch = pytest.importorskip("torch")
    expected = run(name, head, options=options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = run(name, head, options=options, device="torch:cpu")
    finally:
        torch.set_num_threads(threads)
    assert np.linalg.norm(result.chi_ppm - expected.chi_ppm) < 1e-4 * np.linalg.norm(expected.chi_ppm)
    assert np.array_equal(result.mask, expected.mask)


def test_total_variation_methods_beat_division(head):
    division = head.error(run("tkd", head).chi_ppm)
    assert head.error(run("fansi", head).chi_ppm) < 2 / 3 * division
    assert head.error(run("rts", head).chi_ppm) < division
    result = run("medi", head)
    assert head.error(result.chi_ppm, result.mask) < 2 / 3 * division


@pytest.mark.parametrize(
    ("name", "options"),
    [("fansi", FansiOptions(kernel="continuous")), ("medi", MediOptions(smv_radius=2.0, kernel="continuous"))],
)
def test_deep_nuclei_have_the_right_susceptibility(name, options, head):
    result = run(name, head, options=options)  # with the kernel by which the head's field was made
    assert result.convergence.converged
    assert 0.85 < head.slope(result.chi_ppm, result.mask) < 1.1


@pytest.mark.parametrize("name", METHODS)
def test_order_of_the_axes_does_not_matter(name, head_factory):
    head = head_factory((40, 49, 30), (1.0, 1.0, 1.5), (0.2, -0.3, 0.93))
    expected = run(name, head, options=brief(name))
    for order in itertools.islice(itertools.permutations(range(3)), 1, 6, 2):
        turned = run(
            name, head, field_ppm=head.field.transpose(order), mask=head.mask.transpose(order),
            magnitude_rss=head.magnitude.transpose(order), scan=head.turned_scan(order), options=brief(name),
        )  # fmt: skip
        back = turned.chi_ppm.transpose(np.argsort(order))
        np.testing.assert_allclose(back, expected.chi_ppm, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_rotated_slab_gives_the_same_regional_values(name, head_factory):
    angle = np.deg2rad(20)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    straight = head_factory((44, 53, 45))
    oblique = head_factory((44, 53, 53), b0_direction=tuple(rotation[:, 2]), rotation=rotation)
    errors, options = [], brief(name, most=100 if name in ("medi", "medi0") else 25)
    for head in (straight, oblique):
        result = run(name, head, options=options)
        errors.append(head.region_means(result.chi_ppm, result.mask) - head.region_means(head.chi, result.mask))
    np.testing.assert_allclose(errors[1], errors[0], atol=0.025 if name in CLOSED_FORMS else 0.015)
    untold = run(name, oblique, options=options, scan=replace(oblique.scan, b0_direction=(0, 0, 1)))
    assert oblique.error(untold.chi_ppm, untold.mask) > 1.3 * oblique.error(result.chi_ppm, result.mask)


@pytest.mark.parametrize("name", METHODS)
def test_voxels_without_a_number_do_not_spread(name, head):
    field = head.field.copy()
    field[22, 25, 22] = np.nan
    field[20, 20, 20] = np.inf
    assert np.all(np.isfinite(run(name, head, field_ppm=field, options=brief(name)).chi_ppm))


@pytest.mark.parametrize("name", METHODS)
def test_wrong_input_is_refused_by_name(name, head):
    with pytest.raises(ValueError, match="20 ppm"):
        run(name, head, field_ppm=head.field * 127.7 * 10)
    with pytest.raises(ValueError, match="mask is empty"):
        run(name, head, mask=np.zeros_like(head.mask))
    with pytest.raises(ValueError, match="one shape"):
        run(name, head, mask=head.mask[1:])


@pytest.mark.parametrize("name", ["fansi", "medi"])
def test_wrong_phase_parameters_and_weights_are_refused(name, head):
    with pytest.raises(ValueError, match="milliseconds"):
        run(name, head, scan=replace(head.scan, echo_times_s=(5.0, 11.0)))
    with pytest.raises(ValueError, match="centre frequency"):
        run(name, head, scan=replace(head.scan, centre_frequency_mhz=0.0))
    with pytest.raises(ValueError, match="give centre_frequency_mhz"):
        run(name, head, scan=Scan(head.voxel_size_mm, head.b0_direction))
    with pytest.raises(ValueError, match="give echo_times_s"):
        run(name, head, scan=replace(head.scan, echo_times_s=()))
    with pytest.raises(ValueError, match="not be negative"):
        run(name, head, weights=-head.magnitude)
    with pytest.raises(ValueError, match=r"smv_radius|alpha1"):
        run(name, head, options=MediOptions(smv_radius=-1) if name == "medi" else FansiOptions(alpha1=-1))


def test_doubled_field_gives_doubled_susceptibility(head):
    for method in (tkd, rts):
        once, twice = (method(head.field * factor, head.mask, scan=head.scan) for factor in (1, 2))
        if method is tkd:
            np.testing.assert_allclose(twice.chi_ppm, 2 * once.chi_ppm, rtol=1e-4, atol=1e-6)
        assert 1.5 < np.linalg.norm(twice.chi_ppm) / np.linalg.norm(once.chi_ppm) < 2.5


@pytest.mark.parametrize("method", [fansi, medi])
def test_unreliable_voxels_do_not_count(method, head):
    residual = np.zeros(head.field.shape, np.float32)
    residual[15:18, 25:28, 20:23] = 0.9
    spoiled = head.field.copy()
    spoiled[residual > 0.3] += 0.4
    small = {"options": MediOptions(smv_radius=0.0, merit=False)} if method is medi else {}
    plain, excluded = (
        method(spoiled, head.mask, magnitude_rss=head.magnitude, relative_residual=rho, scan=head.scan, **small)
        for rho in (None, residual)
    )
    assert head.error(excluded.chi_ppm) < 0.7 * head.error(plain.chi_ppm)
