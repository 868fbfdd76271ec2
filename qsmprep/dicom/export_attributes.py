"""What a derived image takes over from its reference: patient, study, frame of reference, acquisition, scanner."""

from __future__ import annotations

from copy import deepcopy

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from qsmprep import __version__
from qsmprep.dicom.export_reference import Reference

# Of the modules Patient, Patient Study, General Study, Clinical Trial (group 0012) and Frame of Reference.
# fmt: off
COPIED = [
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientName", "PatientID", "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments", "ReferencedPatientSequence",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "QualityControlSubject", "PatientAge", "PatientSize", "PatientWeight",
    "Occupation", "AdditionalPatientHistory", "MedicalAlerts", "Allergies", "SmokingStatus", "PregnancyStatus",
    "PatientState", "AdmittingDiagnosesDescription", "PatientSexNeutered", "StudyInstanceUID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "StudyDescription",
    "IssuerOfAccessionNumberSequence", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ReferencedStudySequence",
    "ProcedureCodeSequence", "RequestAttributesSequence", "LongitudinalTemporalInformationModified",
    "FrameOfReferenceUID", "PositionReferenceIndicator",
]
TRIAL_GROUP = 0x0012
# Of the acquisition, where they are told.
ACQUIRED = [
    "PatientPosition", "BodyPartExamined", "Laterality", "ProtocolName", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "MRAcquisitionType", "SequenceName", "RepetitionTime", "MagneticFieldStrength", "FlipAngle",
    "EchoTrainLength", "NumberOfAverages", "PixelBandwidth", "SliceThickness", "ScanOptions",
]
# What every image must have, if only empty.
EMPTY = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "PositionReferenceIndicator", "PatientPosition", "MRAcquisitionType",
    "RepetitionTime", "EchoTrainLength", "SliceThickness", "ScanOptions", "EchoTime",
]
ENHANCED_NAMES = {"ImagedNucleus": "ResonantNucleus", "ImagingFrequency": "TransmitterFrequency"}
LOSSY = ["LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"]
SCANNER = [
    "Manufacturer", "InstitutionName", "StationName", "InstitutionalDepartmentName", "ManufacturerModelName",
    "DeviceSerialNumber", "SoftwareVersions",
]
# fmt: on


def copied(reference: Reference) -> Dataset:
    """Patient, study, trial and frame of reference, as they are; private attributes are left out."""
    found = _elements(reference.first, COPIED)
    for element in reference.first:
        if element.tag.group == TRIAL_GROUP:  # empty ones too: they must be there
            found[element.tag] = deepcopy(element)
    for keyword in EMPTY:
        if keyword not in found:
            setattr(found, keyword, None)
    found.remove_private_tags()
    return found


def acquisition(reference: Reference) -> Dataset:
    """How the images of the reference were acquired, by the attributes of a classic MR image."""
    found = _elements(reference.frames, ACQUIRED)
    found.update(_elements(reference.first, ACQUIRED))
    found.update(_elements(reference.first, LOSSY))
    if "BodyPartExamined" not in found and "Laterality" not in found:
        found.Laterality = None  # of a part of the body that is not known, it must be there
    if len(reference.echo_times) == 1:  # a map of several echoes has no echo time
        found.EchoTime = f"{reference.echo_times[0]:.10g}"
    for name, enhanced in ENHANCED_NAMES.items():
        value = reference.value(name) or reference.value(enhanced)
        if value is not None:
            setattr(found, name, f"{float(str(value)):.10g}" if name == "ImagingFrequency" else value)
    found.ScanningSequence = reference.value("ScanningSequence") or _scanning_sequence(reference)
    spoiled = str(reference.value("Spoiling") or "NONE") != "NONE"
    found.SequenceVariant = reference.value("SequenceVariant") or ("SP" if spoiled else "NONE")
    return found


def equipment(reference: Reference) -> Dataset:
    """This program as what made the images, and the scanner as what contributed."""
    made = Dataset()
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = "qsmprep", "qsmprep", __version__
    scanner = _elements(reference.first, SCANNER)
    if "Manufacturer" in scanner:
        scanner.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
        made.ContributingEquipmentSequence = [scanner]
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _elements(dataset: Dataset, keywords: list[str]) -> Dataset:
    """Those attributes of a dataset that are there and not empty; as they are, even where they break a rule."""
    found = Dataset()
    for keyword in keywords:
        tag = Tag(keyword)
        if tag in dataset and not dataset[tag].is_empty:
            found[tag] = deepcopy(dataset[tag])
    return found


def _scanning_sequence(reference: Reference) -> list[str]:
    """Scanning Sequence as an enhanced image tells it in other words; research mode where it does not."""
    echo, planar = str(reference.value("EchoPulseSequence")), str(reference.value("EchoPlanarPulseSequence"))
    words = {"GRADIENT": ["GR"], "SPIN": ["SE"], "BOTH": ["SE", "GR"]}.get(echo, ["RM"])
    return words + (["EP"] if planar == "YES" else [])
