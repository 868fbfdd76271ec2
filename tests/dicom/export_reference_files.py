"""DICOM series made for the tests: a small oblique stack of two echoes, as classic files or one enhanced file."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
COLUMNS, ROWS, SLICES = 6, 5, 4
SPACING, STEP = (1.5, 1.0), 2.0  # between rows, columns; slices
STUDY, SERIES, FRAME = "1.2.3.1", "1.2.3.2", "1.2.3.3"


def orientation(degrees=20.0):
    """Row and column cosines of a slab turned about the patient's x axis, and its normal."""
    angle = np.deg2rad(degrees)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)])
    return row, column, np.cross(row, column)


def affine():
    """Voxel (column, row, slice) to world of NIfTI."""
    row, column, normal = orientation()
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2], lps[:3, 3] = row * SPACING[1], column * SPACING[0], normal * STEP, (-3, 4, -7)
    return np.diag([-1.0, -1, 1, 1]) @ lps


def position(number):
    return [f"{x:.10g}" for x in np.array([-3, 4, -7]) + number * STEP * orientation()[2]]


def common(class_uid, instance):
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = class_uid, instance
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "MR", "Maker", "Model"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Müller^Jo", "P7", "19700102", "O"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = STUDY, SERIES, FRAME
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200304", "101112", "S1", "A9"
    image.SeriesNumber, image.SeriesDescription, image.ReferringPhysicianName = 5, "gre", "Doe^Jane"
    image.PatientPosition, image.PositionReferenceIndicator, image.BodyPartExamined = "HFS", "", "BRAIN"
    image.ClinicalTrialProtocolID, image.ClinicalTrialSponsorName, image.ClinicalTrialSubjectID = "T1", "Sponsor", "3"
    image.ClinicalTrialProtocolName = image.ClinicalTrialSiteID = image.ClinicalTrialSiteName = ""
    image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
    image.PhotometricInterpretation, image.MagneticFieldStrength = "MONOCHROME2", 3
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = class_uid, instance
    return image


def place_in(dataset, number):
    row, column, _ = orientation()
    dataset.ImagePositionPatient = position(number)
    dataset.ImageOrientationPatient = [f"{x:.10g}" for x in (*row, *column)]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING), STEP


def classic(folder: Path, *, leave_out=(), without=(), **changes):
    """One file a slice and echo; from the top down, so that the file names tell no order."""
    folder.mkdir(parents=True, exist_ok=True)
    for echo in (1, 2):
        for number in set(range(SLICES)) - set(leave_out):
            image = common(CLASSIC, f"1.2.3.4.{echo}.{number}")
            place_in(image, number)
            image.InstanceNumber, image.EchoTime, image.RepetitionTime = echo * 10 + SLICES - number, 5 * echo, 30
            image.ScanningSequence, image.SequenceVariant = "GR", "SP"
            for keyword, value in changes.items():
                setattr(image, keyword, value)
            for keyword in without:
                del image[keyword]
            image.PixelData = bytes(2 * ROWS * COLUMNS)
            image["PixelData"].VR = "OW"
            image.save_as(folder / f"{echo}-{SLICES - number}.dcm", enforce_file_format=True)
    return folder


def enhanced(folder: Path):
    """One multi-frame file."""
    folder.mkdir(parents=True, exist_ok=True)
    image = common(ENHANCED, "1.2.3.5")
    image.EchoPulseSequence, image.Spoiling, image.ResonantNucleus = "GRADIENT", "RF", "1H"
    image.NumberOfFrames, image.InstanceNumber = 2 * SLICES, 1
    shared, frames = Dataset(), []
    row, column, _ = orientation()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [f"{x:.10g}" for x in (*row, *column)]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(SPACING)
    shared.PixelMeasuresSequence[0].SliceThickness = STEP
    shared.MRTimingAndRelatedParametersSequence = [Dataset()]
    shared.MRTimingAndRelatedParametersSequence[0].RepetitionTime = 30
    for number in range(SLICES):
        for echo in (1, 2):
            frame = Dataset()
            frame.PlanePositionSequence, frame.MREchoSequence = [Dataset()], [Dataset()]
            frame.PlanePositionSequence[0].ImagePositionPatient = position(number)
            frame.MREchoSequence[0].EffectiveEchoTime = 5.0 * echo
            frames.append(frame)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    image.PixelData = bytes(2 * ROWS * COLUMNS * 2 * SLICES)
    image["PixelData"].VR = "OW"
    image.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder
