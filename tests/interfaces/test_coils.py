"""The node that combines coils: every form of the files gives the same images."""

import json

import nibabel as nib
import numpy as np
import pytest

from qsmprep.interfaces.coils import CombineCoils
from qsmprep.interfaces.phase import PreparePhase
from qsmprep.phase.sign import remove_slice_alternation

SHAPE, COILS, TIMES = (26, 28, 24), 3, [0.005, 0.010]


@pytest.fixture(scope="module")
def signal():
    """Complex images (n_coil, n_echo, ...) of a ball in a field gradient, seen by coils of different phase."""
    x, y, z = np.meshgrid(*[np.arange(n) - n // 2 for n in SHAPE], indexing="ij")
    ball = x**2 + y**2 + z**2 < 110
    random = np.random.default_rng(0)
    found = []
    for coil in range(COILS):
        seen = (
            100 / (1 + ((x - 8 * coil + 8) ** 2 + y**2) / 200) * np.exp(1j * (0.1 * (coil - 1) * y + coil + 0.05 * z))
        )
        found.append([ball * seen * np.exp(-20 * t + 2j * np.pi * t * (2 * x + 5)) for t in TIMES])
    noise = random.normal(size=(2, COILS, 2, *SHAPE))
    return np.array(found) + noise[0] + 1j * noise[1]


def stored(values, kind):
    """A part as a scanner stores it, with the header's slope."""
    if kind == "phase":
        return np.round(np.angle(values) / np.pi * 4095).astype(np.int16)
    return {"magnitude": np.abs, "real": np.real, "imaginary": np.imag}[kind](values).astype(np.float32)


def save(path, values):
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), path)
    return str(path)


def files(folder, signal, form, parts):
    found = {}
    for part in parts:
        values = stored(signal, part)
        if form == "file a coil":
            found[f"{part}_files"] = [
                save(folder / f"{part}{e}{c}.nii.gz", values[c, e]) for e in range(2) for c in range(COILS)
            ]
        else:
            four = [np.moveaxis(values[:, e], 0, -1) for e in range(2)]
            four = [image[..., None, :] for image in four] if form == "fifth axis" else four
            ending = "nii" if form == "uncompressed" else "nii.gz"
            found[f"{part}_files"] = [save(folder / f"{part}{e}.{ending}", four[e]) for e in range(2)]
    return found


def combined(folder, monkeypatch, signal, form="last axis", parts=("magnitude", "phase"), **inputs):
    monkeypatch.chdir(folder)
    inputs = files(folder, signal, form, parts) | inputs
    node = CombineCoils(method="aspire", n_coils=COILS, echo_times=TIMES, units="arbitrary", **inputs)
    outputs = node.run().outputs
    record = json.loads((folder / "step.json").read_text("utf-8"))["record"]
    images = [
        [nib.load(path).get_fdata() for path in paths] for paths in (outputs.magnitude_files, outputs.phase_files)
    ]
    return np.array(images), record


@pytest.fixture(scope="module")
def usual(signal, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return combined(tmp_path_factory.mktemp("usual"), monkeypatch, signal)


@pytest.mark.parametrize("form", ["file a coil", "uncompressed", "fifth axis"])
def test_every_form_gives_the_same(signal, usual, form, tmp_path, monkeypatch):
    images, record = combined(tmp_path, monkeypatch, signal, form)
    assert np.array_equal(images, usual[0])
    assert record["facts"] == usual[1]["facts"]


def test_real_and_imaginary_parts_give_the_same_but_for_rounding(signal, usual, tmp_path, monkeypatch):
    images, record = combined(tmp_path, monkeypatch, signal, parts=("real", "imaginary"))
    bright = usual[0][0, 0] > 30
    difference = np.angle(np.exp(1j * (images[1] - usual[0][1])))[:, bright]
    assert np.abs(difference).max() < 0.01
    assert any("real and imaginary" in note["text"] for note in record["notes"])


def test_the_alternating_slices_of_ge_are_turned_back(signal, usual, tmp_path, monkeypatch):
    images, record = combined(tmp_path, monkeypatch, remove_slice_alternation(signal, -1))
    bright = usual[0][0, 0] > 30
    assert np.abs(np.angle(np.exp(1j * (images[1] - usual[0][1])))[:, bright]).max() < 0.01
    assert "coil-slice-alternation" in [note["code"] for note in record["notes"]]


def test_the_record_tells_what_was_done(usual):
    _, record = usual
    facts = {fact["key"]: fact["value"] for fact in record["facts"]}
    assert facts["coils"] == COILS and min(facts["coil_coherence"]) > 98
    assert record["title"] == "ASPIRE" and record["citations"] == ["eckstein2018", "robinson2017"]
    assert {parameter["name"]: parameter["value"] for parameter in record["parameters"]}["coil_sigma"] == 4.0


def test_a_coil_whose_phase_is_in_another_unit_is_named(signal, tmp_path, monkeypatch):
    inputs = files(tmp_path, signal, "file a coil", ("magnitude", "phase"))
    save(tmp_path / "phase02.nii.gz", (1000 * np.angle(signal[2, 0])).astype(np.int16) * 8)
    with pytest.raises(ValueError, match=r"phase02.nii.gz: the phase of coil 3 is of another unit"):
        combined(tmp_path, monkeypatch, signal, form="file a coil", parts=(), **inputs)


def test_fringes_of_a_bad_combination_are_warned_of_before_anything_else(tmp_path, monkeypatch):
    """A scanner that adds the phases of two coils as they are: the record tells of lines, and what to set."""
    monkeypatch.chdir(tmp_path)
    x, y, z = np.meshgrid(*[3.0 * (np.arange(n) - n // 2) for n in (52, 62, 46)], indexing="ij")
    head = (x / 70) ** 2 + (y / 85) ** 2 + (z / 62) ** 2 < 1
    random = np.random.default_rng(0)
    seen = [
        (1 + ((x - a) ** 2 + y**2) / 90**2) ** -1.5 * np.exp(1j * a / 110 * (0.08 * x + 0.06 * z)) for a in (-110, 110)
    ]
    inputs = {"magnitude_files": [], "phase_files": []}
    for echo, time in enumerate(TIMES):
        noise = (random.normal(size=head.shape) + 1j * random.normal(size=head.shape)) / 100
        coils = [head * one * np.exp(2j * np.pi * time * (0.2 * y + 5)) + noise for one in seen]
        for name, image in (("magnitude", np.hypot(*map(np.abs, coils))), ("phase", np.angle(sum(coils)))):
            path = tmp_path / f"{name}{echo}.nii"
            nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([3.0, 3, 3, 1])), path)
            inputs[f"{name}_files"].append(str(path))
    PreparePhase(**inputs, units="rad", echo_times=TIMES, manufacturer="Siemens", centre_frequency=123.0).run()
    record = json.loads((tmp_path / "step.json").read_text("utf-8"))["record"]
    facts = {fact["key"]: fact["value"] for fact in record["facts"]}
    (warning,) = [warning for warning in record["warnings"] if warning["code"] == "open-ended-fringes"]
    assert facts["open_fringe_lines"] >= 1 and facts["open_fringe_length"] > 3
    assert "Adaptive Combine" in warning["remedy"]
