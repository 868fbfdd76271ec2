"""The recommendations of the QSM consensus as a checklist: what a run's data and settings say of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qsmprep.report import acquisition_checks as acquired
from qsmprep.report import advice_checks as advised
from qsmprep.report import analysis_checks as analysed
from qsmprep.report import processing_checks as processed
from qsmprep.report.evidence import NOT_MET, STATUSES, Evidence, Verdict
from qsmprep.report.quality import ShownQuality
from qsmprep.report.record import Run
from qsmprep.report.regional import RegionTable

SECTIONS = {
    "2": "Acquisition",
    "3": "Phase reconstruction, coil combination, export",
    "4": "Unwrapping and echo combination",
    "5": "Masking",
    "6": "Background field removal",
    "7": "Dipole inversion",
    "8": "Analysis of maps",
    "9": "Presentation and publication",
}
NOTHING_MEASURED = ShownQuality()
PROCESSING = ("4.", "5.", "6.", "7.", "8.c")  # what the software decides
Judge = Callable[[Evidence], Verdict]


@dataclass(frozen=True)
class CheckItem:
    """One recommendation: its number in the paper, what it asks, how the run stands to it, and the value found.

    `id` is empty for advice that is no recommendation of the paper's list; `source` then says where it stands.
    """

    id: str
    text: str
    status: str
    value: str
    source: str = ""

    @property
    def section_number(self) -> str:
        """Number of the paper's section."""
        return self.id.partition(".")[0]

    @property
    def section(self) -> str:
        """Heading of the paper's section."""
        return SECTIONS[self.section_number]


def checklist(
    run: Run, *, regions: Sequence[RegionTable] = (), quality: ShownQuality = NOTHING_MEASURED
) -> tuple[CheckItem, ...]:
    """The 32 recommendations with what the run's metadata, settings and results say of each.

    Nothing is "met" or "not met" without a value that was found.

    Parameters
    ----------
    run : as read from its record.
    regions : its tables of regional values.
    quality : its quality numbers.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024: sections 2 to 9, in our own words. The
    manuscript prints 5.a twice.
    """
    evidence = Evidence(run, regions, quality)
    return tuple(CheckItem(name, text, *_judged(judge, evidence)) for name, text, judge in RECOMMENDATIONS)


def advice(
    run: Run, *, regions: Sequence[RegionTable] = (), quality: ShownQuality = NOTHING_MEASURED
) -> tuple[CheckItem, ...]:
    """What the paper's text and tables advise beside the recommendations, and good practice; as `checklist`."""
    evidence = Evidence(run, regions, quality)
    return tuple(CheckItem("", text, *_judged(judge, evidence), source) for source, text, judge in ADVICE)


def departures(run: Run) -> tuple[CheckItem, ...]:
    """The recommendations on processing that a run does not meet; empty where it follows the consensus."""
    return tuple(item for item in checklist(run) if item.id.startswith(PROCESSING) and item.status == NOT_MET)


def _judged(judge: Judge, evidence: Evidence) -> Verdict:
    found = judge(evidence)
    return Verdict(found.status, found.value or "nothing tells")


# fmt: off
RECOMMENDATIONS: tuple[tuple[str, str, Judge], ...] = (
    ("2.a", "A 3D spoiled gradient echo sequence, monopolar, three echoes or more that span T2* of the target", acquired.sequence),
    ("2.b", "The shortest repetition time that the echoes allow", acquired.repetition_time),
    ("2.c", "The Ernst angle of the target tissue", acquired.flip_angle),
    ("2.d", "The whole brain in the field of view", acquired.coverage),
    ("2.e", "At 3 T isotropic voxels of 1 mm or less, not interpolated", acquired.voxels),
    ("2.f", "Acceleration by parallel imaging or the like", acquired.acceleration),
    ("2.g", "A receive coil of many elements around the brain", acquired.coil),
    ("3.a", "Phase from the vendor's combination of coils, in the version that the paper names", acquired.combination),
    ("3.b", "Export as classic DICOM", acquired.dicom),
    ("3.c", "Conversion to NIfTI by dcm2niix", acquired.conversion),
    ("4.a", "An exact unwrapping method (not Laplacian)", processed.unwrapping),
    ("4.b", "Echoes combined before background field removal", processed.before_background),
    ("4.c", "A non-linear complex fit, then unwrapping in space; or offsets removed, template unwrapping, weighted averaging", processed.combination),
    ("5.a (mask 1)", "Brain extraction on the magnitude of the first echo or of all", processed.brain_mask),
    ("5.a (mask 2)", "A threshold of the phase quality, multiplied with mask 1", processed.reliable_mask),
    ("5.b", "Holes filled for background field removal (mask 3)", processed.holes_filled),
    ("5.c", "Unreliable voxels may be left out of the inversion; merged reconstructions where their values matter", processed.holes_in_the_inversion),
    ("5.d", "The map cut to the mask of background removal without holes", processed.cut_to_the_mask),
    ("6.a", "V-SHARP, robust to faults of the mask", processed.vsharp),
    ("6.b", "PDF where the whole brain with cortex and surface veins is wanted", processed.pdf),
    ("6.c", "Quality of the field at the rim balanced against erosion", processed.rim),
    ("7.a", "An optimisation with a penalty that favours sparsity (L1, TV, TGV)", processed.sparse),
    ("7.b", "The software's default penalty; or tuned on a typical case and kept for the protocol", processed.penalty),
    ("8.a", "Data excluded where artifacts touch regions of interest", analysed.exclusion),
    ("8.b", "No voxels of unreliable susceptibility in the analysis", analysed.valid_voxels),
    ("8.c", "An internal reference region", analysed.reference),
    ("8.d", "The reference chosen by design and pathology; checked with a second region", analysed.choice_of_reference),
    ("8.e", "Reference regions segmented in three dimensions", analysed.reference_in_space),
    ("8.f", "Mean and standard deviation of the common reference regions", analysed.common_references),
    ("8.g", "QSM contrast in the segmentation, or an accurate one from T1w images", analysed.segmentation),
    ("9.a", "The essential items of tables 3, 4 and 5 reported", analysed.reported),
    ("9.b", "Representative maps and tissue fields shown", analysed.pictures),
)
ADVICE: tuple[tuple[str, str, Judge], ...] = (
    ("text 2.1", "The first echo as early as possible", advised.first_echo),
    ("text 2.1", "The slab's angle to B0 known", advised.slab_angle),
    ("table 4", "No partial Fourier sampling", advised.partial_fourier),
    ("text 3.1", "Unfiltered phase", advised.unfiltered),
    ("text 3.1", "Scaling and sign of the phase known", advised.convention),
    ("text 7.1", "Data weighted by their reliability", advised.weighted),
    ("table 5", "Parameters of the inversion stated", advised.parameters),
    ("table 5", "Values in ppm or ppb", advised.unit),
    ("text 9.1.4", "Maps shown masked, in linear grey, the window stated", advised.window),
    ("qsmprep", "The solver converged", advised.converged),
    ("qsmprep", "Masks looked at by a person", advised.masks_seen),
)
# fmt: on


def counted(items: Sequence[CheckItem]) -> Mapping[str, int]:
    """How many recommendations stand at each status."""
    return {status: sum(item.status == status for item in items) for status in STATUSES}
