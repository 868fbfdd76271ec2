"""Vendors, number formats, orientations and echo counts: the same head must give the same map."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

HEADS = {
    "plain": {},
    "siemens": {"vendor": "siemens"},
    "ge": {"vendor": "ge"},
    "gecomplex": {"vendor": "ge", "parts": "complex"},
    "philips": {"vendor": "philips"},
    "psr": {"orientation": "PSR"},
    "lpi": {"orientation": "LPI"},
    "two": {"echo_times": "0.006,0.02"},
    "uneven": {"echo_times": "0.004,0.011,0.016,0.027"},
    "single": {"echo_times": "0.015"},
    "visits": {"sessions": 2},
}


def images_of(folder, part):
    """Values of the echoes (n_echo, ...), affine, and their sidecars, of the plain head."""
    paths = sorted(folder.glob(f"sub-01/anat/*_part-{part}_MEGRE.nii.gz"))
    sidecars = [json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text("utf-8")) for path in paths]
    return np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in paths]), nib.load(paths[0]).affine, sidecars


def write(source, name, values, affine, sidecar):
    path = source / "sub-01" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.to_filename(path.with_name(path.name + ".nii.gz"))
    path.with_name(path.name + ".json").write_text(json.dumps(sidecar), "utf-8")


def made_over(plain, folder):
    """Datasets with the plain head in other forms: one file of all echoes, 2D slices with own offsets, MPM, EPI."""
    own = np.random.default_rng(1).uniform(-np.pi, np.pi, images_of(plain, "mag")[0].shape[3])
    sources = {label: folder / f"source-{label}" for label in ("stack", "slices", "mpm", "func")}
    for source in sources.values():
        source.mkdir()
        shutil.copy(plain / "dataset_description.json", source)
    for part in ("mag", "phase"):
        echoes, affine, sidecars = images_of(plain, part)
        times = [sidecar["EchoTime"] for sidecar in sidecars]
        stacked = {**sidecars[0], "EchoTime": times}
        write(sources["stack"], f"anat/sub-01_part-{part}_MEGRE", np.moveaxis(echoes, 0, -1), affine, stacked)
        for number, (echo, sidecar) in enumerate(zip(echoes, sidecars, strict=True), start=1):
            turned = echo if part == "mag" else np.angle(np.exp(1j * (echo + own)))
            name, told = f"anat/sub-01_echo-{number}_part-{part}_MEGRE", {**sidecar, "MRAcquisitionType": "2D"}
            write(sources["slices"], name, turned, affine, told)
            write(
                sources["mpm"],
                f"anat/sub-01_acq-PDw_echo-{number}_flip-1_mt-off_part-{part}_MPM",
                echo,
                affine,
                sidecar,
            )
            drift = [echo + 2 * np.pi * 2.0 * volume * sidecar["EchoTime"] for volume in range(3)]  # 2 Hz a volume
            series = [echo] * 3 if part == "mag" else np.angle(np.exp(1j * np.array(drift)))
            name = f"func/sub-01_task-rest_echo-{number}_part-{part}_bold"
            write(sources["func"], name, np.stack(series, -1), affine, sidecar)
    return sources


@pytest.fixture(scope="module")
def maps(tmp_path_factory, run_qsmprep, merge_subjects):
    folder = tmp_path_factory.mktemp("kinds")
    sources = {
        label: simulate(folder / f"source-{label}", SimulationOptions(voxel_size="4", **options))
        for label, options in HEADS.items()
    }
    sources |= made_over(sources["plain"], folder)
    bids = merge_subjects(folder / "bids", sources)
    done = run_qsmprep(bids, folder / "out", "--pipeline", "fast", "--separation", "none", "--datatype", "anat", "func")
    assert done.status == 0, done.stderr
    return done


def chi_in_world_axes(done, label):
    folder = done.out / f"sub-{label}"
    return nib.as_closest_canonical(
        nib.load(next(path for path in folder.rglob("*_Chimap.nii.gz") if "desc-" not in path.name))
    )


@pytest.mark.parametrize("label", ["siemens", "ge", "gecomplex", "philips", "psr", "lpi"])
def test_the_same_head_in_another_guise_gives_the_same_map(maps, label):
    plain, other = chi_in_world_axes(maps, "plain"), chi_in_world_axes(maps, label)
    assert np.allclose(plain.affine, other.affine, atol=1e-3)
    a, b = np.asarray(plain.dataobj), np.asarray(other.dataobj)
    both = (a != 0) & (b != 0)
    assert both.sum() > 0.97 * (a != 0).sum()
    assert np.corrcoef(a[both], b[both])[0, 1] > 0.98
    assert np.polyfit(a[both], b[both], 1)[0] == pytest.approx(1, abs=0.03)


def error_against_plain(maps, label):
    """Root mean square of the difference from the plain head's map, over that of the map."""
    plain, other = (np.asarray(chi_in_world_axes(maps, name).dataobj) for name in ("plain", label))
    both = (plain != 0) & (other != 0)
    assert both.sum() > 0.97 * (plain != 0).sum()
    a, b = plain[both] - plain[both].mean(), other[both] - other[both].mean()
    return np.linalg.norm(b - a) / np.linalg.norm(a)


def test_echoes_in_one_file_give_the_map_of_single_files(maps):
    assert error_against_plain(maps, "stack") < 1e-5
    assert "5 echoes in one file, told by a list of EchoTime" in (maps.out / "sub-stack.html").read_text("utf-8")


def test_slices_with_offsets_of_their_own_are_aligned(maps):
    assert error_against_plain(maps, "slices") < 0.05
    page = (maps.out / "sub-slices.html").read_text("utf-8")
    assert "alignment of the phase of slices (2D)" in page
    assert "3D is advised" in page


@pytest.mark.parametrize(("label", "stem"), [("mpm", "sub-mpm_acq-PDwflip1mtoff"), ("func", "sub-func_acq-taskrest")])
def test_mpm_and_the_mean_of_an_epi_series_give_the_map_of_the_same_echoes(maps, label, stem):
    assert error_against_plain(maps, label) < 0.02
    assert (maps.out / f"sub-{label}" / "anat" / f"{stem}_Chimap.nii.gz").is_file()


@pytest.mark.parametrize("label", ["two", "uneven"])
def test_few_or_unevenly_spaced_echoes_are_processed_with_another_relaxation_fit(maps, label):
    plain, other = chi_in_world_axes(maps, "plain"), chi_in_world_axes(maps, label)
    a, b = np.asarray(plain.dataobj), np.asarray(other.dataobj)
    both = (a != 0) & (b != 0)
    assert np.corrcoef(a[both], b[both])[0, 1] > 0.8
    page = (maps.out / f"sub-{label}.html").read_text("utf-8")
    assert "ARLO needs three or more equally spaced echoes" in page


def test_a_single_echo_gives_a_map_without_relaxation_and_says_so(maps):
    anat = maps.out / "sub-single" / "anat"
    assert (anat / "sub-single_Chimap.nii.gz").is_file()
    assert not (anat / "sub-single_R2starmap.nii.gz").exists()
    page = (maps.out / "sub-single.html").read_text("utf-8")
    assert "A single echo: no relaxation map" in page
    assert "phase offset cannot be removed" in page


def test_each_session_is_a_run_of_its_own_in_one_report(maps):
    for session in ("1", "2"):
        found = list((maps.out / "sub-visits").glob(f"ses-*{session}/anat/*_ses-0{session}_Chimap.nii.gz"))
        assert len(found) == 1
    page = (maps.out / "sub-visits.html").read_text("utf-8")
    assert page.count("Dipole inversion: susceptibility") >= 2


def test_what_was_done_to_the_phase_is_recorded(maps):
    def notes(label):
        return (maps.out / f"sub-{label}.html").read_text("utf-8")

    assert "Phase sign inverted" in notes("ge")
    assert "Sign of every second slice" in notes("ge")
    assert "Phase sign kept" in notes("siemens")
    assert "Magnitude and phase computed from real and imaginary parts" in notes("gecomplex")
