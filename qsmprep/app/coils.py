"""What is planned about images of single coils: the method, and what tells that there are any."""

from __future__ import annotations

from qsmprep.bids.scans import GreRun
from qsmprep.coils.aspire import aspire_applies
from qsmprep.findings import Note
from qsmprep.settings import Settings


def plan_coils(run: GreRun, settings: Settings) -> tuple[Settings, tuple[Note, ...]]:
    """The settings with the method that combines the coils of a run, "none" where the scanner did, and notes about it.

    Raises
    ------
    ValueError : ASPIRE is asked for with echo times that do not fit.
    """
    if run.coils is None:
        return settings.with_method("coil-combination", "none"), ()
    wanted, times = settings.method("coil-combination"), run.echo_times_s
    fits = aspire_applies(times)
    if wanted == "aspire" and not fits:
        raise ValueError(f"{run.name}: --coil-combination aspire needs a second echo twice as late as the first; they "
                         f"are {1000 * times[0]:g} and {1000 * times[1]:g} ms. Take mcpc-3d-s-coils.")  # fmt: skip
    named = f": {', '.join(run.coils.labels)}" if run.coils.labels else ""
    notes = [Note("coils-found", f"Images of {run.coils.count} single coils, told by {run.coils.told_by}{named}.")]
    if wanted == "auto":
        why = "ASPIRE, as TE2 is 2 TE1" if fits else "MCPC-3D-S, as TE2 is not 2 TE1"
        notes.append(Note("coil-method", f"The coils are combined by {why}."))
        settings = settings.with_method("coil-combination", "aspire" if fits else "mcpc-3d-s-coils")
    if "bipolar" in str(run.metadata.get("ReadoutPolarity", "")).lower():
        text = (
            "The readout is bipolar: what its odd and even echoes differ by goes alike into the offset of every coil, "
        )
        notes.append(
            Note("coils-bipolar", text + "so that the coils fit together; it is corrected after they are combined.")
        )
    return settings, tuple(notes)
