"""The recommendations of the QSM consensus as a checklist: what a run's data and settings say of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qsmprep.report import recommendations as find
from qsmprep.report.record import Run

MET, NOT_MET, CANNOT_KNOW = "met", "not met", "cannot know"
SECTIONS = {
    "2": "Acquisition",
    "3": "Phase reconstruction and coil combination",
    "4": "Unwrapping and echo combination",
    "5": "Masking",
    "6": "Background field removal",
    "7": "Dipole inversion",
    "8": "Analysis of maps",
    "9": "Presentation and publication",
}


@dataclass(frozen=True)
class CheckItem:
    """One recommendation: its place in the paper, what it asks, how the run stands to it, and the value found."""

    id: str
    text: str
    status: str
    value: str

    @property
    def section_number(self) -> str:
        """Number of the paper's section."""
        return self.id.partition(".")[0]

    @property
    def section(self) -> str:
        """Heading of the paper's section."""
        return SECTIONS[self.section_number]


def checklist(run: Run, *, regions: int | None = None) -> tuple[CheckItem, ...]:
    """Every recommendation with what the run's metadata, settings and results say of it.

    Nothing is "met" or "not met" without a value that was found.

    Parameters
    ----------
    run : as read from its record.
    regions : lines of the table of regional values; None or 0 where there is none.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024: sections 2 to 9, in our own words.
    """
    evidence = find.Evidence(run, regions or 0)
    items = []
    for name, text, judge in RECOMMENDATIONS:
        value, good = judge(evidence)
        status = CANNOT_KNOW if not value or good is None else MET if good else NOT_MET
        items.append(CheckItem(name, text, status, value or "nothing tells"))
    return tuple(items)


RECOMMENDATIONS: tuple[tuple[str, str, Callable[[find.Evidence], find.Verdict]], ...] = (
    ("2.a", "A three-dimensional gradient echo sequence", find.three_dimensional),
    ("2.b", "A monopolar readout: every echo read in the same direction", find.monopolar),
    ("2.c", "Several echoes, three or more", find.echo_count),
    ("2.d", "The first echo as early as possible", find.first_echo),
    ("2.e", "The last echo near T2* of the tissue of interest", find.last_echo),
    ("2.f", "Isotropic voxels of 1 mm or less", find.voxels),
    ("2.g", "The whole brain in the field of view", find.coverage),
    ("2.h", "A flip angle near the Ernst angle, short repetition time", find.flip_angle),
    ("2.i", "No partial Fourier sampling", find.partial_fourier),
    ("2.j", "The slab's angle to B0 known and kept in the header", find.b0_direction),
    ("3.a", "Full phase images, exported without a filter", find.unfiltered),
    ("3.b", "Coils combined so that their own phase offsets do not remain", find.coil_combination),
    ("3.c", "Scaling and sign of the phase known, vendor by vendor", find.phase_convention),
    ("4.a", "An exact unwrapping method (not Laplacian)", find.exact_unwrapping),
    ("4.b", "Phase offsets removed before unwrapping in time", find.offset),
    ("4.c", "Echoes combined with weights, or by a fit of the complex signal", find.combined),
    ("4.d", "Echoes combined before background field removal", find.before_background),
    ("5.a", "A brain mask from brain extraction", find.brain_mask),
    ("5.b", "Voxels of unreliable phase taken out of the mask", find.reliable_phase),
    ("5.c", "Holes of the mask filled for background field removal", find.holes),
    ("5.d", "Masks looked at by a person", find.mask_seen),
    ("6.a", "A method based on SHARP or PDF", find.background),
    ("6.b", "Background removed within the brain mask, little of it lost", find.background_mask),
    ("7.a", "An optimisation with a penalty that favours sparse edges", find.sparse),
    ("7.b", "Data weighted by their reliability", find.weighted_inversion),
    ("7.c", "The solver converged", find.converged),
    ("7.d", "Regularisation parameters stated", find.parameters),
    ("8.a", "A stated reference region with mean and standard deviation", find.reference),
    ("8.b", "The whole brain as common reference", find.whole_brain),
    ("8.c", "Values of regions, voxels without valid susceptibility left out", find.regional),
    ("9.a", "Maps shown masked, in linear grey, from -0.2 to 0.2 ppm", find.grey_window),
    ("9.b", "Values in ppm or ppb", find.unit),
    ("9.c", "Every essential item of acquisition and reconstruction reported", find.reported),
)


def counted(items: tuple[CheckItem, ...]) -> Mapping[str, int]:
    """How many recommendations stand at each status."""
    return {status: sum(item.status == status for item in items) for status in (MET, NOT_MET, CANNOT_KNOW)}
