"""Maps of several orientations become heads whose label explains the field of every orientation."""

import dataclasses
import json

import numpy as np
import pytest
from documents import facts
from scipy.ndimage import gaussian_filter

from qsmprep.bids.joint_maps import find_joint_maps
from qsmprep.bids.outputs import TENSOR, output_path, write_image, write_json
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.orientation.registration import resample
from qsmprep.orientation.sti import tensor_field, unit_frequencies
from qsmprep.phantom.anatomy import rotation
from qsmprep.phantom.forward import DipoleField
from qsmprep.scan import Scan
from qsmprep.training.joint_heads import joint_heads
from qsmprep.training.joint_pool import label_pool
from qsmprep.training.patches import make_batch
from qsmprep.training.recipe import DataOptions

SHAPE, MHZ = (40, 36, 38), 127.7
TURNS = ((0, 0), (20, 0), (0, -25))


def unet(task="inversion", inputs=("tissue-field",), outputs=("chi",)):
    architecture = UnetSpec(channels_in=len(inputs), channels_out=len(outputs), width=2, levels=2)
    return NetworkSpec("x", task, architecture, tuple(map(Channel, inputs)), tuple(map(Channel, outputs)))


MODL = NetworkSpec(
    "x",
    "inversion",
    UnrolledSpec(kind="modl", width=2, blocks=1),
    (Channel("tissue-field"),),
    (Channel("chi33"), Channel("off-diagonal-field")),
)


def ball(radius=13.0):
    axes = np.ogrid[tuple(slice(-n / 2 + 0.5, n / 2, 1) for n in SHAPE)]
    return sum(x**2 for x in axes) < radius**2


def smooth(seed):
    """Without a step at the mask's edge, so that interpolation keeps it."""
    random = np.random.default_rng(seed)
    image = gaussian_filter(random.standard_normal(SHAPE), 2.0).astype(np.float32)
    return (0.05 * image / image.std() * gaussian_filter(ball(9.0).astype(np.float32), 2.0)).astype(np.float32)


def placed(size):
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -size * (np.array(SHAPE) - 1) / 2
    return affine


def save(folder, key, prefix, image, affine, document=None):
    path = folder / output_path(key, prefix)
    write_image(path, image, affine, mask=key.endswith("mask"))
    write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), document or {})


def save_run(folder, run, field_ppm, mask, affine):
    steps = [{"stage": "input", "facts": facts(centre_frequency=MHZ)}]
    save(folder, "local_field", run, field_ppm * np.float32(MHZ), affine, {"ProcessingSteps": steps})
    save(folder, "qsm_mask", run, mask, affine)


def lying(runs, directions, matrices):
    return {
        "Orientations": list(runs),
        "B0Directions": np.array(directions).tolist(),
        "RegistrationMatrices": np.array(matrices).tolist(),
    }


def turned_head(folder, subject="01", size=2.0, keys=("cosmos",), seed=0):
    """Derivatives of a head that was turned between its runs; returns its susceptibility."""
    mask, affine = ball(), placed(size)
    chi = smooth(seed) * mask
    runs = [f"sub-{subject}_run-{n + 1}" for n in range(len(TURNS))]
    matrices = []
    for run, (x, y) in zip(runs, TURNS, strict=True):
        matrix = np.eye(4)
        matrix[:3, :3] = rotation(1, y) @ rotation(0, x)
        matrices.append(matrix)
        moved = resample(chi, affine, np.linalg.inv(matrix), affine, SHAPE, order=3)
        save_run(folder, run, DipoleField(SHAPE, Scan((size,) * 3))(moved), mask, affine)
    document = lying(runs, [m[2, :3] for m in matrices], matrices)
    images = {"cosmos": chi, "para": np.maximum(chi, 0), "dia": np.maximum(-chi, 0)}
    for key in keys:
        save(folder, key, f"sub-{subject}", images[key], affine, document)
    return chi


@pytest.mark.parametrize("turned", [True, False])
def test_the_label_explains_the_field_of_every_orientation(tmp_path, turned):
    chi = turned_head(tmp_path)
    (session,) = find_joint_maps(tmp_path, "cosmos")
    spec = unet() if turned else dataclasses.replace(MODL, outputs=unet().outputs, architecture=UnrolledSpec("lpcnn"))
    made = list(joint_heads(session, spec))
    assert len(made) == len(TURNS)
    for (volumes, told), (x, y) in zip(made, TURNS, strict=True):
        assert told["voxel_size_mm"] == 2.0 and told["participant"] == "01"
        up = np.cos(np.deg2rad(x)) * np.cos(np.deg2rad(y))
        assert told["b0_direction"][2] == pytest.approx(1.0 if turned else up)
        mask, field, rest = (volumes[name] for name in ("mask", "tissue-field", "noise"))
        assert mask.sum() == pytest.approx(ball().sum(), rel=0.05)
        assert rest[mask].std() < 0.05 * field[mask].std()
        assert volumes["chi"][mask].std() == pytest.approx(chi[ball()].std(), rel=0.06)


def test_an_orientation_that_was_not_moved_keeps_its_numbers(tmp_path):
    turned_head(tmp_path)
    (session,) = find_joint_maps(tmp_path, "cosmos")
    volumes, _ = next(joint_heads(session, unet()))
    measured = volumes["tissue-field"] + volumes["noise"]
    own = DipoleField(SHAPE, Scan((2.0,) * 3))(smooth(0) * ball())
    peaks = [np.argwhere(image == image.max())[0] for image in (volumes["chi"], smooth(0) * ball())]
    places = np.argwhere(volumes["mask"])
    there = places + peaks[1] - peaks[0]
    assert np.abs(measured[tuple(places.T)] - own[tuple(there.T)]).max() < 1e-4 * np.abs(own).max()


def test_a_tensor_gives_each_orientation_its_own_element_along_b0(tmp_path):
    mask, affine, size = ball(), placed(2.0), (2.0,) * 3
    tensor = np.stack([smooth(seed) * mask for seed in range(6)])
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.standard_normal((3, 3)))[0]
    directions = random.standard_normal((6, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    runs = [f"sub-01_run-{n + 1}" for n in range(6)]
    wide = tuple(2 * n for n in SHAPE)
    inner = tuple(slice(0, n) for n in SHAPE)
    spectra = [rfftn(np.pad(part, [(0, n) for n in SHAPE])) for part in tensor]
    full = np.empty((*SHAPE, 3, 3))
    for part, (m, n) in zip(tensor, ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)), strict=True):
        full[..., m, n] = full[..., n, m] = part
    for run, b in zip(runs, directions, strict=True):
        field = irfftn(tensor_field(spectra, b, unit_frequencies(wide, size)), wide)[inner]
        save_run(tmp_path, run, np.ascontiguousarray(field, np.float32), mask, affine)
    document = {**lying(runs, directions, [np.eye(4)] * 6), "TensorAxes": axes.tolist()}
    rotated = axes @ full @ axes.T
    for key in TENSOR:
        save(tmp_path, key, "sub-01", rotated[..., int(key[3]) - 1, int(key[4]) - 1], affine, document)
    (session,) = find_joint_maps(tmp_path, "sti")
    for (volumes, _), b in zip(joint_heads(session, MODL), directions, strict=True):
        inside = volumes["mask"]
        along = np.einsum("m,...mn,n", b, full, b)[mask]
        assert np.abs(np.sort(volumes["chi"][inside]) - np.sort(along)).max() < 1e-4
        # The cuboid's kernel stands against that of the continuous formula, by which the field was made here.
        assert volumes["noise"][inside].std() < 0.2 * volumes["tissue-field"][inside].std()
        assert volumes["off-diagonal-field"][inside].std() > 0.1 * volumes["tissue-field"][inside].std()


def test_sources_come_with_the_map_and_the_rates_of_each_orientation(tmp_path):
    chi = turned_head(tmp_path, keys=("para", "dia"))
    for run in ("sub-01_run-1", "sub-01_run-2", "sub-01_run-3"):
        save(tmp_path, "chi", run, chi + np.float32(0.3), placed(2.0))
        save(tmp_path, "r2star", run, np.full(SHAPE, 30.0, np.float32), placed(2.0))
    spec = unet("separation", ("chi", "tissue-field", "r2star"), ("chi-para", "chi-dia"))
    labels = label_pool(tmp_path / "heads", [tmp_path], spec)
    head = labels.training[0]
    mask = np.asarray(head.volume("mask"))
    assert np.median(head.volume("r2star")[mask]) == pytest.approx(30 / 113.97, rel=0.01)
    found = head.volume("chi-found").astype(np.float32)[mask]
    assert found.mean() == pytest.approx(head.volume("chi").astype(np.float32)[mask].mean(), abs=1e-3)
    batch = make_batch(spec, DataOptions(heads=0, shapes=0.0, patch=32), labels.training, 2, (0, 0, 0))
    assert np.isfinite(batch.inputs.numpy()).all() and float(batch.labels.abs().max()) > 0.05


def test_measured_noise_is_as_strong_as_it_was(tmp_path):
    turned_head(tmp_path)
    labels = label_pool(tmp_path / "heads", [tmp_path], unet())
    head = labels.training[0]
    data = DataOptions(heads=0, shapes=0.0, patch=32, smallest_scale=1.0, largest_scale=1.0, foreground=0.2)
    batch = make_batch(unet(), data, (head,), 6, (0, 0, 1))
    total = head.volume("tissue-field").astype(np.float32) + head.volume("noise")
    largest = np.abs(total).max()
    assert 0.5 * largest < float(batch.inputs.abs().max()) <= 1.001 * largest


def test_the_last_participant_is_held_out_unless_others_are_named(tmp_path):
    for n in (1, 2, 3):
        turned_head(tmp_path / "a", f"0{n}", seed=n)
    labels = label_pool(tmp_path / "heads", [tmp_path / "a"], unet())
    assert labels.facts["participants"] == ["01", "02"] and labels.facts["validation participants"] == ["03"]
    assert len(labels.training) == 6 and len(labels.validation) == 3
    assert labels.facts["orientations"] == {"01": 3, "02": 3, "03": 3}
    assert len(labels.facts["sha256"]) == 3 * (1 + 3 * 2)
    other = label_pool(tmp_path / "heads", [tmp_path / "a"], unet(), validation=["sub-01"])
    assert other.facts["participants"] == ["02", "03"] and other.digest != labels.digest
    with pytest.raises(ValueError, match="01, 02, 03"):
        label_pool(tmp_path / "heads", [tmp_path / "a"], unet(), validation=["9"])
    with pytest.raises(ValueError, match="no one to train on"):
        label_pool(tmp_path / "heads", [tmp_path / "a"], unet(), validation=["01", "02", "03"])


def test_labels_of_different_voxels_are_refused_by_the_names_of_their_files(tmp_path):
    turned_head(tmp_path / "a", "01", size=2.0)
    turned_head(tmp_path / "b", "02", size=3.0)
    with pytest.raises(ValueError, match=r"sub-01_desc-cosmos.*2 mm.*sub-02_desc-cosmos.*3 mm"):
        label_pool(tmp_path / "heads", [tmp_path / "a", tmp_path / "b"], unet())
    with pytest.raises(ValueError, match=r"sub-01_desc-cosmos.*heads = 0"):
        label_pool(tmp_path / "heads", [tmp_path / "a"], unet(), simulated=8)


def test_what_is_missing_is_named(tmp_path):
    turned_head(tmp_path)
    with pytest.raises(ValueError, match="--multi-orientation sti"):
        label_pool(tmp_path / "heads", [tmp_path], MODL)
    with pytest.raises(ValueError, match="no map of several orientations is a label for background"):
        label_pool(tmp_path / "heads", [tmp_path], unet("background", ("total-field",), ("tissue-field",)))
    field = tmp_path / output_path("local_field", "sub-01_run-2")
    field.rename(field.with_name("away.nii.gz"))
    with pytest.raises(ValueError, match="run-2_desc-local_fieldmap"):
        label_pool(tmp_path / "heads", [tmp_path], unet())


def test_a_map_of_one_orientation_is_no_label(tmp_path):
    turned_head(tmp_path, keys=("para", "dia"))
    path = tmp_path / "sub-01" / "anat" / "sub-01_desc-paramagnetic_Chimap.json"
    path.write_text(json.dumps({"Units": "ppm"}), "utf-8")
    assert find_joint_maps(tmp_path, "chisep-cosmos") == ()


def test_the_field_of_a_map_is_that_of_the_dipole():
    # What the heads rest on: cubic voxels of any size have one kernel.
    for kind in ("integrated", "discrete", "greens"):
        a, b = (dipole_kernel((12, 12, 12), (h, h, h), (0.3, 0.2, 0.9), kind=kind) for h in (1.0, 2.5))
        assert np.allclose(a, b, atol=1e-5)
