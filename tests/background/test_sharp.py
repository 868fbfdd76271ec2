"""SHARP removes what harmonic functions it is given and keeps the field of sources inside."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from qsmprep.background.sharp import SharpOptions, sharp
from qsmprep.background.spheres import Ball, ball_weights
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan

ANISOTROPIC = {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.3, -0.2, 0.933)}
VOXELS = [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0)]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def test_background_of_air_leaves_less_than_half_a_percent(make_head):
    head = make_head(38.0)
    result = sharp(head.background, head.mask, scan=head.scan)
    assert result.tissue_field[result.mask].std() < 5e-3 * head.background[result.mask].std()


@pytest.mark.parametrize(("threshold", "lost"), [(0.05, 0.05), (0.01, 0.02)])
def test_field_of_inner_sources_is_kept(make_head, threshold, lost):
    head = make_head(38.0)
    options = SharpOptions(threshold=threshold)
    result = sharp(head.tissue, head.mask, scan=head.scan, options=options)
    difference = (result.tissue_field - head.tissue)[result.mask]
    assert rms(difference) < lost * rms(head.tissue[result.mask])


def test_anisotropic_voxels_and_oblique_b0(make_head):
    head = make_head(24.0, **ANISOTROPIC)
    background, tissue = (sharp(f, head.mask, scan=head.scan) for f in (head.background, head.tissue))
    valid = tissue.mask
    assert background.tissue_field[valid].std() < 0.02 * head.background[valid].std()
    assert rms((tissue.tissue_field - head.tissue)[valid]) < 0.1 * rms(head.tissue[valid])


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_harmonic_polynomials_vanish_whatever_the_shape_of_the_voxel(make_head, harmonic_polynomials, voxel_size_mm):
    head = make_head(24.0, voxel_size_mm, ANISOTROPIC["b0_direction"] if voxel_size_mm[2] == 2 else (0.0, 0.0, 1.0))
    for name, field in harmonic_polynomials(head.mask.shape, voxel_size_mm).items():
        result = sharp(field, head.mask, scan=Scan(voxel_size_mm))
        assert np.abs(result.tissue_field).max() < 1e-4 * np.abs(field[head.mask]).max(), name


@pytest.mark.parametrize("voxel_size_mm", [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0), (0.9, 0.9, 3.0)])
@pytest.mark.parametrize("radius", [3.0, 4.0, 6.0])
def test_mean_squares_over_a_ball_agree_along_all_axes(voxel_size_mm, radius):
    weights = ball_weights(voxel_size_mm, radius)
    axes = [(np.arange(n) - n // 2) * h for n, h in zip(weights.shape, voxel_size_mm, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    squares = [float((weights * u**2).sum()) for u in grid]
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    assert np.allclose(squares, squares[0], rtol=1e-6)
    assert np.array_equal(weights > 0, sum(u**2 for u in grid) <= radius**2 * (1 + 1e-6))
    if len(set(voxel_size_mm)) == 1:
        assert len(set(weights[weights > 0])) == 1


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
@pytest.mark.parametrize("radius", [2.0, 4.3])
def test_filter_is_the_sum_over_the_ball_and_self_adjoint(voxel_size_mm, radius):
    shape = (23, 20, 17)
    rng = np.random.default_rng(0)
    x, y = (np.pad(rng.standard_normal(tuple(n - 10 for n in shape)), 5).astype(np.float32) for _ in range(2))
    ball = Ball(voxel_size_mm, radius, shape)
    weights, reach = ball.weights, [n // 2 for n in ball.weights.shape]
    expected = x.astype(np.float64)
    for place in np.argwhere(weights > 0):
        expected -= weights[tuple(place)] * np.roll(x, tuple(place - reach), (0, 1, 2))
    filtered = ball.subtract_mean(x)
    assert np.allclose(filtered, expected, atol=1e-5)
    assert np.allclose(irfftn(rfftn(x) * ball.filter, shape), expected, atol=1e-5)
    assert np.vdot(filtered, y) == pytest.approx(np.vdot(x, ball.subtract_mean(y)), abs=1e-3)


def test_returned_mask_is_the_erosion_by_the_sphere():
    rng = np.random.default_rng(0)
    mask = np.ones((21, 22, 23), bool)  # touches the volume's border on every side
    mask[tuple(rng.integers(0, 21, (3, 12)))] = False
    field, voxel = rng.standard_normal(mask.shape).astype(np.float32), (1.0, 1.5, 2.0)
    result = sharp(field, mask, scan=Scan(voxel), options=SharpOptions(radius=3.0))
    distance = distance_transform_edt(np.pad(mask, 1), sampling=voxel)[1:-1, 1:-1, 1:-1]
    assert np.array_equal(result.mask, distance > 3 * (1 + 1e-6))
    assert (result.tissue_field[~result.mask] == 0).all()


def test_unit_of_the_input_is_the_unit_of_the_output_and_one_step_is_told(make_head):
    head, seen = make_head(24.0), []
    ppm = sharp(head.tissue, head.mask, scan=head.scan, progress=lambda *step: seen.append(step))
    hz = sharp(123.25 * head.tissue, head.mask, scan=head.scan).tissue_field
    assert np.allclose(hz, 123.25 * ppm.tissue_field, atol=1e-4 * np.abs(hz).max())
    assert seen == [(1, 1)] and ppm.convergence.iterations == 1 and ppm.convergence.converged


def test_odd_sizes_and_a_mask_that_fills_the_volume():
    field = np.random.default_rng(0).standard_normal((13, 15, 17)).astype(np.float32)
    result = sharp(field, np.ones(field.shape, bool), scan=Scan((1, 1, 1)), options=SharpOptions(radius=3))
    assert result.mask.sum() == 7 * 9 * 11 and np.isfinite(result.tissue_field).all()


def test_what_cannot_work_is_said_clearly():
    field, mask, thin = np.zeros((13, 13, 13), np.float32), np.ones((13, 13, 13), bool), np.zeros((13, 13, 13), bool)
    thin[:, :, 4] = True
    size = {"scan": Scan((1.0, 1.0, 1.0))}
    with pytest.raises(ValueError, match="mask is empty"):
        sharp(field, ~mask, **size)
    with pytest.raises(ValueError, match="thinner than a ball"):
        sharp(field, thin, **size)
    with pytest.raises(ValueError, match=r"no ball of radius 8 mm .* largest radius that fits is 6\.99 mm"):
        sharp(field, mask, **size, options=SharpOptions(radius=8))
    assert sharp(field, mask, **size, options=SharpOptions(radius=6.99)).mask.sum() == 1
    with pytest.raises(ValueError, match="is flat, the longest voxel edge being 3 mm"):
        sharp(field, mask, scan=Scan((1, 1, 3)), options=SharpOptions(radius=2))
    with pytest.raises(ValueError, match="three positive numbers"):
        sharp(field, mask, scan=Scan((1, 1, 0)))
    with pytest.raises(ValueError, match="one shape"):
        sharp(field, mask[1:], **size)
    with pytest.raises(ValueError, match="not finite"):
        sharp(np.full_like(field, np.nan), mask, **size)
    with pytest.raises(ValueError, match="threshold"):
        sharp(field, mask, **size, options=SharpOptions(threshold=-0.1))
