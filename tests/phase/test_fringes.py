"""Open-ended fringes: as many as there are, and none made of noise, air, or a strong source."""

import numpy as np
import pytest

from qsmprep.phase.fringes import OpenFringes, fringe_warnings, open_fringes

VOXEL = (2.5, 2.5, 3.0)
SHAPE = (64, 76, 48)
TIMES = (0.005, 0.011)


def head(snr=30.0, lines=(), source_hz=0.0, seed=0):
    """Complex echoes of a head in air, with fringes that end on lines along z, and a strong source in its middle."""
    x, y, z = np.meshgrid(*[(np.arange(n) - n / 2) * h for n, h in zip(SHAPE, VOXEL, strict=True)], indexing="ij")
    inside = (x / 72) ** 2 + (y / 88) ** 2 + (z / 65) ** 2 < 1
    distance = np.sqrt(x**2 + y**2 + z**2)
    source = (
        source_hz
        * np.where(distance > 4, (4 / np.maximum(distance, 4)) ** 3, 1)
        * (3 * z**2 / distance.clip(1) ** 2 - 1)
    )
    field = 40 * np.exp(-(x**2 + (y - 60) ** 2 + (z + 40) ** 2) / 900) + 0.2 * y + source
    offset = sum((np.arctan2(y - b, x - a) for a, b in lines), np.zeros(SHAPE))
    random = np.random.default_rng(seed)
    signal = np.array([inside * np.exp(-20 * t + 1j * (2 * np.pi * field * t + offset)) for t in TIMES])
    return signal + (random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)) / snr


def fringes(signal):
    return open_fringes(np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32), VOXEL)


@pytest.mark.parametrize("snr", [8, 30, 200])
def test_a_head_without_has_none_whatever_its_noise(snr):
    assert fringes(head(snr)) == OpenFringes(0, 0.0)


@pytest.mark.parametrize("snr", [8, 30, 200])
@pytest.mark.parametrize("lines", [((10.6, -20.3),), ((1.1, 2.2), (40.3, -21.1), (-30.2, 39.6))])
def test_each_line_is_counted(snr, lines):
    found = fringes(head(snr, lines))
    assert found.lines == len(lines)
    assert 7 * len(lines) < found.length_cm < 14 * len(lines)  # the head is 13 cm high, its rim is left out


def test_a_line_outside_the_head_is_none_of_it():
    assert fringes(head(lines=((78.0, 90.0),))).lines == 0


def test_a_strong_source_is_no_fringe():
    """The field about it bends more than half a turn a voxel, and in the next echo elsewhere."""
    assert fringes(head(source_hz=2000.0)).lines == 0


@pytest.mark.parametrize(
    ("folder", "magnitude", "phase"),
    [
        (
            "invivo-siemens/sub-01/anat",
            "sub-01_acq-epi_echo-{}_part-mag_MEGRE.nii.gz",
            "sub-01_acq-epi_echo-{}_part-phase_MEGRE.nii.gz",
        ),
        # At 2.3 ms and 3 T fat and water cancel each other: the phase of the face is full of turns.
        (
            "dicom-philips/reference-nifti",
            "2001_WIP_fcMRI_Field_Mapping_cl_e{}.nii.gz",
            "2001_WIP_fcMRI_Field_Mapping_cl_e{}_ph.nii.gz",
        ),
    ],
)
def test_real_scans_whose_coils_the_vendor_combined_have_none(real_data, folder, magnitude, phase):
    import nibabel as nib

    from qsmprep.phase.scaling import to_radians

    if not (real_data / folder).is_dir():
        pytest.skip(f"{real_data / folder} does not exist")
    images = {
        name: [nib.load(real_data / folder / name.format(echo)) for echo in (1, 2)] for name in (magnitude, phase)
    }
    radians = to_radians([np.asanyarray(image.dataobj) for image in images[phase]]).phase
    echoes = np.stack([image.get_fdata(dtype=np.float32) for image in images[magnitude]])
    assert open_fringes(radians, echoes, images[magnitude][0].header.get_zooms()[:3]).lines == 0


@pytest.mark.parametrize(
    ("maker", "words"),
    [("Siemens Healthineers", "Adaptive Combine"), ("Philips", "SENSE"), ("GE MEDICAL SYSTEMS", "ASSET"),
     ("UIH", "inter-coil"), ("", "not the sum of squares")],
)  # fmt: skip
def test_the_warning_says_what_to_set_on_the_scanner(maker, words):
    (warning,) = fringe_warnings(OpenFringes(2, 21.0), maker)
    assert "2 open-ended fringe lines (21 cm)" in warning.text
    assert words in warning.remedy and "export the images of every coil" in warning.remedy
    assert "no brain" not in warning.text
    assert fringe_warnings(OpenFringes(0, 0.0), maker) == ()


def test_where_no_brain_is_seen_the_lines_of_the_whole_object_count_and_that_is_told(monkeypatch):
    def no_brain(*_args, **_named):
        raise ValueError("no brain")

    scan = head(lines=((10.6, -20.3), (40.3, -21.1)))
    monkeypatch.setattr("qsmprep.phase.fringes.bet", no_brain)
    found = fringes(scan)
    assert found.lines == 2 and not found.in_brain
    (warning,) = fringe_warnings(found, "")
    assert "BET sees no brain here" in warning.text
