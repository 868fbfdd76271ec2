"""Which segmentations belong to a run, and what is said of those that cannot be used."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep import settings
from qsmprep.app.regions import ANTS_MISSING, check_atlases, plan_regions
from qsmprep.bids.query import find_runs
from qsmprep.bids.segmentation import read_table
from qsmprep.cli.parser import parse

GRID = np.diag([-1.0, 1.0, 2.0, 1.0])
OTHER = np.diag([-2.0, 2.0, 2.0, 1.0])
LABELS = np.zeros((6, 7, 5), np.int16)
LABELS[2:4, 2:4, 2:4], LABELS[4, 4, 4] = 10, 49


def write(path, labels=LABELS, affine=GRID, table=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.MGHImage(labels.astype(np.int32), affine) if path.suffix == ".mgz" else nib.Nifti1Image(labels, affine)
    if path.suffix != ".mgz":
        image.set_sform(affine, 1)
    nib.save(image, path)
    if table is not None:
        path.with_name(path.name.partition(".")[0] + ".tsv").write_text(table)
    return path


def plan(dataset, *words, run=0):
    request, chosen = parse([str(dataset.folder), str(dataset.folder.parent / "out"), "participant", *words])
    return plan_regions(find_runs(dataset.folder).runs[run], request, chosen)


def derivative(tmp_path, name="seg"):
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def test_a_bids_segmentation_with_its_table_is_taken_as_it_is(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(
        folder / "sub-01/anat/sub-01_desc-mine_dseg.nii.gz",
        table="index\tname\n0\tnothing\n10\tleft\n49\tright\n60\tno\n",
    )
    found = plan(dataset, "--derivatives", f"seg={folder}")
    (item,) = found.segmentations
    assert (item.label, item.placement) == ("seg-mine", "grid")
    assert item.names == {10: "left", 49: "right", 60: "no"}
    assert not found.warnings
    assert "sub-01_desc-mine_dseg.tsv" in found.notes[0].text


def test_a_table_above_the_image_holds_for_it(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz")
    (folder / "desc-aseg_dseg.tsv").write_text("index\tname\n10\tA\n49\tB\n")
    (folder / "desc-other_dseg.tsv").write_text("index\tname\n10\tC\n49\tD\n")
    assert plan(dataset, "--derivatives", f"seg={folder}").segmentations[0].names == {10: "A", 49: "B"}


def test_without_a_table_labels_bear_their_numbers_and_the_remedy_is_told(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / "sub-01/anat/sub-01_dseg.nii.gz")
    found = plan(dataset, "--derivatives", f"seg={folder}")
    assert found.segmentations[0].names == {10: "10", 49: "49"}
    assert "add sub-01_dseg.tsv" in found.notes[0].text


@pytest.mark.parametrize(
    ("name", "file", "label"),
    [
        ("freesurfer", "sub-01/mri/aseg.mgz", "freesurfer-aseg"),
        ("fastsurfer", "sub-01/mri/aparc.DKTatlas+aseg.deep.mgz", "fastsurfer-aparc.DKTatlas+aseg.deep"),
        ("fastsurfer", "sub-01/mri/aseg.auto_noCCseg.mgz", "fastsurfer-aseg.auto_noCCseg"),
        ("synthseg", "sub-01/anat/sub-01_T1w_synthseg.nii.gz", "synthseg-T1w-synthseg"),
        ("x", "sub-01_synthseg.nii.gz", "x-synthseg"),
    ],
)
def test_layouts_of_freesurfer_fastsurfer_and_synthseg_bear_freesurfers_names(dataset, tmp_path, name, file, label):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / file)
    (item,) = plan(dataset, "--derivatives", f"{name}={folder}").segmentations
    assert item.label == label
    assert item.names == {10: "Left-Thalamus", 49: "Right-Thalamus"}


def test_every_segmentation_found_is_used(dataset, tmp_path):
    dataset.add_run()
    first, second = derivative(tmp_path, "a"), derivative(tmp_path, "b")
    write(first / "sub-01/mri/aseg.mgz")
    write(first / "sub-01/mri/aparc.DKTatlas+aseg.deep.mgz")
    write(second / "sub-01/anat/sub-01_desc-x_dseg.nii.gz")
    write(second / "sub-01/anat/sub-01_space-MNI152NLin2009cAsym_dseg.nii.gz")
    found = plan(dataset, "--derivatives", f"fs={first}", f"b={second}")
    assert [item.label for item in found.segmentations] == ["fs-aseg", "fs-aparc.DKTatlas+aseg.deep", "b-x"]
    assert not found.warnings


def test_another_grid_goes_through_the_affines_and_with_a_t1w_image_through_its_registration(dataset, tmp_path):
    dataset.add_run(entities="acq-gre")
    folder = derivative(tmp_path)
    write(folder / "sub-01/mri/aseg.mgz", affine=OTHER)
    words = ("--derivatives", f"fs={folder}")
    found = plan(dataset, *words)
    assert (found.segmentations[0].placement, found.t1w) == ("scanner", None)
    t1w = dataset.write_image("sub-01/anat/sub-01_acq-mprage_T1w.nii.gz", dataset.values("mag", (6, 7, 5)))
    found = plan(dataset, *words)
    assert (found.segmentations[0].placement, found.t1w) == ("t1w", t1w)
    assert found.needs_t1w
    assert not plan(dataset, *words, "--no-roi-registration").needs_t1w
    write(folder / "sub-01/mri/aseg.mgz", affine=GRID)
    assert not plan(dataset, *words).needs_t1w


def test_a_segmentation_of_the_gradient_echoes_never_goes_through_the_t1w_image(dataset, tmp_path):
    dataset.add_run()
    dataset.write_image("sub-01/anat/sub-01_T1w.nii.gz", dataset.values("mag", (6, 7, 5)))
    folder = derivative(tmp_path)
    write(folder / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE_synthseg.nii.gz", affine=OTHER)
    path = write(folder / "sub-01/anat/sub-01_desc-gre_dseg.nii.gz", affine=OTHER)
    path.with_name("sub-01_desc-gre_dseg.json").write_text(
        '{"SpatialReference": "bids:raw:sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz"}'
    )
    found = plan(dataset, "--derivatives", f"seg={folder}")
    assert [item.placement for item in found.segmentations] == ["scanner", "scanner"]


def test_segmentations_of_the_session_are_taken_whatever_the_acq_of_the_t1w_image(dataset, tmp_path):
    dataset.add_run(session="1", entities="acq-gre")
    dataset.write_image("sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_T1w.nii.gz", dataset.values("mag", (6, 7, 5)))
    folder = derivative(tmp_path)
    write(folder / "sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_dseg.nii.gz", affine=OTHER)
    found = plan(dataset, "--derivatives", f"seg={folder}")
    assert [item.placement for item in found.segmentations] == ["t1w"]


def test_of_several_runs_each_gets_its_own(dataset, tmp_path):
    dataset.add_run(entities="run-1")
    dataset.add_run(entities="run-2")
    folder = derivative(tmp_path)
    for number in (1, 2):
        write(folder / f"sub-01/anat/sub-01_run-{number}_desc-x_dseg.nii.gz")
    for run, number in ((0, 1), (1, 2)):
        (item,) = plan(dataset, "--derivatives", f"seg={folder}", run=run).segmentations
        assert f"run-{number}" in item.path.name
    (folder / "sub-01/anat/sub-01_run-2_desc-x_dseg.nii.gz").unlink()
    found = plan(dataset, "--derivatives", f"seg={folder}", run=1)
    assert not found.segmentations
    assert "contradicts" in found.warnings[0].text


def test_of_freesurfer_the_session_comes_before_the_person(dataset, tmp_path):
    dataset.add_run(session="2")
    folder = derivative(tmp_path)
    write(folder / "sub-01/mri/aseg.mgz")
    found = plan(dataset, "--derivatives", f"freesurfer={folder}")
    assert "names no session" in found.notes[0].text
    write(folder / "sub-01_ses-2/mri/aseg.mgz")
    (item,) = plan(dataset, "--derivatives", f"freesurfer={folder}").segmentations
    assert "sub-01_ses-2" in str(item.path)


@pytest.mark.parametrize(
    "file", ["sub-01_ses-1/mri/aseg.mgz", "sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz", "sub-01_ses-1_synthseg.nii.gz"]
)
def test_one_of_another_session_is_not_used_and_told(dataset, tmp_path, file):
    dataset.add_run(session="2")
    folder = derivative(tmp_path)
    write(folder / file)
    found = plan(dataset, "--derivatives", f"freesurfer={folder}")
    assert not found.segmentations
    (warning,) = found.warnings
    assert str(folder) in str(warning)
    assert "sub-01_ses-2" in str(warning)
    assert "ses-1" in str(warning)
    assert "Segment this session" in str(warning)


def test_a_subject_without_segmentation_is_told_unless_the_derivative_is_one_of_masks(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / "sub-02/mri/aseg.mgz")
    (warning,) = plan(dataset, "--derivatives", f"freesurfer={folder}").warnings
    assert f"{folder}: no segmentation of sub-01" in str(warning)
    write(folder / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    assert not plan(dataset, "--derivatives", f"manual={folder}").warnings


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda labels: labels + np.float32(0.5), ("0.5 is no label", "nearest neighbour")),
        (lambda labels: np.where(labels, np.inf, 0).astype(np.float32), ("inf is no label",)),
        (lambda labels: np.where(labels, np.nan, 0).astype(np.float32), ("no voxel has a label",)),
        (lambda labels: np.stack([labels] * 3, axis=-1), ("6 x 7 x 5 x 3 voxels", "one volume")),
        (lambda labels: -labels, ("labels from -49 to 0",)),
        (lambda labels: labels * 0, ("no voxel has a label",)),
    ],
)
def test_what_is_no_label_image_is_left_out_with_a_warning(dataset, tmp_path, spoil, words):
    dataset.add_run()
    folder = derivative(tmp_path)
    path = write(folder / "sub-01/anat/sub-01_dseg.nii.gz", spoil(LABELS))
    found = plan(dataset, "--derivatives", f"seg={folder}")
    assert not found.segmentations
    assert str(path) in found.warnings[0].text
    assert all(word in str(found.warnings[0]) for word in words)
    with pytest.raises(ValueError, match=words[0]):  # what the user names himself is an error
        plan(dataset, "--segmentation-file", str(path))


def test_a_damaged_file_and_a_bad_table_are_told_by_name(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    path = write(folder / "sub-01/anat/sub-01_dseg.nii.gz", table="index\tname\n10\tA\n10\tB\n")
    (warning,) = plan(dataset, "--derivatives", f"seg={folder}").warnings
    assert "sub-01_dseg.tsv: the index 10 stands for A and B; keep one line" in str(warning)
    for table in ("number\tname\n1\tA\n", "index\tname\n1.5\tA\n", "index\tname\nx\tA\n", "index\n1\n"):
        path.with_name("sub-01_dseg.tsv").write_text(table)
        assert "needs the columns index" in plan(dataset, "--derivatives", f"seg={folder}").warnings[0].text
    path.write_bytes(b"nothing")
    assert f"{path}: not a readable label image" in plan(dataset, "--derivatives", f"seg={folder}").warnings[0].text


def test_the_same_line_twice_is_no_contradiction(tmp_path):
    (tmp_path / "t.tsv").write_text("index\tname\n1\tA\n1\tA\n2.0\tB\n")
    assert read_table(tmp_path / "t.tsv") == {1: "A", 2: "B"}


def test_one_whose_header_does_not_say_how_it_lies_is_left_out_unless_on_the_grid(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    path = write(folder / "sub-01/anat/sub-01_dseg.nii.gz", affine=OTHER)
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), OTHER)
    image.set_sform(OTHER, 0)
    image.set_qform(OTHER, 0)
    nib.save(image, path)
    found = plan(dataset, "--derivatives", f"seg={folder}")
    assert "does not say how the image lies" in found.warnings[0].text


def test_two_segmentations_never_write_one_file(dataset, tmp_path):
    dataset.add_run()
    first, second = derivative(tmp_path, "a"), derivative(tmp_path, "b")
    for folder in (first, second):
        write(folder / "sub-01/anat/sub-01_desc-x_dseg.nii.gz")
    with pytest.raises(ValueError, match="other names"):
        plan(dataset, "--derivatives", f"seg={first}", f"SEG={second}")


def test_regional_values_can_be_switched_off(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / "sub-01/anat/sub-01_dseg.nii.gz")
    assert not plan(dataset, "--derivatives", f"seg={folder}", "--no-roi").segmentations
    assert settings.build({"roi": {"erosion": 2}}).steps["roi"].erosion == 2
    with pytest.raises(ValueError, match="erosion"):
        settings.build({"roi": {"erosion": -1}})


def atlas_files(tmp_path, dataset):
    image = write(tmp_path / "nuclei.nii.gz", table="index\tname\n10\tleft\n49\tright\n")
    template = dataset.write_image("../template.nii.gz", dataset.values("mag", (6, 7, 5)))
    return [str(image), str(tmp_path / "nuclei.tsv"), str(template)]


def test_an_atlas_without_ants_is_refused_before_anything_runs(dataset, tmp_path, monkeypatch):
    from qsmprep.app import regions

    monkeypatch.setattr(regions, "find_spec", lambda name: None)
    request, _ = parse([str(dataset.folder), "out", "participant", "--atlas", *atlas_files(tmp_path, dataset)])
    with pytest.raises(ValueError, match=r"pip install qsmprep\[atlas\]") as error:
        check_atlases(request)
    assert str(error.value) == ANTS_MISSING


def test_an_atlas_is_checked_and_planned(dataset, tmp_path, monkeypatch):
    import sys
    import types

    monkeypatch.setitem(sys.modules, "ants", types.ModuleType("ants"))
    dataset.add_run()
    files = atlas_files(tmp_path, dataset)
    found = plan(dataset, "--atlas", *files)
    (atlas,) = found.atlases
    assert (atlas.label, atlas.names) == ("atlas-nuclei", {10: "left", 49: "right"})
    assert not found.needs_t1w
    t1w = dataset.write_image("sub-01/anat/sub-01_T1w.nii.gz", dataset.values("mag", (6, 7, 5)))
    assert plan(dataset, "--atlas", *files).t1w == t1w
    for spoilt, match in ((0, "no such file"), (1, "no such file"), (2, "no such file")):
        words = [str(tmp_path / "none.nii") if number == spoilt else word for number, word in enumerate(files)]
        request, _ = parse([str(dataset.folder), "out", "participant", "--atlas", *words])
        with pytest.raises(ValueError, match=match):
            check_atlases(request)
    assert Path(files[0]).is_file()


def test_of_several_t1w_images_one_is_used_and_the_filter_chooses(dataset, tmp_path):
    dataset.add_run()
    folder = derivative(tmp_path)
    write(folder / "sub-01/mri/aseg.mgz", affine=OTHER)
    for name in ("acq-a", "acq-b"):
        dataset.write_image(f"sub-01/anat/sub-01_{name}_T1w.nii.gz", dataset.values("mag", (6, 7, 5)))
    words = ("--derivatives", f"fs={folder}")
    found = plan(dataset, *words)
    assert found.t1w.name == "sub-01_acq-a_T1w.nii.gz"
    assert "Of 2 T1w images" in found.notes[0].text
    chosen = tmp_path / "filter.json"
    chosen.write_text('{"t1w": {"acquisition": "b"}}')
    assert plan(dataset, *words, "--bids-filter-file", str(chosen)).t1w.name == "sub-01_acq-b_T1w.nii.gz"
    chosen.write_text('{"t1w": {"colour": "b"}}')
    with pytest.raises(ValueError, match="'colour' is not known"):
        plan(dataset, *words, "--bids-filter-file", str(chosen))


def test_the_own_template_stands_in_for_a_segmentation_unless_told_otherwise(dataset, tmp_path, monkeypatch):
    dataset.add_run()
    monkeypatch.setattr("qsmprep.app.regions.LARGEST_VOXEL_MM3", 1e6)
    monkeypatch.setattr("qsmprep.app.regions.LONGEST_EDGE_MM", 100.0)
    assert plan(dataset).template.label == "template"
    assert any("own template" in note.text for note in plan(dataset).notes)
    assert plan(dataset, "--roi-template", "none").template is None
    folder = derivative(tmp_path)
    write(folder / "sub-01/anat/sub-01_desc-mine_dseg.nii.gz")
    assert plan(dataset, "--derivatives", f"seg={folder}").template is None
    assert plan(dataset, "--derivatives", f"seg={folder}", "--roi-template", "always").template is not None


def test_of_coarse_voxels_the_template_is_not_registered_and_it_is_told(dataset, monkeypatch):
    dataset.add_run()
    monkeypatch.setattr("qsmprep.app.regions.LARGEST_VOXEL_MM3", 1e-3)
    found = plan(dataset)
    assert found.template is None
    assert [note.code for note in found.notes] == ["template-unused"]
