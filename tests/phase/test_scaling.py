import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qsmprep.phase.filtered import looks_filtered
from qsmprep.phase.scaling import real_imag_to_polar, to_radians

DATA = Path(os.environ.get("QSMPREP_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def real_set(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no real data: {DATA / name} is absent (set QSMPREP_TEST_DATA)")
    return DATA / name


def wrap(phase):
    return np.angle(np.exp(1j * phase))


def distance(a, b):
    return np.abs(wrap(np.asarray(a, float) - np.asarray(b, float))).max()


@pytest.fixture(scope="module")
def head():
    """Wrapped phase (2 echoes), its magnitude, with noise around an ellipsoid, and the ellipsoid."""
    rng = np.random.default_rng(3)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 36, 30)), indexing="ij")
    mask = (x / 0.8) ** 2 + (y / 0.8) ** 2 + (z / 0.85) ** 2 < 1
    field = 20 * (z**2 - x**2) + 15 * x - 10 * y + 12 / ((x - 0.2) ** 2 + (y - 1) ** 2 + (z + 0.5) ** 2 + 0.1)
    times = np.array([0.006, 0.020])[:, None, None, None]
    signal = 100 * mask * np.exp(2j * np.pi * times * (field - field[mask].mean()))
    signal = signal + rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)
    return np.angle(signal), np.abs(signal), mask


def test_radians_are_kept_to_the_last_bit(head):
    phase = head[0].astype(np.float32)
    scaled = to_radians(phase, units="rad")
    np.testing.assert_array_equal(scaled.phase, phase)
    assert not scaled.warnings
    np.testing.assert_array_equal(to_radians(phase, units="arbitrary").phase, phase)
    np.testing.assert_array_equal(to_radians(phase[1], units="rad").phase, phase[1])


def test_unwrapped_radians_are_wrapped_not_stretched(head):
    unwrapped = 3 * head[0] + 20
    assert distance(to_radians(unwrapped, units="rad").phase, unwrapped) < 1e-5


def test_crop_in_radians_that_never_wraps_is_kept_with_a_warning():
    crop = np.linspace(-1.1, 0.9, 512, dtype=np.float32).reshape(1, 8, 8, 8)
    scaled = to_radians(crop, units="rad")
    np.testing.assert_array_equal(scaled.phase, crop)
    assert [warning.code for warning in scaled.warnings] == ["phase-never-wraps"]


def test_crop_saved_as_16_bit_integers_is_not_stretched_to_its_integer_range():
    crop = np.linspace(-1.1, 0.9, 512, dtype=np.float32).reshape(1, 8, 8, 8)
    slope = 2.0 / 65535
    raw = np.clip(np.rint((crop + 0.1) / slope), -32768, 32767).astype(np.int16)
    assert distance(to_radians(raw * slope - 0.1, raw=raw, units="rad", slope=slope).phase, crop) < 1e-4
    with pytest.raises(ValueError, match="cannot be scaled"):
        to_radians(raw * slope - 0.1, raw=raw, units="arbitrary", slope=slope)


@pytest.mark.parametrize(
    ("encode", "vendor", "error"),
    [
        (lambda p: np.floor((p + np.pi) / (2 * np.pi) * 4096), "Siemens", 2 * np.pi / 4096),
        (lambda p: 2 * np.floor((p + np.pi) / (2 * np.pi) * 4096) - 4096, "SIEMENS", 2 * np.pi / 4096),
        (lambda p: np.rint((p + np.pi) / (2 * np.pi) * 4094), "Philips Medical Systems", np.pi / 4094),
        (lambda p: np.rint(1000 * p), "Philips", 0.0006),
        (lambda p: np.rint(1000 * p), "GE MEDICAL SYSTEMS", 0.0006),
        (lambda p: np.rint(p * 180 / np.pi), "", 0.01),
        (lambda p: np.clip(np.rint(2048 / np.pi * p), -2048, 2047), "", 2 * np.pi / 4096),
        (lambda p: np.floor((p + np.pi) / (2 * np.pi) * 65536), "", 1e-4),
    ],
    ids=["siemens-raw", "siemens", "philips-raw", "philips-mrad", "ge-mrad", "degrees", "signed-12-bit", "16-bit"],
)
def test_vendor_integers(head, encode, vendor, error):
    for units in ("arbitrary", None, "rad"):
        scaled = to_radians(encode(head[0]), units=units, manufacturer=vendor)
        assert distance(scaled.phase, head[0]) <= error * 1.01
        assert np.abs(scaled.phase).max() <= np.float32(np.pi)
        # Units that say rad above numbers that cannot be are not followed in silence.
        assert bool(scaled.warnings) == (units == "rad")


def test_all_echoes_get_the_rule_of_the_whole_run(head):
    integers = np.floor((head[0] + np.pi) / (2 * np.pi) * 4096)
    integers[0] = np.clip(integers[0], 1500, 2500)
    expected = 2 * np.pi * integers / 4096 - np.pi
    assert distance(to_radians(integers).phase, expected) < 1e-5


def test_part_of_the_siemens_range_takes_the_vendor_period():
    ramp = np.linspace(1000, 2500, 512).round().reshape(1, 8, 8, 8)
    scaled = to_radians(ramp, manufacturer="Siemens")
    assert distance(scaled.phase, 2 * np.pi * ramp / 4096 - np.pi) < 1e-5
    assert scaled.warnings
    with pytest.raises(ValueError, match="cannot be scaled"):
        to_radians(ramp)


def test_header_slope_tells_the_unit_of_a_crop():
    raw = np.linspace(1000, 2500, 512).round().astype(np.int16).reshape(1, 8, 8, 8)
    slope = 2 * np.pi / 4095
    scaled = to_radians(raw * slope - np.pi, raw=raw, units="arbitrary", slope=slope)
    assert distance(scaled.phase, raw * slope - np.pi) < 1e-5


def test_unknown_period_is_taken_only_where_the_image_wraps(head):
    scaled = to_radians(50 + 7 * head[0])
    assert distance(scaled.phase - np.angle(np.exp(1j * (scaled.phase - head[0])).mean()), head[0]) < 0.01
    assert [warning.code for warning in scaled.warnings] == ["unit-unknown"]
    smooth = gaussian_filter(np.random.default_rng(0).standard_normal((1, 24, 24, 24)), (0, 3, 3, 3))
    with pytest.raises(ValueError, match="cannot be scaled"):
        to_radians(500 * smooth / smooth.std())
    with pytest.raises(ValueError, match="Units"):
        to_radians(head[0] / np.pi, units="arbitrary")


def test_rounded_radians_and_empty_images_are_refused(head):
    with pytest.raises(ValueError, match="whole numbers"):
        to_radians(np.rint(head[0]), units="rad")
    with pytest.raises(ValueError, match="echo 2"):
        to_radians([head[0][0], np.zeros_like(head[0][0])], units="rad")
    with pytest.raises(ValueError, match="no finite voxel"):
        to_radians(np.full((1, 4, 4, 4), np.nan), units="rad")


def test_non_finite_voxels_become_zero_and_are_counted(head):
    phase = head[0].copy()
    phase[0, :2, 0, 0], phase[1, 3, 3, 3] = np.nan, np.inf
    scaled = to_radians(phase, units="rad")
    assert scaled.non_finite == 3
    assert scaled.phase[0, 0, 0, 0] == 0
    assert np.isfinite(scaled.phase).all()


def test_real_and_imaginary_parts(head):
    phase, magnitude, _ = head
    real, imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
    real[0, 0, 0, 0] = np.nan
    found_magnitude, found_phase = real_imag_to_polar(real, imag)
    assert found_magnitude[0, 0, 0, 0] == 0
    np.testing.assert_allclose(found_magnitude[1], magnitude[1], rtol=1e-5)
    assert distance(found_phase[1], phase[1]) < 1e-5
    with pytest.raises(ValueError, match="no negative"):
        real_imag_to_polar(np.abs(real) + 1, np.abs(imag) + 1)


def test_filtered_phase_is_noticed_and_raw_phase_is_not(head):
    phase, magnitude, mask = head
    signal = magnitude * np.exp(1j * phase)
    smooth = gaussian_filter(signal.real, (0, 2, 2, 2)) + 1j * gaussian_filter(signal.imag, (0, 2, 2, 2))
    filtered = np.angle(signal * smooth.conj())
    assert looks_filtered(filtered, magnitude, mask, (0.006, 0.020))
    assert not looks_filtered(phase, magnitude, mask, (0.006, 0.020))
    assert not looks_filtered(phase / 2, magnitude, mask, (0.006, 0.020)), "a well shimmed head is not filtered"
    assert not looks_filtered(filtered, magnitude, mask, (0.004, 0.008)), "early echoes cannot tell"


def test_invivo_siemens():
    folder = real_set("invivo-siemens") / "sub-01" / "anat"
    images = [nib.load(path) for path in sorted(folder.glob("*part-phase*.nii.gz"))]
    values = [np.asarray(image.dataobj) for image in images]
    scaled = to_radians(
        values,
        raw=[image.dataobj.get_unscaled() for image in images],
        units="arbitrary",
        manufacturer="Siemens",
        slope=images[0].dataobj.slope,
    )
    assert distance(scaled.phase, np.pi * np.array(values) / 4096) < 1e-5
    assert not scaled.warnings
    magnitude = np.array([nib.load(path).get_fdata() for path in sorted(folder.glob("*part-mag*.nii.gz"))])
    mask = nib.load(real_set("invivo-siemens-reference") / "sub-01_desc-bet_mask.nii.gz").get_fdata() > 0
    assert not looks_filtered(scaled.phase, magnitude, mask, (0.0148, 0.03438, 0.05396))


def test_gre_patch_with_misleading_slope():
    image = nib.load(real_set("gre-patch") / "Phase.nii")
    values, raw = (np.moveaxis(a, -1, 0) for a in (np.asarray(image.dataobj), image.dataobj.get_unscaled()))
    for units in ("arbitrary", "rad", None):
        scaled = to_radians(values, raw=raw, units=units, slope=image.dataobj.slope)
        assert distance(scaled.phase, raw) < 1e-6
        assert scaled.warnings[0].code == "header-slope-ignored"
    with pytest.raises(ValueError, match="cannot be scaled"):
        to_radians(values, units="arbitrary")


def test_gre_patch_with_nan():
    values = np.moveaxis(nib.load(real_set("gre-patch") / "phase_with_nan.nii").get_fdata(), -1, 0)
    scaled = to_radians(values)
    assert scaled.non_finite == 1280
    good = np.isfinite(values)
    assert distance(scaled.phase[good], values[good]) < 1e-5


def test_philips():
    folder = real_set("dicom-philips") / "reference-nifti"
    images = [nib.load(path) for path in sorted(folder.glob("*_ph.nii.gz"))]
    values = np.array([np.asarray(image.dataobj) for image in images])
    raw = [image.dataobj.get_unscaled() for image in images]
    scaled = to_radians(values, raw=raw, units="arbitrary", manufacturer="Philips", slope=images[0].dataobj.slope)
    np.testing.assert_allclose(scaled.phase, values, atol=1e-6)
    assert distance(to_radians(raw, manufacturer="Philips").phase, values) < 0.002
