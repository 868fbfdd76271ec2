"""`qsmprep-tools template` with a stand-in for ANTs that moves brains by their centre of mass alone."""

import json
import sys
import types

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from qsmprep.analysis.template import Moments, centred, common_grid, extent_of
from qsmprep.cli.template import find_subjects
from qsmprep.cli.tools import main

SHAPE, VOXEL = (14, 16, 12), 5.0


class Image:
    """What the program needs of an image of ANTs."""

    def __init__(self, array, affine):
        self.array, self.affine = np.asarray(array, np.float32), affine

    def numpy(self):
        return self.array

    def __mul__(self, factor):
        return Image(self.array * factor, self.affine)

    def __add__(self, other):
        return Image(self.array + other.array, self.affine)


def image_read(path):
    image = nib.load(path)
    return Image(image.get_fdata(), image.affine)


def centre(image):
    return np.array(extent_of(image.array > 0.05, image.affine).centre_mm)


@pytest.fixture
def ants(monkeypatch):
    """The stand-in, which writes down what it was asked for."""
    asked = []

    def registration(fixed, moving, type_of_transform, outprefix, **extras):
        asked.append((type_of_transform, sorted(extras)))
        affine = f"{outprefix}affine.json"
        with open(affine, "w") as stream:
            json.dump((centre(moving) - centre(fixed)).tolist(), stream)
        if type_of_transform.endswith("[a]"):
            return {"fwdtransforms": [affine]}
        warp = f"{outprefix}warp.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros(fixed.array.shape, np.float32), fixed.affine), warp)
        return {"fwdtransforms": [warp, affine]}

    def apply_transforms(fixed, moving, transformlist, interpolator="linear", imagetype=0, whichtoinvert=None):
        from scipy.ndimage import affine_transform

        move = np.eye(4)
        for i, name in enumerate(transformlist):
            if name.endswith(".json"):
                with open(name) as stream:
                    move[:3, 3] += np.array(json.load(stream)) * (-1 if whichtoinvert and whichtoinvert[i] else 1)
        matrix = np.linalg.inv(moving.affine) @ move @ fixed.affine
        return Image(
            affine_transform(moving.array, matrix[:3, :3], matrix[:3, 3], output_shape=fixed.array.shape, order=1),
            fixed.affine,
        )

    def average_affine_transform_no_rigid(names):
        return [0.0, 0.0, 0.0]

    def write_transform(transform, name):
        with open(name, "w") as stream:
            json.dump(transform, stream)

    module = types.ModuleType("ants")
    module.__version__ = "stand-in"
    module.image_read, module.registration, module.apply_transforms = image_read, registration, apply_transforms
    module.image_write = lambda image, name: nib.save(nib.Nifti1Image(image.array, image.affine), name)
    module.average_affine_transform_no_rigid = average_affine_transform_no_rigid
    # The mean transform is a file like the others of the stand-in, whatever its name.
    module.write_transform = write_transform
    module.iMath = lambda image, what: image
    monkeypatch.setitem(sys.modules, "ants", module)
    module.asked = asked
    return module


@pytest.fixture
def results(tmp_path):
    """Three subjects with one brain in three places; susceptibility differs by a constant, one mask is smaller."""
    place = (np.indices(SHAPE) - np.array([6.5, 7.5, 5.5])[:, None, None, None]) * VOXEL
    brain = ((place / np.array([22.0, 27.0, 20.0])[:, None, None, None]) ** 2).sum(axis=0) < 1
    for i in range(3):
        affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
        affine[:3, 3] = [-30 + 15 * i, -40 - 5 * i, 7 * i]
        mask = brain & (place[2] < 5) if i == 2 else brain
        write(tmp_path / "out", f"0{i + 1}", brain, mask, affine, 0.02 * i)
    return tmp_path / "out"


def write(out, label, brain, mask, affine, chi, session=""):
    run = f"sub-{label}{session and '_' + session}"
    folder = out / f"sub-{label}" / session
    volumes = {
        "anat/{}_Chimap": np.where(mask, chi, 0), "anat/{}_desc-brain_mask": brain, "anat/{}_desc-qsm_mask": mask,
        "fmap/{}_magnitude": 100.0 * (1 + 5 * chi) * (brain + 0.3), "anat/{}_desc-medi_Chimap": brain,
    }  # fmt: skip
    for name, volume in volumes.items():
        path = folder / f"{name.format(run)}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), path)
    return folder / "anat" / f"{run}_qc.json"


def load(folder, name):
    return nib.load(folder / f"tpl-study_{name}.nii.gz").get_fdata()


def test_mean_deviation_and_count_over_subjects(results, ants, tmp_path, capsys):
    assert main(["template", str(results), str(tmp_path / "t"), "--iterations", "2"]) == 0
    mean, sd, count = (load(tmp_path / "t", f"desc-{name}_Chimap") for name in ("mean", "sd", "count"))
    assert set(np.unique(count)) == {0, 2, 3}
    # 0, 0.02 and 0.04 where all three count; 0 and 0.02 where the third's mask is missing.
    assert mean[count == 3] == pytest.approx(0.02, abs=1e-6) and sd[count == 3] == pytest.approx(0.02, abs=1e-6)
    assert mean[count == 2] == pytest.approx(0.01, abs=1e-6) and sd[count == 2] == pytest.approx(
        0.02 / 2**0.5, abs=1e-6
    )
    assert not mean[count == 0].any()
    # Each magnitude was divided by its median, so that gain does not matter, and the head around the brain is gone.
    inside = binary_erosion(count >= 2, iterations=2)
    assert inside.any() and load(tmp_path / "t", "magnitude")[inside] == pytest.approx(1, abs=1e-5)
    # The first iteration is affine, the second affine and SyN, with susceptibility beside the magnitude.
    kinds = [kind for kind, _ in ants.asked]
    assert kinds == ["antsRegistrationSyNRepro[a]"] * 3 + ["antsRegistrationSyNRepro[s]"] * 3
    assert all((extras == ["multivariate_extras"]) == kind.endswith("[s]") for kind, extras in ants.asked)
    assert "Template of 3 subjects" in capsys.readouterr().out


def test_the_list_of_inputs_names_files_that_exist(results, ants, tmp_path):
    assert (
        main(
            [
                "template",
                str(results),
                str(tmp_path / "t"),
                "--iterations",
                "1",
                "--quick",
                "--participants",
                "sub-01",
                "03",
            ]
        )
        == 0
    )
    document = json.loads((tmp_path / "t" / "tpl-study_template.json").read_text())
    assert [line["participant_id"] for line in document["Inputs"]] == ["sub-01", "sub-03"]
    for line in document["Inputs"]:
        assert all((results / line[key]).is_file() for key in ("chi", "magnitude", "mask", "brain"))
    assert document["Iterations"] == 1 and document["VoxelSize"] == VOXEL and document["ANTsPyVersion"] == "stand-in"
    assert ants.asked[0][0] == "antsRegistrationSyNQuickRepro[s]"
    assert json.loads((tmp_path / "t" / "tpl-study_desc-mean_Chimap.json").read_text())["Units"] == "ppm"


def test_a_subject_counts_once_and_bad_runs_do_not(results, ants, tmp_path, capsys):
    brain = np.ones(SHAPE, bool)
    quality = write(results, "04", brain, brain, np.eye(4), 0.5)
    quality.write_text('{"verdict": "do not use"}')
    write(results, "05", brain, brain, np.diag([5.0, 5, 5, 1]), 0.01, "ses-1").write_text("{broken")
    write(results, "05", brain, brain, np.diag([5.0, 5, 5, 1]), 0.01, "ses-2")
    assert main(["template", str(results), str(tmp_path / "t"), "--iterations", "1"]) == 0
    document = json.loads((tmp_path / "t" / "tpl-study_template.json").read_text())
    assert [line["run"] for line in document["Inputs"]] == ["sub-01", "sub-02", "sub-03", "sub-05_ses-1"]
    assert document["LeftOut"] == ['sub-04: judged "do not use"', "sub-05_ses-2: a further run of sub-05"]
    assert "Left out: sub-04" in capsys.readouterr().out


def test_without_ants_it_says_what_to_install(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ants", None)
    assert main(["template", str(results), str(tmp_path / "t")]) == 2
    assert 'pip install "qsmprep[atlas]"' in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--participants", "nobody"], "no susceptibility map of sub-nobody"),
        (["--participants", "01"], "a template needs two"),
        (["--iterations", "0"], "must be 1 or more"),
        (["--voxel-size", "50"], "give 0.3 to 5"),
    ],
)
def test_what_makes_no_sense_is_refused(results, ants, tmp_path, capsys, words, said):
    assert main(["template", str(results), str(tmp_path / "t"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_file_is_named(results, ants, tmp_path, capsys):
    (results / "sub-02" / "fmap" / "sub-02_magnitude.nii.gz").unlink()
    assert main(["template", str(results), str(tmp_path / "t")]) == 2
    assert "sub-02_magnitude.nii.gz: missing" in capsys.readouterr().err


def test_brains_come_to_lie_in_one_place_whatever_their_grids():
    rng = np.random.default_rng(0)
    extents, volumes = [], []
    for size in (2.0, 3.0):
        n = int(90 / size)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = turn * size
        affine[:3, 3] = rng.normal(0, 50, 3)
        middle = affine[:3, :3] @ np.full(3, n / 2) + affine[:3, 3]
        world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices((n, n, n))) + affine[:3, 3, None, None, None]
        ball = ((world - middle[:, None, None, None]) ** 2).sum(axis=0) < 30**2
        extents.append(extent_of(ball, affine))
        volumes.append((ball.astype(np.float32), affine))
    shape, grid = common_grid(extents, 4.0)
    placed = [
        centred(volume, affine, extent, shape, grid) for (volume, affine), extent in zip(volumes, extents, strict=True)
    ]
    assert shape[0] * 4 >= 80 and grid[:3, 3] == pytest.approx(-4.0 * (np.array(shape) - 1) / 2)
    assert np.abs(placed[0] - placed[1]).mean() < 0.02 and placed[0].sum() == pytest.approx(placed[1].sum(), rel=0.04)


def test_moments_ignore_voxels_outside_the_mask():
    moments = Moments((1, 1, 3))
    for value in (1.0, 3.0):
        weight = np.array([[[1.0, 0.8, 0.3]]])
        moments.add(value * weight, weight)
    assert moments.count.ravel().tolist() == [2, 2, 0]
    assert moments.mean.ravel() == pytest.approx([2, 2, 0]) and moments.sd.ravel() == pytest.approx([2**0.5, 2**0.5, 0])


def test_maps_that_lie_in_a_template_already_are_left_aside(tmp_path):
    for label in ("01", "02"):
        for name in ("anat/sub-{}_Chimap", "anat/sub-{}_space-MNI152NLin2009cAsym_Chimap", "fmap/sub-{}_magnitude",
                     "anat/sub-{}_desc-qsm_mask", "anat/sub-{}_desc-brain_mask"):  # fmt: skip
            path = tmp_path / f"sub-{label}" / f"{name.format(label)}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    subjects, left_out = find_subjects(tmp_path)
    assert [subject.run for subject in subjects] == ["sub-01", "sub-02"]
    assert not left_out
