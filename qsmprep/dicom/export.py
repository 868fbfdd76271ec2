"""A map as a derived series of MR images in DICOM, for archives that take nothing else.

The images are those of MR Image Storage, one file a slice, which every archive and viewer knows. They belong to the
patient, the study and the frame of reference of the series whose grid the map has, and name its images as their source.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from qsmprep import __version__
from qsmprep.bids.grid import Grid
from qsmprep.dicom.export_attributes import acquisition, code, copied, equipment
from qsmprep.dicom.export_geometry import lay_on
from qsmprep.dicom.export_reference import CLASSIC, Reference, Slice
from qsmprep.dicom.export_values import UNITS, Kind, Stored
from qsmprep.numerics.arrays import FloatImage

NOT_FOR_DIAGNOSIS = "NOT FOR DIAGNOSIS. For research use only: computed by software that is no medical device."
SERIES_STEP = 9000  # from the number of the reference to that of the new series, unless another is given
LONGEST_DESCRIPTION = 64  # characters that DICOM allows


@dataclass(frozen=True)
class Label:
    """How the new series is called.

    Attributes
    ----------
    kind : what the map shows.
    description : of the series; empty: made from kind and unit.
    number : of the series; None: that of the reference and 9000.
    derivation : how the map was made, in words.
    """

    kind: Kind
    description: str = ""
    number: int | None = None
    derivation: str = ""


def on_reference(volume: FloatImage, grid: Grid, reference: Reference) -> FloatImage:
    """The map in the order of the reference's columns, rows and slices; ValueError where the grids are not one."""
    return lay_on(volume, grid, reference.grid)


def export_dicom(stored: Stored, reference: Reference, label: Label, out: Path) -> list[Path]:
    """Write a map as one file a slice into a new folder, which is whole or not there.

    Parameters
    ----------
    stored : the map on the grid of the reference (`on_reference`).
    reference : whose patient, study and frame of reference it belongs to.
    label : names of the series.
    out : a folder that does not exist, or an empty one.

    Returns
    -------
    The files, in the order of the slices. The same input gives the same bytes: dates are those of the acquisition.

    Raises
    ------
    ValueError : the folder holds something, or the numbers have another shape than the reference.
    """
    check_free(out)
    if len(label.description) > LONGEST_DESCRIPTION or "\\" in label.description:
        raise ValueError(f"The description of a series has up to {LONGEST_DESCRIPTION} characters, and no backslash.")
    if stored.numbers.shape != reference.shape:
        raise ValueError(f"The map has shape {stored.numbers.shape}; the reference has {reference.shape}.")
    common = _series(stored, reference, label)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name[:50]}.{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        for number, place in enumerate(reference.slices, start=1):
            image = _image(common, stored, reference, place, number)
            image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sorted(out.iterdir())


def check_free(out: Path) -> None:
    """Raise ValueError where the folder for the images is a file, or holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; give a new folder, nothing is overwritten.")


def _series(stored: Stored, reference: Reference, label: Label) -> Dataset:
    """The attributes that all images share."""
    unit, kind = UNITS[stored.unit], label.kind
    series = copied(reference)
    series.update(acquisition(reference))
    series.update(equipment(reference))
    series.Modality = "MR"
    series.SOPClassUID = CLASSIC[0]
    series.ImageType = ["DERIVED", "SECONDARY", kind.image_type, "QSM"]
    description = label.description or f"{kind.title} [{stored.unit}] qsmprep, not for diagnosis"
    series.SeriesDescription = description[:LONGEST_DESCRIPTION]
    number = int(str(reference.value("SeriesNumber") or 0)) + SERIES_STEP if label.number is None else label.number
    series.SeriesNumber = number
    series.SpacingBetweenSlices = _decimal(float(np.linalg.norm(reference.grid.affine[:3, 2])))
    series.ContentQualification = "RESEARCH"
    series.ImageComments = NOT_FOR_DIAGNOSIS
    series.DerivationDescription = f"qsmprep {__version__}: {label.derivation or kind.title}"[:1024]
    series.BurnedInAnnotation = "NO"
    low, high = stored.window
    series.WindowCenter, series.WindowWidth = _decimal((low + high) / 2), _decimal(high - low)
    if high - low < 1:  # the usual function, LINEAR, knows no narrower window
        series.VOILUTFunction = "LINEAR_EXACT"
    series.RescaleSlope, series.RescaleIntercept, series.RescaleType = _decimal(stored.slope), "0", stored.unit
    series.RealWorldValueMappingSequence = [_real_world(stored)]
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.Columns, series.Rows = reference.shape[:2]
    series.BitsAllocated, series.BitsStored, series.HighBit, series.PixelRepresentation = 16, 16, 15, 1
    series.PixelSpacing = [_decimal(spacing) for spacing in reference.spacing_mm]
    series.ImageOrientationPatient = [_decimal(cosine) for cosine in reference.orientation]
    digest = hashlib.sha256(np.ascontiguousarray(stored.numbers).tobytes())
    for image in (image for place in reference.slices for image in place.images):
        digest.update(f"{image.instance_uid}/{image.frame} ".encode())
    digest.update(series.to_json(suppress_invalid_tags=True).encode() + unit.code.encode())
    series.SeriesInstanceUID = _uid(digest.hexdigest())
    return series


def _image(common: Dataset, stored: Stored, reference: Reference, place: Slice, number: int) -> Dataset:
    """One slice."""
    image = Dataset()
    image.update(common)
    image.SOPInstanceUID = _uid(f"{common.SeriesInstanceUID}/{number}")
    image.InstanceNumber = number
    image.ImagePositionPatient = [_decimal(coordinate) for coordinate in place.position]
    normal = np.cross(reference.orientation[:3], reference.orientation[3:])
    image.SliceLocation = _decimal(float(np.dot(place.position, normal)))
    image.SourceImageSequence, instances = [], {}
    for source in place.images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.class_uid, source.instance_uid
        if source.instance_uid not in instances:
            instances[source.instance_uid] = Dataset()
            instances[source.instance_uid].update(item)
        if source.frame:
            item.ReferencedFrameNumber = source.frame
        item.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
        image.SourceImageSequence.append(item)
    series = Dataset()
    series.SeriesInstanceUID = reference.value("SeriesInstanceUID")
    series.ReferencedInstanceSequence = list(instances.values())
    image.ReferencedSeriesSequence = [series]
    image.PixelData = stored.numbers[:, :, number - 1].T.astype("<i2").tobytes()
    image["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, PYDICOM_IMPLEMENTATION_UID
    image.file_meta = meta
    return image


def _real_world(stored: Stored) -> Dataset:
    """The slope once more, with the unit as a code."""
    unit, mapping = UNITS[stored.unit], Dataset()
    mapping.LUTExplanation, mapping.LUTLabel = f"Values in {unit.meaning}", stored.unit
    mapping.MeasurementUnitsCodeSequence = [code(unit.code, "UCUM", unit.meaning)]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = stored.slope, 0.0
    for keyword, end in (("First", -32768), ("Last", 32767)):
        mapping.add_new(f"RealWorldValue{keyword}ValueMapped", "SS", end)
    return mapping


def _uid(text: str) -> str:
    """A UID made of a name-based UUID (PS3.5 B.2): the same for the same text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'qsmprep {__version__} {text}').int}"


def _decimal(number: float) -> str:
    """A number as a decimal string of at most 16 characters."""
    for digits in range(14, 5, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{number!r} is no number that DICOM can hold.")
