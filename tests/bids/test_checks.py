"""Bad input is refused before anything is computed, by a line that names the file and the remedy."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.checks import check_mask, check_output_dir, check_run, errors
from qsmprep.bids.query import find_runs

SHAPE = (6, 7, 5)


def check(dataset, **options):
    """Errors and warnings of the only run, as text."""
    (run,) = find_runs(dataset.folder).runs
    problems = check_run(run, **options)
    return [str(p) for p in errors(problems)], [str(p) for p in problems if p.severity == "warning"]


def only_error(dataset, **options):
    found, _ = check(dataset, **options)
    assert len(found) == 1, found
    assert "\n" not in found[0]
    return found[0]


def change(path, edit):
    """Write an image anew with other values."""
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    nib.Nifti1Image(edit(values), image.affine, image.header).to_filename(path)


def put(value, *, voxels=3):
    def edit(values):
        values.flat[10 : 10 + voxels] = value
        return values

    return edit


@pytest.mark.parametrize("parts", [("mag", "phase"), ("", "phase"), ("real", "imag"), ("mag", "phase", "real", "imag")])
def test_a_good_run_has_no_problem(dataset, parts):
    dataset.add_run(parts=parts)
    assert check(dataset) == ([], [])


def test_a_missing_phase_of_one_echo_is_named(dataset):
    dataset.add_run()
    dataset.remove("echo-2_part-phase")
    message = only_error(dataset)
    assert "sub-01_echo-2_part-phase_MEGRE.nii.gz: missing" in message and "Add the file" in message


def test_a_gap_in_the_echo_numbers_is_a_missing_echo(dataset):
    dataset.add_run()
    dataset.remove("echo-2")
    assert "echoes 1, 3, but not echo 2" in only_error(dataset)


@pytest.mark.parametrize(("kept", "lacking"), [("phase", "magnitude"), ("mag", "phase"), ("real", "imaginary")])
def test_half_of_a_complex_signal_is_refused(dataset, kept, lacking):
    dataset.add_run(parts=(kept,))
    message = only_error(dataset)
    assert message.startswith("sub-01: only") and f"no {lacking}" in message and "--bids-filter-file" in message


def test_shapes_must_match(dataset):
    *_, last = dataset.add_run()
    dataset.write_image(last, dataset.values("phase", (6, 7, 4)))
    message = only_error(dataset)
    assert last.name in message and "6 x 7 x 4" in message and "6 x 7 x 5" in message


def test_affines_must_match_but_for_rounding(dataset):
    *_, last = dataset.add_run()
    affine = nib.load(last).affine.copy()
    dataset.write_image(last, dataset.values("phase", SHAPE), affine + np.float64(1e-4))
    assert check(dataset)[0] == []
    affine[:3, 3] += 1.5
    dataset.write_image(last, dataset.values("phase", SHAPE), affine)
    message = only_error(dataset)
    assert last.name in message and "2.6 mm" in message


@pytest.mark.parametrize("times", [(4.0, 8.0, 12.0), (4, 8, 12)])
def test_echo_times_in_milliseconds_are_recognised(dataset, times):
    dataset.add_run(echo_times=times)
    message = only_error(dataset)
    assert "EchoTime is 4" in message and "milliseconds" in message and "0.004" in message


def test_a_missing_echo_time_is_named_once(dataset):
    dataset.add_run()
    dataset.edit("sub-01", EchoTime=None)
    message = only_error(dataset)
    assert "sub-01_echo-1_part-mag_MEGRE.nii.gz: EchoTime is missing" in message


@pytest.mark.parametrize("value", ["0.004", "n/a", [0.004], 0, -0.004, True])
def test_an_echo_time_must_be_a_positive_number(dataset, value):
    dataset.add_run()
    dataset.edit("echo-1", EchoTime=value)
    assert f"EchoTime is {value!r}" in only_error(dataset)


def test_equal_echo_times_hint_at_uncombined_coils(dataset):
    dataset.add_run(echo_times=(0.004, 0.004, 0.008))
    message = only_error(dataset)
    assert "echoes 1 and 2 have the same EchoTime" in message and "coils" in message


def test_magnitude_and_phase_of_an_echo_share_its_time(dataset):
    dataset.add_run()
    dataset.edit("echo-2_part-phase", EchoTime=0.009)
    assert "0.008 and 0.009 s" in only_error(dataset)


def test_numbers_that_do_not_follow_time_are_a_warning(dataset):
    dataset.add_run(echo_times=(0.008, 0.004))
    found, warnings = check(dataset)
    assert found == [] and "ordered by EchoTime" in warnings[0]


def test_a_missing_field_strength_asks_for_the_option(dataset):
    dataset.add_run()
    dataset.edit("sub-01", MagneticFieldStrength=None)
    assert "--field-strength" in only_error(dataset)
    assert check(dataset, field_strength_t=3.0)[0] == []
    dataset.edit("sub-01", ImagingFrequency=123.25)
    assert check(dataset)[0] == []


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"MagneticFieldStrength": 30000}, "a value in tesla"),
        ({"MagneticFieldStrength": "3T"}, "is '3T'"),
        ({"ImagingFrequency": 63.9}, "3 T means 127.7 MHz"),
        ({"ImagingFrequency": 123250000}, "3 T means 127.7 MHz"),
    ],
)
def test_a_field_strength_that_cannot_be_is_refused(dataset, entries, message):
    dataset.add_run()
    dataset.edit("sub-01", **entries)
    assert message in only_error(dataset)


def test_phase_of_unknown_unit_is_scaled_by_its_numbers_with_a_warning(dataset):
    dataset.add_run()
    dataset.edit("phase", Units=None)
    found, warnings = check(dataset)
    assert found == [] and "phase without Units" in warnings[0]


def test_phase_in_another_unit_is_refused(dataset):
    dataset.add_run()
    dataset.edit("phase", Units="Hz")
    assert "phase Units is 'Hz'" in only_error(dataset)


def test_phase_in_arbitrary_units_that_cannot_be_scaled_is_refused(dataset):
    images = dataset.add_run()
    dataset.edit("phase", Units="arbitrary", Manufacturer=None)
    for path in images[1::2]:
        change(path, lambda values: np.clip(values, -1, 1) * 0.7)
    assert images[1].name in only_error(dataset)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "3 NaN"), (np.inf, "3 infinite"), (-np.inf, "3 infinite")])
@pytest.mark.parametrize("part", ["mag", "phase"])
def test_nan_and_infinite_voxels_are_counted_and_refused(dataset, part, value, word):
    dataset.add_run()
    (path,) = dataset.find(f"echo-2_part-{part}", ".nii.gz")
    change(path, put(value))
    message = only_error(dataset)
    assert path.name in message and f"{word} of 210 voxels" in message and "zero" in message


def test_a_tolerated_share_of_nan_is_a_warning(dataset):
    path, *_ = dataset.add_run()
    change(path, put(np.nan))
    found, warnings = check(dataset, tolerated_share=0.05)
    assert found == [] and "3 NaN of 210 voxels: they are set to zero" in warnings[0]


def test_a_truncated_gzip_is_named(dataset):
    path, *_ = dataset.add_run()
    path.write_bytes(path.read_bytes()[:-40])
    message = only_error(dataset)
    assert path.name in message and "truncated" in message and "Copy it anew" in message


def test_a_truncated_uncompressed_file_is_named(dataset):
    path, *_ = dataset.add_run()
    whole = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").write_bytes(whole[:-8])
    message = only_error(dataset)
    assert "truncated" in message and f"instead of {len(whole)}" in message


@pytest.mark.parametrize(
    "content", [b"", b"not an image", gzip.compress(b"not an image" * 100)], ids=["empty", "text", "packed text"]
)
def test_a_file_that_is_no_image_is_named(dataset, content):
    path, *_ = dataset.add_run()
    path.write_bytes(content)
    assert path.name in only_error(dataset)


def test_a_link_to_nowhere_is_named(dataset):
    path, *_ = dataset.add_run()
    path.unlink()
    path.symlink_to("/nowhere/annexed")
    assert path.name in only_error(dataset)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((6, 7, 1), "6 x 7 x 1"), ((6, 7), "6 x 7"), ((6, 7, 5, 4), "coils"), ((6, 7, 0), "6 x 7 x 0")],
)
def test_only_volumes_are_taken(dataset, shape, message):
    path, *_ = dataset.add_run()
    dataset.write_image(path, np.ones(shape, np.float32))
    found, _ = check(dataset)
    assert any(path.name in text and message in text for text in found)


def test_a_fourth_dimension_of_one_is_no_problem(dataset):
    path, *_ = dataset.add_run()
    dataset.write_image(path, dataset.values("", (*SHAPE, 1)))
    assert check(dataset)[0] == []


def test_complex_numbers_belong_into_two_files(dataset):
    path, *_ = dataset.add_run()
    dataset.write_image(path, np.ones(SHAPE, np.complex64))
    assert "part-real" in only_error(dataset)


def test_an_empty_image_is_refused(dataset):
    path, *_ = dataset.add_run()
    dataset.write_image(path, np.zeros(SHAPE, np.float32))
    assert "every voxel is 0" in only_error(dataset)


def test_without_orientation_the_direction_of_the_field_must_be_given(dataset):
    for path in dataset.add_run():
        dataset.write_image(path, np.asarray(nib.load(path).dataobj), code=0)
    assert "--b0-direction" in only_error(dataset)
    assert check(dataset, b0_direction=(0, 0, 1))[0] == []


def test_a_singular_affine_is_refused(dataset):
    path, *_ = dataset.add_run()
    image = nib.load(path)
    header = image.header.copy()
    header["srow_z"] = 0
    header["sform_code"] = 1
    content = bytearray(header.binaryblock + b"\0" * 4 + np.asarray(image.dataobj).tobytes(order="F"))
    content[344:348] = b"n+1\0"
    header["vox_offset"] = 352
    content[: len(header.binaryblock)] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    assert "affine" in only_error(dataset)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"MRAcquisitionType": "2D"}, "2D acquisition"),
        ({"PartialFourier": 0.75}, "partial Fourier 0.75"),
        ({"ScanningSequence": "EP"}, "echo planar"),
        ({"ImageType": ["DERIVED", "SWI"]}, "filtered for SWI"),
    ],
)
def test_what_the_consensus_advises_against_is_a_warning(dataset, entries, message):
    dataset.add_run()
    dataset.edit("sub-01", **entries)
    found, warnings = check(dataset)
    assert found == [] and len(warnings) == 1 and message in warnings[0]


def test_a_single_echo_is_a_warning(dataset):
    dataset.add_run(echo_times=(0.02,))
    found, warnings = check(dataset)
    assert found == [] and "single echo" in warnings[0]


def test_one_bad_run_leaves_the_others_good(dataset):
    dataset.add_run("01", parts=("phase",))
    dataset.add_run("02")
    bad, good = find_runs(dataset.folder).runs
    assert errors(check_run(bad)) and check_run(good) == ()


def test_a_mask_must_lie_on_the_grid_of_the_run(dataset):
    dataset.add_run()
    (run,) = find_runs(dataset.folder).runs
    mask = dataset.write_image("mask.nii.gz", np.ones(SHAPE, np.uint8))
    assert check_mask(mask, run) == ()
    dataset.write_image("mask.nii.gz", np.zeros(SHAPE, np.uint8))
    assert "empty" in str(check_mask(mask, run)[0])
    dataset.write_image("mask.nii.gz", np.ones((6, 7, 6), np.uint8))
    assert "6 x 7 x 6" in str(check_mask(mask, run)[0])
    assert check_mask(dataset.folder / "nowhere.nii", run)


@pytest.mark.parametrize("inside", ["", "sub-01", "sub-01/anat", "results", "derivatives", "x/../sub-01"])
def test_the_raw_dataset_is_never_written_into(dataset, inside):
    dataset.add_run()
    (problem,) = check_output_dir(dataset.folder, dataset.folder / inside)
    assert problem.severity == "error" and "derivatives" in str(problem)


def test_derivatives_of_the_dataset_and_folders_beside_it_are_fine(dataset, tmp_path):
    dataset.add_run()
    before = sorted(tmp_path.rglob("*"))
    assert check_output_dir(dataset.folder, dataset.folder / "derivatives" / "qsmprep") == ()
    assert check_output_dir(dataset.folder, tmp_path / "new" / "folder") == ()
    assert sorted(tmp_path.rglob("*")) == before, "the check leaves nothing behind"


def test_a_link_into_the_dataset_is_seen_through(dataset, tmp_path):
    dataset.add_run()
    (tmp_path / "link").symlink_to(dataset.folder / "sub-01")
    assert check_output_dir(dataset.folder, tmp_path / "link" / "out")


def test_an_output_folder_that_cannot_be_written_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        (problem,) = check_output_dir(dataset.folder, folder)
        assert "cannot be written" in str(problem)
    if os.geteuid():
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        assert check_output_dir(dataset.folder, locked / "out")


def test_another_raw_dataset_is_not_written_into(dataset, tmp_path):
    dataset.add_run()
    assert "raw dataset" in str(check_output_dir(tmp_path / "other", dataset.folder)[0])


def exchange(dataset):
    for magnitude in dataset.find("part-mag", ".nii.gz"):
        phase = magnitude.with_name(magnitude.name.replace("part-mag", "part-phase"))
        kept = magnitude.with_name("kept")
        magnitude.rename(kept)
        phase.rename(magnitude)
        kept.rename(phase)


@pytest.mark.parametrize("factor", [1.0, 0.001])
def test_magnitude_and_phase_exchanged_are_refused_in_one_line(dataset, factor):
    for path in dataset.add_run():
        if "part-mag" in path.name:
            change(path, lambda values: (values * np.float32(factor)).astype(np.float32))
    exchange(dataset)
    message = only_error(dataset)
    assert "sub-01_echo-1_part-mag_MEGRE.nii.gz" in message and "Exchange the names" in message
    assert "2 more files" in message


def test_a_phase_from_0_to_2_pi_that_is_called_magnitude_is_refused_as_well(dataset):
    for path in dataset.add_run():
        factor, shift = (1, np.float32(np.pi)) if "phase" in path.name else (0.002, 0)
        change(path, lambda values, factor=factor, shift=shift: values * factor + shift)
    exchange(dataset)
    assert "Exchange the names" in only_error(dataset)


def test_a_negative_magnitude_beside_a_phase_that_is_one_is_refused(dataset):
    first, *_ = dataset.add_run()
    change(first, put(-50))
    assert "values below 0" in only_error(dataset)


@pytest.mark.parametrize("lowest", [0.0, -1e-4])
@pytest.mark.parametrize(("low", "high"), [(-np.pi, np.pi), (0, 2 * np.pi), (-0.3, 0.4), (0, 4095), (-4096, 4094)])
def test_magnitudes_from_0_to_1_are_none_whatever_the_phase(dataset, low, high, lowest):
    whole = high > 10
    for path in dataset.add_run():
        if "part-phase" in path.name:
            values = np.interp(dataset.values("phase", SHAPE), (-np.pi, np.pi), (low, high))
            dataset.write_image(path, np.rint(values).astype(np.int16) if whole else values.astype(np.float32))
        else:
            change(path, lambda values: np.clip(values / 400, 0, 1))
            change(path, put(lowest))
    dataset.edit("part-phase", Units="arbitrary" if whole else "rad")
    assert check(dataset)[0] == []


def test_a_compressed_image_that_goes_on_behind_its_voxels_is_read_no_further(dataset):
    first, *_ = dataset.add_run()
    first.write_bytes(first.read_bytes() + gzip.compress(bytes(2**20)))
    assert check(dataset)[0] == []  # some programs fill up
    first.write_bytes(first.read_bytes() + gzip.compress(bytes(2**26)))
    assert "goes on" in only_error(dataset)
