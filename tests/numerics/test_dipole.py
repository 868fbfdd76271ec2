"""The dipole kernel against closed-form fields and its symmetries."""

import numpy as np
import pytest

from qsmprep.numerics.dipole import KERNELS, b0_direction_from_affine, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn

OBLIQUE = (0.3, -0.5, 0.7)


def offsets_mm(shape, voxel_size_mm):
    """Coordinates in mm from the centre voxel, sparse."""
    return np.meshgrid(
        *((np.arange(n) - n // 2) * h for n, h in zip(shape, voxel_size_mm, strict=True)), indexing="ij", sparse=True
    )


def body(shape, voxel_size_mm, is_inside, samples=5):
    """Partial-volume map of a body given by a test on coordinates in mm."""
    shifts = (np.arange(samples) + 0.5) / samples - 0.5
    volume = np.zeros(shape)
    x, y, z = offsets_mm(shape, voxel_size_mm)
    for a in shifts * voxel_size_mm[0]:
        for b in shifts * voxel_size_mm[1]:
            for c in shifts * voxel_size_mm[2]:
                volume += is_inside(x + a, y + b, z + c)
    return (volume / samples**3).astype(np.float32)


def convolve(chi, kernel):
    return irfftn(rfftn(chi) * kernel, chi.shape)


def impulse_response(shape, voxel_size_mm, b0_direction, kind):
    """The kernel in image space, from its full half spectrum, in double precision."""
    return np.fft.irfftn(
        dipole_kernel(shape, voxel_size_mm, b0_direction, kind=kind).astype(float), shape, axes=(0, 1, 2)
    )


@pytest.mark.parametrize("b0_direction", [(0, 0, 1), OBLIQUE])
@pytest.mark.parametrize(
    ("kind", "voxel_size_mm", "error"),
    [
        ("integrated", (1, 1, 1), 0.004),
        ("integrated", (1, 1, 2), 0.012),
        ("integrated", (1, 1.5, 3), 0.03),
        ("greens", (1, 1, 1), 0.004),
        ("continuous", (1, 1, 1), 0.05),
        ("discrete", (1, 1, 1), 0.05),
    ],
)
def test_sphere_has_a_dipole_field_outside_and_none_inside(kind, voxel_size_mm, error, b0_direction):
    shape = tuple(int(np.ceil(64 / h)) for h in voxel_size_mm)
    radius = 10.0
    x, y, z = offsets_mm(shape, voxel_size_mm)
    r = np.sqrt(x**2 + y**2 + z**2) + 1e-9
    b = np.array(b0_direction) / np.linalg.norm(b0_direction)
    truth = (radius / r) ** 3 * (3 * ((b[0] * x + b[1] * y + b[2] * z) / r) ** 2 - 1) / 3
    chi = body(shape, voxel_size_mm, lambda x, y, z: x**2 + y**2 + z**2 <= radius**2)
    field = convolve(chi, dipole_kernel(shape, voxel_size_mm, b0_direction, kind=kind))

    border = 1.5 * max(voxel_size_mm)
    outside, inside = (r > radius + border) & (r < 2.5 * radius), r < radius - border
    assert np.sqrt(np.mean((field - truth)[outside] ** 2) / np.mean(truth[outside] ** 2)) < error
    assert abs(field[inside].mean()) < 2e-3
    assert field[inside].std() < (2e-3 if kind in ("integrated", "greens") else 1.5e-2)


def test_padding_the_k_space_kernel_takes_the_neighbouring_copies_away():
    radius, shape = 10.0, (64, 64, 64)
    x, y, z = offsets_mm(shape, (1, 1, 1))
    r = np.sqrt(x**2 + y**2 + z**2) + 1e-9
    truth = (radius / r) ** 3 * (3 * (z / r) ** 2 - 1) / 3
    outside = (r > radius + 1.5) & (r < 2.5 * radius)
    chi = body(shape, (1, 1, 1), lambda x, y, z: x**2 + y**2 + z**2 <= radius**2)
    padded = np.zeros((128, 128, 128), np.float32)
    padded[:64, :64, :64] = chi
    errors = []
    for source in (chi, padded):
        field = convolve(source, dipole_kernel(source.shape, (1, 1, 1)))[:64, :64, :64]
        errors.append(np.sqrt(np.mean((field - truth)[outside] ** 2) / np.mean(truth[outside] ** 2)))
    assert errors[0] < 0.05
    assert errors[1] < 0.008


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize(("tilt", "azimuth"), [(0, 0), (90, 0), (90, 40), (55, 25), (30, -70)])
def test_infinite_cylinder_at_any_angle_to_b0(kind, tilt, azimuth):
    theta, alpha = np.deg2rad(tilt), np.deg2rad(azimuth)
    b = (np.sin(theta) * np.cos(alpha), np.sin(theta) * np.sin(alpha), np.cos(theta))
    shape, radius = (160, 160, 3), 12.0
    chi = body(shape, (1, 1, 1), lambda x, y, z: x**2 + y**2 + 0 * z <= radius**2)
    # D(0) = 0 takes away the field of the mean susceptibility of the cross-section.
    uniform = (3 * np.cos(theta) ** 2 - 1) / 6
    field = convolve(chi, dipole_kernel(shape, (1, 1, 1), b, kind=kind)) + uniform * chi.mean()
    x, y, _ = offsets_mm(shape, (1, 1, 1))
    r, phi = np.hypot(x, y) + 0 * field, np.arctan2(y, x) + 0 * field
    outer = np.sin(theta) ** 2 / 2 * (radius / np.maximum(r, 1)) ** 2 * np.cos(2 * (phi - alpha))
    inside, outside = r < radius - 2, (r > radius + 2) & (r < 3 * radius)
    assert abs(field[inside].mean() - uniform) < 3e-3
    assert np.abs(field - outer)[outside].max() < 0.02


def test_slab_perpendicular_and_parallel_to_b0():
    chi = np.zeros((4, 4, 64), np.float32)
    chi[:, :, 20:30] = 1
    for b, value in (((0, 0, 1), -2 / 3), ((1, 0, 0), 1 / 3)):
        field = convolve(chi, dipole_kernel(chi.shape, (1, 1, 1), b))
        assert np.allclose(field, value * (chi - chi.mean()), atol=1e-5)


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("shape", [(8, 10, 12), (9, 7, 11), (8, 9, 10)])
def test_kernel_is_even_in_k_and_keeps_a_real_field_real(kind, shape):
    kernel = dipole_kernel(shape, (1, 1.5, 3), OBLIQUE, kind=kind)
    assert kernel.dtype == np.float32 and kernel.shape == (*shape[:2], shape[2] // 2 + 1)
    assert np.isfinite(kernel).all()
    planes = [0] + ([shape[2] // 2] if shape[2] % 2 == 0 else [])
    for plane in planes:  # where the half spectrum holds both k and -k
        mirrored = np.roll(kernel[::-1, ::-1, plane], (1, 1), (0, 1))
        assert np.allclose(kernel[:, :, plane], mirrored, atol=1e-6)


@pytest.mark.parametrize("kind", KERNELS)
def test_permuting_the_axes_permutes_the_kernel(kind):
    shape, voxel, b = np.array((8, 9, 12)), np.array((1, 1.5, 3)), np.array(OBLIQUE)
    reference = impulse_response(tuple(shape), tuple(voxel), tuple(b), kind)
    for order in ([1, 0, 2], [2, 0, 1], [0, 2, 1], [1, 2, 0], [2, 1, 0]):
        permuted = impulse_response(tuple(shape[order]), tuple(voxel[order]), tuple(b[order]), kind)
        assert np.allclose(permuted, reference.transpose(order), atol=1e-6)


@pytest.mark.parametrize("kind", KERNELS)
def test_flipping_an_axis_flips_one_component_of_b(kind):
    shape, voxel = (9, 11, 13), (1, 1.5, 3)
    reference = impulse_response(shape, voxel, OBLIQUE, kind)
    flipped = impulse_response(shape, voxel, (-OBLIQUE[0], *OBLIQUE[1:]), kind)
    assert np.allclose(np.roll(flipped[::-1], 1, axis=0), reference, atol=1e-6)
    assert not np.allclose(flipped, reference, atol=1e-4)
    assert np.allclose(impulse_response(shape, voxel, tuple(-c for c in OBLIQUE), kind), reference, atol=1e-7)


def test_k_space_kernel_has_its_range_and_no_mean():
    kernel = dipole_kernel((16, 16, 16), (1, 1, 1))
    assert kernel.max() <= 1 / 3 + 1e-6 and kernel.min() >= -2 / 3 - 1e-6
    assert kernel[0, 0, 0] == 0
    # The value at the origin of image space is the mean over the full spectrum: 0 for a cube.
    assert abs(impulse_response((16, 16, 16), (1, 1, 1), (0, 0, 1), "continuous")[0, 0, 0]) < 1e-7


def test_voxel_integrated_kernel_has_the_known_values():
    kernel = impulse_response((32, 32, 32), (1, 1, 1), (0, 0, 1), "integrated")
    assert kernel[0, 0, 0] == pytest.approx(0, abs=1e-6)
    assert kernel[0, 0, 1] == pytest.approx(0.134782, abs=1e-6)
    assert kernel[1, 0, 0] == pytest.approx(-0.067391, abs=1e-6)
    point = impulse_response((32, 32, 32), (1, 1, 1), (0, 0, 1), "greens")
    assert kernel[0, 0, 8] == pytest.approx(point[0, 0, 8], rel=1e-3)


def test_voxel_integrated_kernel_in_its_own_voxel_is_a_third_minus_demagnetisation():
    # The demagnetising factors of a body sum to 1, so its own fields for three orthogonal B0 sum to 0.
    own = [impulse_response((9, 9, 9), (1, 1.5, 3), b, "integrated")[0, 0, 0] for b in np.eye(3)]
    assert sum(own) == pytest.approx(0, abs=1e-6)
    assert own[2] > 0.1 > -0.1 > own[0]


def test_tilting_object_and_b0_together_leaves_the_field_alone():
    shape, radius = (48, 48, 48), (10.0, 6.0)

    def spheroid(axis):
        def is_inside(x, y, z):
            along = axis[0] * x + axis[1] * y + axis[2] * z
            return (along / radius[0]) ** 2 + (x**2 + y**2 + z**2 - along**2) / radius[1] ** 2 <= 1

        return body(shape, (1, 1, 1), is_inside)

    means = []
    for axis in ((0, 0, 1), (0, np.sin(0.4), np.cos(0.4)), tuple(np.array(OBLIQUE) / np.linalg.norm(OBLIQUE))):
        chi = spheroid(axis)
        field = convolve(chi, dipole_kernel(shape, (1, 1, 1), axis, kind="integrated"))
        means.append(field[chi > 0.999].mean())
    ratio = radius[0] / radius[1]
    e = np.sqrt(ratio**2 - 1)
    demagnetising = (ratio / e * np.log(ratio + e) - 1) / (ratio**2 - 1)
    assert means == pytest.approx([1 / 3 - demagnetising] * 3, rel=0.02)


def test_b0_direction_comes_from_the_affine_with_its_flip():
    angle = np.deg2rad(20)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([1, 1.5, 3])
    assert b0_direction_from_affine(affine) == pytest.approx((0, np.sin(angle), np.cos(angle)))
    affine[:3, 1] *= -1
    assert b0_direction_from_affine(affine) == pytest.approx((0, -np.sin(angle), np.cos(angle)))
    assert b0_direction_from_affine(np.eye(4)[[2, 0, 1, 3]]) == pytest.approx((0, 1, 0))


def test_mirrored_data_with_mirrored_affine_give_the_mirrored_field():
    rng = np.random.default_rng(0)
    chi = rng.standard_normal((11, 12, 13)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    flipped = affine.copy()
    flipped[:3, 0] *= -1
    field, mirrored = (
        convolve(c, dipole_kernel(c.shape, (1, 1, 1), b0_direction_from_affine(a)))
        for c, a in ((chi, affine), (np.ascontiguousarray(chi[::-1]), flipped))
    )
    assert np.allclose(mirrored[::-1], field, atol=1e-5)


def test_bad_b0_and_unknown_kind_are_refused():
    for b in ((0, 0, 0), (0, 0, np.nan), (0, 1)):
        with pytest.raises(ValueError, match="b0_direction"):
            dipole_kernel((4, 4, 4), (1, 1, 1), b)
    with pytest.raises(ValueError, match="continuous, greens"):
        dipole_kernel((4, 4, 4), (1, 1, 1), kind="magic")
