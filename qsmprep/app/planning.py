"""From a run of the dataset and the settings to a plan: what `auto` means here, and what was assumed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qsmprep import registry
from qsmprep.analysis.template_space import BY_MAPS, BY_T1W
from qsmprep.app.coils import plan_coils
from qsmprep.app.derivatives import check_derivatives
from qsmprep.app.lengths import check_lengths
from qsmprep.app.networks import find_network, networks_of
from qsmprep.app.regions import plan_regions
from qsmprep.app.request import Request
from qsmprep.app.reuse import IN_PLACE, check_reuse, results_of_others, reused_record
from qsmprep.app.spaces import plan_spaces, uses_t1w
from qsmprep.bids.checks import check_spin_echo
from qsmprep.bids.derivatives import find_derivative
from qsmprep.bids.grid import b0_notes, grid_of, slice_axis
from qsmprep.bids.images import open_image
from qsmprep.bids.outputs import KEPT_ENTITIES, run_prefix
from qsmprep.bids.provenance import software_versions
from qsmprep.bids.scans import GreRun, SpinEchoScan, spin_echo_of
from qsmprep.bids.segmentation import Region, find_region
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.spaces import CITED as REGISTRATION_CITED
from qsmprep.interfaces.spaces import STAGE as SPACE_STAGE
from qsmprep.interfaces.spaces import registration_title
from qsmprep.interfaces.step import Record, network_facts, parameters
from qsmprep.masking.net import NetOptions
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.presets import PRESETS, SLOPPY
from qsmprep.relaxometry import arlo_applies, usual_method
from qsmprep.relaxometry.dictionary import train_positions
from qsmprep.report.acquisition import describe_acquisition
from qsmprep.separation.decompose import LEAST_ECHOES
from qsmprep.settings import DECIDED, Settings
from qsmprep.stages import rank_of
from qsmprep.weights.card import read_card
from qsmprep.workflows.plan import BrainMaskSource, NetworkFile, RunPlan

DEFAULT_SEPARATION = "chisep-medi"  # the best one with R2 and without, see benchmarks/separation.md
BUILT_IN_BET = "the built-in BET, as FSL is not installed, or by a network where that mask has not a brain's shape"


def plan_run(
    run: GreRun,
    request: Request,
    settings: Settings,
    *,
    threads: int,
    device: str,
    spin_echoes: Sequence[SpinEchoScan] = (),
) -> RunPlan:
    """Plan one run, with the spin echo scan that belongs to it if there is one.

    Raises
    ------
    ValueError : the settings do not fit the run (an echo that does not exist, ARLO on unequal spacing), or the weights
        of a network are missing or not for that method.
    """
    notes: list[Note] = []

    def note(code: str, text: str) -> None:
        notes.append(Note(code, text))

    times = _chosen_times(run, settings)
    image = open_image(run.files[0])
    frequency, source = centre_frequency(run, settings)
    readout = _readout(run, settings)
    reused = results_of_others(run, request)
    check_derivatives(run, request, [image.path for image in reused.values()])
    brain_mask = _given_mask(run, request)
    unsure = brain_mask is None and settings.method("mask") == "auto"
    settings = _resolve_mask(settings, brain_mask, note)
    unsure = unsure and settings.method("mask") == "bet"
    settings, coil_notes = plan_coils(run, settings)
    settings = _resolve_relaxometry(settings, times, note)
    scan, scan_notes = _spin_echo(run, settings, spin_echoes, note)
    settings = _resolve_r2(settings, scan)
    check_reuse(reused, settings, run)
    settings = _resolve_separation(settings, scan, times, note)
    region = _given_region(run, request, settings)
    spaces = plan_spaces(settings)
    anatomy = plan_regions(run, request, settings, to_templates=uses_t1w(spaces))
    notes += anatomy.notes
    notes += [Note("output-space", f"Maps in {planned.space.name}: {planned.source}.") for planned in spaces]
    check_lengths(run.name, settings, image, echoes=len(run.echoes))
    n0, n1, n2 = (int(n) for n in image.shape[:3])
    h0, h1, h2 = (float(h) for h in image.header.get_zooms()[:3])
    networks = networks_of(settings, (n0, n1, n2), (h0, h1, h2), spin_echo=scan is not None)
    notes += _assumptions(run, settings, networks)
    notes += () if settings.steps["input"].b0_vector() else b0_notes(image, run.files[0].name)
    return RunPlan(
        run=run,
        prefix=run_prefix(run.subject, run.session, run.entities),
        settings=settings,
        output_dir=request.output_dir,
        bids_dir=request.bids_dir,
        shape=(n0, n1, n2),
        n_echoes=len(run.echoes),
        echo_times_s=times,
        centre_frequency_mhz=frequency,
        frequency_source=source,
        threads=threads,
        device=device,
        software=software_versions(),
        acquisition=describe_acquisition(
            run.metadata, affine=grid_of(image).to_scanner, shape=(n0, n1, n2), echo_times_s=run.echo_times_s
        ),
        b0_direction=settings.steps["input"].b0_vector(),
        brain_mask=brain_mask,
        reused=reused,
        reference_region=region,
        anatomy=anatomy,
        spaces=spaces,
        networks=networks,
        second_mask=find_network(NetOptions(), "net", (n0, n1, n2), (h0, h1, h2)) if unsure else None,
        slice_axis=slice_axis(image)[0],
        slice_axis_source=slice_axis(image)[1],
        spin_echo=scan,
        spin_echo_notes=tuple(scan_notes),
        coil_notes=coil_notes,
        notes=tuple(notes),
        warnings=(*readout, *_not_for_results(settings)),
    )


def centre_frequency(run: GreRun, settings: Settings) -> tuple[float, str]:
    """The scanner's centre frequency in MHz and how it is known: recorded, else nominal from the field strength."""
    if run.imaging_frequency_mhz:
        return run.imaging_frequency_mhz, "ImagingFrequency of the sidecar"
    strength, source = run.field_strength_t, "MagneticFieldStrength of the sidecar"
    if strength is None:
        strength, source = settings.steps["input"].field_strength, "--field-strength"
    if strength is None:
        raise ValueError(f"{run.name}: the field strength is unknown; give --field-strength.")
    return GYROMAGNETIC_RATIO_MHZ_PER_T * strength, f"nominal, from {source} {strength:g} T"


def settings_here(settings: Settings, device: str) -> Settings:
    """The settings with what `auto` comes to on this machine beside it, so that another one does the same."""
    wanted = {"mask": settings.method("mask"), "device": settings.steps["execution"].device}
    here = {"mask": _mask_here(settings), "device": device}
    decided = {name: here[name] for name in DECIDED if wanted[name] == "auto"}
    return dataclasses.replace(settings, decided=decided)


def _mask_here(settings: Settings) -> str:
    """The method that `--mask auto` comes to: that of the run whose settings these are, else by what is installed."""
    return settings.decided.get("mask") or ("fsl-bet" if shutil.which("bet") else "bet")


def _chosen_times(run: GreRun, settings: Settings) -> tuple[float, ...]:
    times = run.echo_times_s
    chosen = settings.steps["input"].echo_numbers()
    if chosen is None:
        return times
    if chosen[-1] > len(times):
        raise ValueError(f"{run.name}: --echoes asks for echo {chosen[-1]}, but there are {len(times)}.")
    return tuple(times[number - 1] for number in chosen)


def _not_for_results(settings: Settings) -> tuple[Warning, ...]:
    if settings.pipeline != SLOPPY:
        return ()
    text = "This is a sloppy run: it shows whether the dataset can be processed; its maps are of low quality."
    return (Warning("sloppy", text, "Run again without --sloppy for maps to be used."),)


def _readout(run: GreRun, settings: Settings) -> tuple[Warning, ...]:
    """What the sidecar tells of a bipolar readout; ValueError where its correction is asked for and cannot be made."""
    choice, echoes = settings.steps["input"].bipolar, len(run.echoes)
    if choice in ("plane", "mcpc-3d-s") and echoes < 3:
        raise ValueError(f"{run.name}: --bipolar {choice} needs three or more echoes; there are {echoes}. Leave it "
                         "out: with fewer the phase of a bipolar readout cannot be told from the field.")  # fmt: skip
    if choice == "mcpc-3d-s" and settings.method("phase-offset") != "mcpc-3d-s":
        raise ValueError("--bipolar mcpc-3d-s is a part of --phase-offset mcpc-3d-s; choose that, or --bipolar plane.")
    if "bipolar" not in str(run.metadata.get("ReadoutPolarity", "")).lower() or echoes < 2:
        return ()
    told = "The sidecar says that the readout was bipolar (ReadoutPolarity)"
    if echoes < 3:
        text = (
            f"{told}: with two echoes the phase between odd and even ones cannot be told from the field, so that it is "
            "not corrected and becomes field."
        )
        return (Warning("bipolar-two-echoes", text, "Acquire three or more echoes, with monopolar readout."),)
    will = "the phase between odd and even echoes stays (--bipolar off)"
    if choice != "off":
        will = "the phase between odd and even echoes is corrected" + (" where it shows" if choice == "auto" else "")
    remedy = "Acquire with monopolar readout, as the consensus paper advises (2.a); see what the report says of it."
    return (Warning("bipolar-told", f"{told}: {will}.", remedy),)


def _assumptions(run: GreRun, settings: Settings, networks: Mapping[tuple[str, str], NetworkFile]) -> Iterator[Note]:
    """What the settings and the data make of each other, as far as a reader must know of it."""
    for (stage, _), file in networks.items():
        yield Note("network-weights", f"{stage} by a network with the weights {file.path.name}.")
    if settings.method("phase-offset") != "none" and len(run.echoes) == 1:
        yield Note("offset-of-single-echo", "A single echo: its phase offset cannot be removed.")
    if _assumes_no_offset(run, settings):
        text = "Phase offsets are not removed, while unwrapping in time assumes there are none (--romeo-individual)."
        yield Note("offset-assumed-zero", text)
    folded = [f"{entity}-{label}" for entity, label in run.entities.items() if entity not in KEPT_ENTITIES]
    if folded:
        text = f"{', '.join(folded)} of the input's name is folded into acq, as a field map may not have it."
        yield Note("entities-folded", text)
    given = settings.steps["input"].b0_vector()
    yield Note("b0-direction", f"B0 direction: {'as the user gave it' if given else 'from the affine'}.")


def _assumes_no_offset(run: GreRun, settings: Settings) -> bool:
    """Whether later echoes are unwrapped in proportion to echo time although their common offset was left in."""
    follows_time = settings.method("unwrapping") == "romeo" and settings.method("echo-combination") != "nonlinear-fit"
    individual = settings.options_of("unwrapping", "romeo").individual
    return settings.method("phase-offset") == "none" and len(run.echoes) > 1 and follows_time and not individual


def _given_mask(run: GreRun, request: Request) -> BrainMaskSource | None:
    if request.mask_file is not None:
        return BrainMaskSource(request.mask_file, f"{request.mask_file.name}, given by the user")
    for name, folder in request.derivatives:
        path = find_derivative(folder, run, suffix="mask", desc="brain")
        if path is not None:
            return BrainMaskSource(path, f"{path.name} of the derivatives {name}")
    return None


def _given_region(run: GreRun, request: Request, settings: Settings) -> Region | None:
    """The reference region of a segmentation: the file given by the user, else one of the derivatives."""
    options = settings.steps["reference"]
    if "csf" in options.chosen() and settings.method("relaxometry") == "none":
        raise ValueError("--reference csf needs R2*, so several echoes and no --relaxometry none.")
    if "segmentation" not in options.chosen():
        return None
    if options.label is None:
        raise ValueError("--reference segmentation: say which label by --reference-label.")
    if request.segmentation_file is not None:
        return find_region(request.segmentation_file, options.label)
    for _, folder in request.derivatives:
        path = find_derivative(folder, run, suffix="dseg", desc=None)
        if path is not None:
            return find_region(path, options.label)
    raise ValueError(f"{run.name}: --reference segmentation, but there is no segmentation of it; give "
                     "--segmentation-file, or --derivatives with a dseg image on the grid of the images.")  # fmt: skip


def _resolve_mask(settings: Settings, given: BrainMaskSource | None, note: Callable[[str, str], None]) -> Settings:
    asked = settings.method("mask")
    if given is not None or asked not in ("auto", "fsl-bet"):
        return settings
    method = _mask_here(settings) if asked == "auto" else asked
    if method == "fsl-bet" and not shutil.which("bet"):
        by = "--mask fsl-bet" if asked == method else "These settings are of a run that took FSL's BET"
        raise ValueError(f"{by}: no program `bet` on the PATH; install FSL, or take --mask bet.")
    if asked == "auto":
        uses_fsl = method == "fsl-bet"
        note("mask-method", f"Brain extraction by {'FSL BET, found on the PATH' if uses_fsl else BUILT_IN_BET}.")
    return settings.with_method("mask", method)


def _resolve_relaxometry(settings: Settings, times: tuple[float, ...], note: Callable[[str, str], None]) -> Settings:
    wanted = settings.method("relaxometry")
    if len(times) < 2:
        if wanted != "none":
            note("no-relaxometry", "A single echo: no relaxation map.")
        return settings.with_method("relaxometry", "none")
    if wanted == "arlo" and not arlo_applies(times):
        raise ValueError("--relaxometry arlo needs three or more equally spaced echoes; take log-linear.")
    if wanted != "auto":
        return settings
    if not arlo_applies(times):
        text = "R2* by weighted log-linear fit, as ARLO needs three or more equally spaced echoes."
        note("relaxometry-method", text)
    return settings.with_method("relaxometry", usual_method(times))


def _spin_echo(
    run: GreRun, settings: Settings, scans: Sequence[SpinEchoScan], note: Callable[[str, str], None]
) -> tuple[SpinEchoScan | None, list[Note]]:
    """The spin echo scan that gives R2, and what was decided about it.

    A scan that cannot be used is left out with a note, unless a method for it was asked for.
    """
    wanted = settings.method("r2")
    if wanted == "none" or settings.method("relaxometry") == "none":
        if wanted not in ("auto", "none"):
            raise ValueError(f"{run.name}: --r2 {wanted} needs R2* too, so several gradient echoes and a relaxometry.")
        return None, []
    scan, remarks = spin_echo_of(run, scans)
    if scan is None:
        if wanted != "auto":
            raise ValueError(f"{run.name}: --r2 {wanted}, but there is no spin echo scan (MESE) of sub-{run.subject}.")
        return None, []
    problems = check_spin_echo(scan)
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if not errors and wanted != "mono-exponential":
        try:
            train_positions(np.array(scan.echo_times_s))
        except ValueError as error:
            errors = [str(error)]
    if errors:
        if wanted != "auto":
            raise ValueError(errors[0])
        note("spin-echoes-unused", f"The spin echo scan {scan.name} is not used: {errors[0]}")
        return None, []
    used = Note("spin-echoes", f"R2 from the spin echo scan {scan.name}.")
    return scan, [used, *remarks, *(Note(problem.code, f"{problem.found}.") for problem in problems)]


def _resolve_r2(settings: Settings, scan: SpinEchoScan | None) -> Settings:
    wanted = settings.method("r2")
    return settings.with_method("r2", "none" if scan is None else "epg" if wanted == "auto" else wanted)


def _resolve_separation(
    settings: Settings, scan: SpinEchoScan | None, times: tuple[float, ...], note: Callable[[str, str], None]
) -> Settings:
    wanted = settings.method("separation")
    if settings.method("relaxometry") == "none":
        if wanted not in ("none", *PRESETS[settings.pipeline]["separation"]["method"]):
            raise ValueError(f"--separation {wanted} needs R2*, so several echoes and no --relaxometry none.")
        if wanted != "none":
            note("no-separation", "Sources are not separated, as there is no R2*.")
        return settings.with_method("separation", "none")
    if wanted == "decompose":
        if len(times) < LEAST_ECHOES:
            raise ValueError(f"--separation decompose needs {LEAST_ECHOES} echoes or more; there are {len(times)}.")
        if settings.method("echo-combination") == "nonlinear-fit":
            raise ValueError("--separation decompose needs each echo unwrapped, which --echo-combination nonlinear-fit "
                             "does not do; take weighted or linear-fit.")  # fmt: skip
        if registry.find("background", settings.method("background")).needs_network():
            raise ValueError("--separation decompose removes the background of each echo, which "
                             f"{settings.method('background')} cannot; choose another --background.")  # fmt: skip
    if wanted != "auto":
        return settings
    by = "R2 of spin echoes" if scan else "gradient echoes alone, which is approximate"
    note("separation-by", f"Sources are separated with {by}.")
    return settings.with_method("separation", DEFAULT_SEPARATION)


def planned_record(plan: RunPlan) -> list[dict[str, Any]]:
    """Steps as they are planned, before anything ran: for the methods text of --boilerplate-only and --dry-run."""
    records = [Record("input", "prepare", "conversion to radians", notes=list(plan.notes))]
    taken = {kind: reused_record(image) for kind, image in plan.reused.items()}
    replaced = {record.stage for kind, record in taken.items() if kind in IN_PLACE}
    for stage in registry.stages():
        for name in plan.settings.methods[stage]:
            if name == "none" or (stage == "phase-offset" and plan.n_echoes == 1):
                continue
            options = plan.settings.options_of(stage, name)
            if stage == "mask" and plan.brain_mask is not None:
                records.append(Record(stage, "imported", "given mask", notes=[_origin(plan.brain_mask)]))
            elif stage in replaced:
                continue
            elif name == "fsl-bet":
                records.append(Record(stage, name, "FSL BET", ["smith2002"], parameters(options)))
            else:
                method = registry.find(stage, name)
                record = Record(stage, name, method.title, list(method.citations), parameters(options))
                record.state(*_planned_network(plan.networks.get((stage, name))))
                records.append(record)
    for step in ("reliable-mask", "background-mask", "weights", "reference"):
        options = plan.settings.steps[step]
        records.append(Record(step, step, step.replace("-", " "), [], parameters(options)))
    for planned in plan.spaces:
        by = BY_T1W if planned.t1w and plan.anatomy.needs_t1w else BY_MAPS
        title = registration_title(planned.space.name, by)
        records.append(Record(SPACE_STAGE, planned.space.name, title, [*REGISTRATION_CITED, *planned.citations]))
    records = sorted([*records, *taken.values()], key=lambda record: rank_of(record.stage))
    return [dataclasses.asdict(record) for record in records]


def _origin(mask: BrainMaskSource) -> Note:
    """Where a given mask comes from."""
    return Note("mask-origin", f"Brain mask: {mask.origin}.")


def _planned_network(weights: NetworkFile | None) -> tuple[Fact, ...]:
    """What the card of a step's weights says; nothing for a step without a network."""
    if weights is None:
        return ()

    card = read_card(weights.card)
    return network_facts(weights.path, card.spec.name, card.document)
