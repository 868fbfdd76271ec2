"""The simulated head as a BIDS dataset, with the truth as a derivative dataset inside."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from qsmprep import __version__
from qsmprep.bids.outputs import subject_folder, write_json, write_text
from qsmprep.files.whole_file import whole_file
from qsmprep.numerics.threads import thread_count
from qsmprep.phantom.anatomy import individual_head
from qsmprep.phantom.grid import simulation_grid
from qsmprep.phantom.head import MESE_REPETITION_TIME_S, SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.orientation import reoriented
from qsmprep.phantom.vendor import StoredImage, scanner_metadata, store_phase, store_signal, vendor_phase

PROGRAM = "qsmprep-tools simulate"
BIDS_VERSION = "1.11.0"
TRUTH = Path("derivatives", "truth")
MADE_OF = {
    "ellipsoids": "a head made of ellipsoids",
    "icbm152": "a head made of the ICBM152 template's tissue maps (Copyright 1993-2009 Louis Collins, McConnell Brain "
    "Imaging Centre, Montreal Neurological Institute, McGill University)",
}
README = """# Simulated head

Multi-echo gradient-echo scans of {}, written by `qsmprep-tools simulate`. No person was scanned.
The true susceptibility, fields, relaxation rates, brain mask and tissue labels are in `derivatives/truth`.
"""


@dataclass(frozen=True)
class _File:
    """One image to write: path without extension, numbers, sidecar."""

    stem: Path
    image: StoredImage
    sidecar: dict[str, Any]


def simulate(
    out: Path | str,
    options: SimulationOptions = SimulationOptions(),  # noqa: B008
    tell: Callable[[str], None] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write simulated subjects as a BIDS dataset; the same options give the same images, byte for byte.

    Parameters
    ----------
    out : folder to make; the truth goes to `derivatives/truth` in it.
    options : the acquisition, how many subjects and sessions, in whose format.
    tell : called with a line of text before each stage.
    overwrite : replace what an earlier simulation left in `out`; any other dataset is never touched.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError : an option out of range, or a field of view that does not hold the brain.
    FileExistsError : `out` is not empty and may not, or must not, be overwritten.
    """
    out, options = Path(out), options.checked()
    if options.anatomy == "ellipsoids":  # a head of the template may leave the field of view
        for subject in range(options.subjects):
            for scan in options.runs():
                simulation_grid(scan, individual_head(scan, subject))
    _clear(out, overwrite)
    _write_dataset_files(out, options)
    for subject in range(options.subjects):
        for session in range(max(1, options.sessions)):
            prefix = f"sub-{subject + 1:02d}" + (f"_ses-{session + 1:02d}" if options.sessions else "")
            runs = options.runs()
            for run, scan in enumerate(runs):
                name = prefix + (f"_run-{run + 1}" if len(runs) > 1 else "")
                named = _named(tell, name)
                head = simulate_head(scan, subject=subject, session=session, run=run, tell=named)
                named("files")
                _write_scan(out, name, head, scan)
    return out


def _named(tell: Callable[[str], None] | None, name: str) -> Callable[[str], None]:
    """What tells of the stages of one scan."""
    return lambda stage: None if tell is None else tell(f"{name}: {stage}")


def _write_scan(out: Path, prefix: str, head: SimulatedHead, options: SimulationOptions) -> None:
    """Images of one acquisition and what is true about it."""
    if options.orientation != "RAS":
        head = reoriented(head, options.orientation)
    files = [*_scans(prefix, head, options), *_truth(prefix, head, options.parts)]
    with ThreadPoolExecutor(thread_count()) as pool:
        list(pool.map(lambda file: _write(out, file, head.affine), files))
    write_text(
        out / TRUTH / subject_folder(prefix) / "anat" / f"{prefix}_desc-tissue_dseg.tsv",
        "index\tname\n" + "".join(f"{index}\t{name}\n" for index, name in sorted(head.label_names.items())),
    )


def _clear(out: Path, overwrite: bool) -> None:
    """Make sure that `out` is empty or absent."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        description = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
        ours = description["GeneratedBy"][0]["Name"] == PROGRAM
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(f"{out} exists and holds something other than a simulated dataset; give a new folder.")
    if not overwrite:
        raise FileExistsError(f"{out} already holds a simulated dataset; give a new folder or allow it to be replaced.")
    shutil.rmtree(out)


def _write_dataset_files(out: Path, options: SimulationOptions) -> None:
    generated = [
        {"Name": PROGRAM, "Version": __version__, "Description": f"Simulated scans of {MADE_OF[options.anatomy]}"}
    ]
    common = {
        "BIDSVersion": BIDS_VERSION,
        "License": "CC0",
        "Authors": ["The developers of qsmprep"],
        "GeneratedBy": generated,
    }
    write_json(
        out / "dataset_description.json",
        {"Name": "Simulated head", "DatasetType": "raw", **common, "SimulationOptions": asdict(options)},
    )
    write_text(out / "README.md", README.format(MADE_OF[options.anatomy]))
    subjects = "".join(f"sub-{number + 1:02d}\n" for number in range(options.subjects))
    write_text(out / "participants.tsv", "participant_id\n" + subjects)
    write_json(
        out / TRUTH / "dataset_description.json",
        {
            "Name": "Truth of the simulated head",
            "DatasetType": "derivative",
            **common,
            "SourceDatasets": [{"URL": "../.."}],
            "DatasetLinks": {"raw": "../.."},
        },
    )
    write_text(out / TRUTH / "README.md", README)


def _gradient_echo_name(prefix: str, head: SimulatedHead, number: int, part: str) -> str:
    """BIDS calls one echo T2starw and several MEGRE."""
    if len(head.echo_times_s) == 1:
        return f"{prefix}_part-{part}_T2starw"
    return f"{prefix}_echo-{number}_part-{part}_MEGRE"


def _scans(prefix: str, head: SimulatedHead, options: SimulationOptions) -> Iterator[_File]:
    """The images that a scanner would have sent."""
    folder, vendor = subject_folder(prefix) / "anat", options.vendor
    common = {
        **scanner_metadata(vendor),
        "MagneticFieldStrength": head.field_strength_t,
        "ImagingFrequency": round(head.centre_frequency_mhz, 6),
        "MRAcquisitionType": "3D",
        "SliceThickness": head.voxel_size_mm[2],
    }
    gradient_echo = common | {
        "PulseSequenceType": "Multi-echo spoiled gradient echo",
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "RepetitionTimeExcitation": options.repetition_time,
        "FlipAngle": options.flip_angle,
    }
    largest = float(head.magnitude.max())
    for number, te in enumerate(head.echo_times_s, 1):
        sidecar = gradient_echo | {"EchoTime": float(te), "EchoNumber": number}
        magnitude, phase = head.magnitude[number - 1], vendor_phase(head.phase[number - 1], vendor)
        if options.parts == "phase":
            images = {"mag": store_signal(magnitude, vendor, largest), "phase": store_phase(phase, vendor)}
        else:
            parts = {"real": magnitude * np.cos(phase), "imag": magnitude * np.sin(phase)}
            images = {name: store_signal(part, vendor, largest) for name, part in parts.items()}
        for part, image in images.items():
            name = _gradient_echo_name(prefix, head, number, part)
            yield _File(folder / name, image, sidecar | {"Units": image.units})
    if head.mese_magnitude is None or head.mese_echo_times_s is None:
        return
    spin_echo = common | {"PulseSequenceType": "Multi-echo spin echo", "ScanningSequence": "SE",
                          "RepetitionTimeExcitation": MESE_REPETITION_TIME_S, "FlipAngle": 90.0}  # fmt: skip
    largest = float(head.mese_magnitude.max())
    for number, te in enumerate(head.mese_echo_times_s, 1):
        image = store_signal(head.mese_magnitude[number - 1], vendor, largest)
        sidecar = spin_echo | {"EchoTime": float(te), "EchoNumber": number, "Units": image.units}
        yield _File(folder / f"{prefix}_echo-{number}_MESE", image, sidecar)


def _truth(prefix: str, head: SimulatedHead, parts: str) -> Iterator[_File]:
    """What is true about the head, as derivatives."""
    root, brain = TRUTH / subject_folder(prefix), head.brain_mask
    first = _gradient_echo_name(prefix, head, 1, "mag" if parts == "phase" else "real")
    reference = f"bids:raw:{(subject_folder(prefix) / 'anat' / first).as_posix()}.nii.gz"
    # folder, name, unit, zero outside the brain, description, values
    maps = (
        ("anat", "Chimap", "ppm", True, "True susceptibility in the brain.", head.chi_ppm),
        ("anat", "desc-head_Chimap", "ppm", False, "True susceptibility of head and air.", head.chi_ppm),
        ("anat", "desc-paramagnetic_Chimap", "ppm", True, "Magnitude of the positive part.", head.chi_para),
        ("anat", "desc-diamagnetic_Chimap", "ppm", True, "Magnitude (>= 0) of the negative part.", head.chi_dia),
        ("anat", "R2starmap", "1/s", False, "True R2*.", head.r2star),
        ("anat", "R2map", "1/s", False, "True R2.", head.r2),
        ("anat", "desc-reversible_R2map", "1/s", False, "True R2' = R2* - R2.", head.r2prime),
        ("anat", "R1map", "1/s", False, "True R1.", head.r1),
        ("anat", "PDmap", "arbitrary", False, "True proton density relative to water.", head.m0),
        ("fmap", "desc-total_fieldmap", "Hz", False, "True total field after the shim.", head.total_field_hz),
        ("fmap", "desc-local_fieldmap", "Hz", True, "True field of the brain's susceptibility.", head.local_field_hz),
        ("fmap", "magnitude", "arbitrary", False, "Magnitude of the first echo, with its noise.", head.magnitude[0]),
    )
    for folder, name, unit, stripped, description, values in maps:
        sidecar = {"Description": description, "Units": unit, "SkullStripped": stripped}
        yield _File(
            root / folder / f"{prefix}_{name}", StoredImage(values * brain if stripped else values, unit), sidecar
        )
    labels = f"{prefix}_desc-tissue_dseg"
    yield _File(
        root / "anat" / f"{prefix}_desc-brain_mask",
        StoredImage(brain.astype(np.uint8), ""),
        {
            "Description": "Voxels at least half brain and free of bone and air.",
            "Type": "Brain",
            "Sources": [f"bids::{(subject_folder(prefix) / 'anat' / labels).as_posix()}.nii.gz"],
            "SpatialReference": reference,
        },
    )
    yield _File(
        root / "anat" / labels,
        StoredImage(head.labels, ""),
        {"Description": "The tissue that fills most of the voxel.", "SpatialReference": reference},
    )


def _write(out: Path, file: _File, affine: np.ndarray) -> None:
    """Write one image and its sidecar."""
    image = nib.Nifti1Image(file.image.values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    if file.image.slope != 1 or file.image.intercept != 0:
        # With a slope in its header nibabel stores the values as they are.
        image.header.set_slope_inter(file.image.slope, file.image.intercept)
    buffer = BytesIO()
    image.to_stream(buffer)
    path = out / file.stem
    with (
        whole_file(path.with_name(path.name + ".nii.gz")) as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
    ):
        packed.write(buffer.getbuffer())
    write_json(path.with_name(path.name + ".json"), file.sidecar)
