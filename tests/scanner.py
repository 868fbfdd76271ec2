"""A scanner that writes DICOM: images of a BIDS dataset, each vendor in its own habit; no product code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
PARTS = {"mag": "MAGNITUDE", "phase": "PHASE", "real": "REAL", "imag": "IMAGINARY"}
LETTERS = {"mag": "M", "phase": "P", "real": "R", "imag": "I"}
GE_NUMBERS = {"mag": 0, "phase": 1, "real": 2, "imag": 3}
PHILIPS_TYPES = {"mag": ["M_FFE", "M", "FFE"], "phase": ["PHASE MAP", "P", "FFE"]}
PHILIPS_SCALE = {"mag": 0.00025, "phase": 1000}  # of the phase: stored numbers to radians


@dataclass(frozen=True)
class Patient:
    name: str = "Doe^Jane"
    id: str = "MR-0815"
    birth: str = "19770704"


@dataclass(frozen=True)
class Volume:
    """Stored numbers (n0, n1, n2), where they lie, which part of which echo, and of which coil."""

    stored: np.ndarray
    affine: np.ndarray
    part: str
    echo: int
    echo_time_s: float
    slope: float = 1.0
    intercept: float = 0.0
    coil: str = ""


SHAPE = (10, 8, 12)


# Directions of columns, rows and slices as scanners lay them, to the right, front and head.
PLANES = {
    "axial": [(-1, 0, 0), (0, -1, 0), (0, 0, 1)],
    "sagittal": [(0, -1, 0), (0, 0, -1), (1, 0, 0)],
    "coronal": [(-1, 0, 0), (0, 0, -1), (0, 1, 0)],
}


def tilted_affine(plane: str = "axial") -> np.ndarray:
    """Of an oblique slab with voxels of three sizes."""
    a, b = np.radians([12, -7])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_y @ np.transpose(PLANES[plane]) @ np.diag([2.0, 2.5, 3.0])
    affine[:3, 3] = 15, 20, -33
    return affine


def random_scan(parts=("mag", "phase"), echoes=2, coils=("",), shape=SHAPE, seed=0, plane="axial"):
    """Random voxels in Siemens' numbers: phase 0..4095 with slope 2 and intercept -4096."""
    random = np.random.default_rng(seed)
    scaling = {"phase": (2.0, -4096.0)}
    images = []
    for part in parts:
        low, high = (-2000, 2000) if part in ("real", "imag") else (0, 4096)
        for echo in range(1, echoes + 1):
            for coil in coils:
                stored = random.integers(low, high, shape).astype(np.int16)
                images.append(Volume(stored, tilted_affine(plane), part, echo, 0.005 * echo,
                                             *scaling.get(part, (1.0, 0.0)), coil))  # fmt: skip
    return images


def volumes(anat: Path) -> list[Volume]:
    """The gradient echoes of a folder `anat`, with the numbers as they are stored there."""
    found = []
    for path in sorted(anat.glob("*_MEGRE.nii.gz")):
        image, sidecar = nib.load(path), json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        stored = np.asarray(image.dataobj.get_unscaled())
        part = path.name.split("part-")[1].split("_")[0]
        found.append(Volume(stored, image.affine, part, sidecar["EchoNumber"], sidecar["EchoTime"],
                            float(image.dataobj.slope), float(image.dataobj.inter)))  # fmt: skip
    return found


def write(
    folder: Path, images: list[Volume], habit: str, *, patient=Patient(), begin=10.0, study="1", first=5, **facts
):
    """Write one scan. `habit`: siemens, siemens-xa, ge, philips, philips-enhanced; `begin` in hours of the day."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = {"study": f"1.2.826.0.1.{study}", "frame": f"1.2.826.0.1.{study}.9"}
    clock = f"{int(begin):02d}{int(60 * (begin % 1)):02d}00.000000"
    series = {}
    for image in images:  # Siemens gives each part a series of its own, the others do not
        key = image.part if habit.startswith("siemens") else ""
        series.setdefault(key, []).append(image)
    for number, group in enumerate(series.values(), first):
        uid = generate_uid(entropy_srcs=[study, str(begin), str(number), habit])[:50]
        if habit in ("siemens-xa", "philips-enhanced"):
            # Siemens XA writes a file for each volume, Philips one for all of them.
            files = [[image] for image in group] if habit == "siemens-xa" else [group]
            for instance, own in enumerate(files, 1):
                ds = _head(patient, clock, uids, uid, number, instance, {})
                _write_enhanced(folder, ds, own, habit, clock, facts)
            continue
        instance = 0
        for image in group:
            for k in range(image.stored.shape[2]):
                instance += 1
                dataset = _head(patient, clock, uids, uid, number, instance, facts)
                _describe(dataset, image, habit)
                _classic(dataset, image, habit, k)
                _save(dataset, folder / f"{number:04d}_{instance:05d}.dcm")
    return folder


def _head(patient, clock, uids, uid, number, instance, facts) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = f"{uid}.{instance}"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = patient.name, patient.id, patient.birth, "O"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20260317"
    ds.StudyTime = "080000"
    ds.AcquisitionTime, ds.SeriesTime = clock, clock
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uids["study"], uid, uids["frame"]
    ds.Modality, ds.StudyID, ds.AccessionNumber = "MR", "77", "A-4711"
    ds.InstitutionName, ds.StationName, ds.DeviceSerialNumber = "Hospital of Oz", "MR77", "31337"
    ds.ReferringPhysicianName, ds.StudyDescription = "Smith^John", f"head of {patient.name}"
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = number, instance, 1
    ds.ProtocolName = ds.SeriesDescription = "anything"
    ds.PatientPosition, ds.BodyPartExamined = "HFS", "HEAD"
    ds.MagneticFieldStrength, ds.RepetitionTime, ds.FlipAngle, ds.PixelBandwidth = 3, 33, 15, 220
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", "FC", "3D"
    ds.ImagingFrequency, ds.SoftwareVersions = 127.732434, "1.0"
    ds.InPlanePhaseEncodingDirection, ds.NumberOfPhaseEncodingSteps = "ROW", 40
    ds.AcquisitionMatrix, ds.TransmitCoilName = [0, 48, 40, 0], "BODY"
    for key, value in facts.items():
        setattr(ds, key, value)
    return ds


def _describe(ds: Dataset, image: Volume, habit: str) -> None:
    """What differs between echoes, parts and vendors."""
    letter = LETTERS[image.part]
    ds.EchoTime, ds.EchoNumbers = round(1000 * image.echo_time_s, 6), image.echo
    if habit.startswith("siemens"):
        ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "Prisma"
        ds.setdefault("SequenceName", "*fl3d5")
        ds.setdefault("ImageType", ["ORIGINAL", "PRIMARY", letter, "ND"])
        block = ds.private_block(0x0051, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0F, "LO", image.coil or "HEA;HEP")
        block.add_new(0x0A, "LO", "TA 05:33")
    elif habit == "ge":
        ds.Manufacturer, ds.ManufacturerModelName = "GE MEDICAL SYSTEMS", "SIGNA"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.ReceiveCoilName = image.coil or "48HAP"
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", GE_NUMBERS[image.part])
        ds.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x5A, "FL", 333e6)
    else:
        ds.Manufacturer, ds.ManufacturerModelName = "Philips", "Ingenia"
        ds.ImageType = ["ORIGINAL", "PRIMARY", *PHILIPS_TYPES[image.part]]
        ds.ReceiveCoilName, ds.AcquisitionDuration = image.coil or "MULTI COIL", 333.0
        ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", PHILIPS_SCALE[image.part] / philips_slope(image))


def philips_slope(image: Volume) -> float:
    return image.slope if image.slope != 1 else 1.29


def _geometry(image: Volume, k: int):
    """Position of a slice, orientation and spacing as DICOM has them: rows along the second voxel axis, in LPS."""
    flip = np.diag([-1.0, -1.0, 1.0])
    axes, sizes = flip @ image.affine[:3, :3], np.linalg.norm(image.affine[:3, :3], axis=0)
    position = flip @ (image.affine @ [0, 0, k, 1])[:3]
    orientation = [*(axes[:, 0] / sizes[0]), *(axes[:, 1] / sizes[1])]
    return [f"{p:.8g}" for p in position], [f"{o:.8g}" for o in orientation], sizes


def _pixels(ds: Dataset, image: Volume) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.stored.shape[1], image.stored.shape[0]
    signed = bool(image.stored.min() < 0)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)


def _classic(ds: Dataset, image: Volume, habit: str, k: int) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CLASSIC
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    position, orientation, sizes = _geometry(image, k)
    ds.ImagePositionPatient, ds.ImageOrientationPatient = position, orientation
    ds.PixelSpacing = [f"{sizes[1]:.8g}", f"{sizes[0]:.8g}"]
    ds.SliceThickness = ds.SpacingBetweenSlices = f"{sizes[2]:.8g}"
    _pixels(ds, image)
    if habit != "ge":
        slope = philips_slope(image) if habit.startswith("philips") else image.slope
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.12g}"[:16], f"{image.intercept:g}"
    ds.PixelData = np.ascontiguousarray(image.stored[:, :, k].T).astype("<i2").tobytes()


def _item(**values) -> list[Dataset]:
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return [item]


def _write_enhanced(folder, ds, group, habit, clock, facts) -> None:
    """One file of all echoes (and parts); slices are the outer, echoes the inner order, as Philips has it."""
    _describe(ds, group[0], habit)
    if habit.startswith("philips"):
        del ds[0x2005, 0x100E]  # stands in each frame
    for key in ("EchoTime", "EchoNumbers", "ScanningSequence", "SequenceVariant", "AcquisitionTime"):
        delattr(ds, key)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.AcquisitionDateTime = f"20260317{clock}"
    ds.EchoPulseSequence, ds.EchoPlanarPulseSequence, ds.Spoiling = "GRADIENT", "NO", "RF"
    ds.PulseSequenceName, ds.GeometryOfKSpaceTraversal, ds.CoverageOfKSpace = "fl3d5", "RECTILINEAR", "ELLIPTICAL"
    ds.PartialFourier, ds.AcquisitionDuration = "NO", 333.0
    ds.ImageType = [
        "ORIGINAL",
        "PRIMARY",
        "T1",
        "MIXED" if len({v.part for v in group}) > 1 else LETTERS[group[0].part],
    ]
    _, orientation, sizes = _geometry(group[0], 0)
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=[f"{sizes[1]:.8g}", f"{sizes[0]:.8g}"],
        SliceThickness=f"{sizes[2]:.8g}",
        SpacingBetweenSlices=f"{sizes[2]:.8g}",
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=orientation)
    shared.MRTimingAndRelatedParametersSequence = _item(
        RepetitionTime=33, FlipAngle=15, EchoTrainLength=len({v.echo for v in group})
    )
    shared.MRModifierSequence = _item(FlowCompensation="NONE", ParallelAcquisition="NO")
    ds.SharedFunctionalGroupsSequence = [shared]
    order = [Dataset(), Dataset(), Dataset()]
    tags = ("InStackPositionNumber", "ComplexImageComponent", "EffectiveEchoTime")
    for item, tag in zip(order, tags, strict=True):
        item.DimensionIndexPointer = pydicom.datadict.tag_for_keyword(tag)
    ds.DimensionIndexSequence = order
    parts, frames, pixels = list(dict.fromkeys(v.part for v in group)), [], []
    echoes = sorted({v.echo for v in group})
    for part in parts:
        for k in range(group[0].stored.shape[2]):
            for image in (v for v in group if v.part == part):
                frames.append(_enhanced_frame(image, habit, k, (parts.index(part), echoes.index(image.echo)), clock))
                pixels.append(image.stored[:, :, k].T.astype("<i2").tobytes())
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = frames, len(frames)
    for key, value in facts.items():
        setattr(ds, key, value)
    _pixels(ds, group[0])
    ds.PixelData = b"".join(pixels)
    _save(ds, folder / f"{int(ds.SeriesNumber):04d}_{int(ds.InstanceNumber)}_enhanced.dcm")


def _enhanced_frame(image: Volume, habit: str, k: int, place: tuple[int, int], clock: str) -> Dataset:
    part, echo = place
    frame = Dataset()
    frame.FrameContentSequence = _item(
        FrameAcquisitionDateTime=f"20260317{clock}",
        StackID="1",
        InStackPositionNumber=k + 1,
        TemporalPositionIndex=1,
        DimensionIndexValues=[k + 1, part + 1, echo + 1],
    )
    position, _, _ = _geometry(image, k)
    frame.PlanePositionSequence = _item(ImagePositionPatient=position)
    frame.MREchoSequence = _item(EffectiveEchoTime=round(1000 * image.echo_time_s, 6))
    kind = ["ORIGINAL", "PRIMARY", "T1", LETTERS[image.part]]
    frame.MRImageFrameTypeSequence = _item(FrameType=kind, ComplexImageComponent=PARTS[image.part])
    slope = philips_slope(image) if habit.startswith("philips") else image.slope
    values = {"RescaleIntercept": f"{image.intercept:g}", "RescaleSlope": f"{slope:.12g}"[:16], "RescaleType": "US"}
    frame.PixelValueTransformationSequence = _item(**values)
    if habit.startswith("philips"):
        own = Dataset()
        block = own.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", PHILIPS_SCALE[image.part] / slope)
        frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [own])
    return frame


def _save(ds: Dataset, path: Path) -> None:
    ds.save_as(path, enforce_file_format=True, overwrite=True)
