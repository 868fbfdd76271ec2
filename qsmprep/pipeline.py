"""The front door for people with arrays: from magnitude and phase to susceptibility, in one call or step by step.

    scan = qsmprep.Scan((1, 1, 1), echo_times_s=(0.005, 0.011, 0.017), centre_frequency_mhz=123.25)
    result = qsmprep.reconstruct(magnitude, phase, scan)
    result.chi_ppm

The steps are the functions that the program's nodes call, with the same settings, so that both give the same maps.
Here `magnitude` and `phase` always hold the echoes, (n_echo, n0, n1, n2), the phase in rad, growing with the field; the
unit of a field is in its name. Phase in another unit becomes radians by `qsmprep.phase.scaling.to_radians`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from qsmprep import registry, settings
from qsmprep.background import BackgroundRemoval
from qsmprep.background.refinement import refine_background
from qsmprep.field.nonlinear import increment_to_field
from qsmprep.field.weights import data_weights, relative_residual
from qsmprep.inversion.reference import reference_to
from qsmprep.masking.bet import BetOptions, brain_image
from qsmprep.masking.consensus import background_mask, reliable_mask
from qsmprep.masking.robust import signal_threshold
from qsmprep.masking.tissue import decay_rate
from qsmprep.masking.ventricles import csf_mask, enough_csf
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.units import TWO_PI, check_susceptibility_ppm, hz_to_ppm
from qsmprep.phase.bipolar import find_bipolar, readout_warnings, remove_bipolar, takes_plane
from qsmprep.phase.fringes import fringe_warnings, open_fringes
from qsmprep.presets import DEFAULT_PIPELINE
from qsmprep.relaxometry import usual_method
from qsmprep.relaxometry.macroscopic import undo_gradient_loss
from qsmprep.results import (
    Echoes,
    Masks,
    Reconstruction,
    RelaxationMaps,
    StepRecord,
    Susceptibility,
    TissueField,
    TotalField,
)
from qsmprep.scan import Scan
from qsmprep.settings import Settings
from qsmprep.weights.search import find_weights

Choice = Settings | str | Mapping[str, Any]
BUILT_IN_BRAIN_EXTRACTION = registry.STANDS_FOR["mask", "auto"]  # what `auto` means where there are no programs to call
LARGEST_PHASE = TWO_PI  # rad; what is above is no wrapped phase in rad


# More than 8 parameters: what was measured, what was chosen, and what is known from elsewhere, each by name.
def reconstruct(
    magnitude: RealArray,
    phase: RealArray,
    scan: Scan,
    *,
    preset: str = DEFAULT_PIPELINE,
    options: Choice | None = None,
    brain: Mask | None = None,
    reference: Mask | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Reconstruction:
    """Susceptibility of multi-echo gradient-echo images, as `qsmprep BIDS_DIR OUTPUT_DIR participant` computes it.

    Parameters
    ----------
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad.
    scan : voxel size, direction of B0, one echo time an echo, centre frequency.
    preset : name of a pipeline, "consensus-fansi" and so on; see `qsmprep.presets.PRESETS`.
    options : settings in place of the preset: those of `qsmprep.settings.build`, or a document for it as
        {"background": {"method": "pdf"}, "inversion": {"fansi": {"alpha1": 1e-4}}}.
    brain : (n0, n1, n2) brain mask made elsewhere; None: it is extracted.
    reference : (n0, n1, n2) reference region, for the reference "segmentation".
    device : "cpu", or a torch device.
    progress : called as progress(steps done, steps).

    Returns
    -------
    Reconstruction.

    Raises
    ------
    ValueError : shapes that do not belong together, phase that is not in rad, facts of the scan that a method needs and
        that are not known, or options that make no sense.
    """
    chosen = chosen_settings({"pipeline": preset} if options is None else options, preset)
    tell = progress or (lambda done, total: None)
    steps = 6
    echoes = prepare(magnitude, phase, scan, options=chosen, device=device)
    tell(1, steps)
    if brain is None:
        head, extraction = _extracted_brain(echoes, chosen)
    else:
        head, extraction = np.asarray(brain) > 0, StepRecord("mask", "imported", "given mask")
    tell(2, steps)
    total = total_field(echoes, head, options=chosen, device=device)
    tell(3, steps)
    decay = relaxation(echoes, head, total, options=chosen, device=device)
    tell(4, steps)
    tissue = tissue_field(total, head, echoes.scan, options=chosen, device=device)
    tell(5, steps)
    chi = susceptibility(tissue, total, echoes, decay, options=chosen, reference=reference, device=device)
    tell(6, steps)
    parts = (total, decay, tissue, chi)
    later = (record for part in parts if part is not None for record in part.records)
    records = (*echoes.records, extraction, *later)
    masks = replace(tissue.masks, qsm=chi.mask)
    return Reconstruction(
        chi.chi_ppm, tissue.field_hz, total.field_hz, total.noise_hz, masks, decay, records, _resolved(chosen, echoes)
    )


def chosen_settings(options: Choice | None, preset: str = DEFAULT_PIPELINE) -> Settings:
    """Settings of a preset's name, a document, or themselves; None: those of the preset."""
    if isinstance(options, Settings):
        return options
    if isinstance(options, str):
        return settings.build({"pipeline": options})
    return settings.build({"pipeline": preset, **(options or {})})


def prepare(
    magnitude: RealArray, phase: RealArray, scan: Scan, *, options: Choice | None = None, device: str = "cpu"
) -> Echoes:
    """Step 1: the echoes without the part of their phase that does not grow with echo time, and those that are used.

    Parameters
    ----------
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad.
    scan : one echo time an echo.
    options, device : as in `reconstruct`.
    """
    chosen = chosen_settings(options)
    magnitude, phase = _images(magnitude), _images(phase)
    if magnitude.ndim == 3:
        magnitude, phase = magnitude[None], phase[None]
    if magnitude.ndim != 4 or magnitude.shape != phase.shape:
        raise ValueError(f"Magnitude and phase must be (n_echo, n0, n1, n2); got {magnitude.shape} and {phase.shape}.")
    if len(scan.known_echo_times_s) != len(phase):
        raise ValueError(f"{len(phase)} echoes, but {len(scan.echo_times_s)} echo times.")
    largest = float(np.abs(phase).max())
    if not largest <= LARGEST_PHASE:
        raise ValueError(
            f"The phase reaches {largest:.4g}: it must be in rad, wrapped and finite. Convert it by "
            "qsmprep.phase.scaling.to_radians."
        )
    combined = np.sqrt(np.einsum("exyz,exyz->xyz", magnitude, magnitude))
    phase, records = _corrected_readout(magnitude, phase, combined, scan, chosen)
    if len(phase) > 1 and (told := fringe_warnings(open_fringes(phase, magnitude, scan.voxel_size_mm), "")):
        records += (StepRecord("input", "fringes", "open-ended fringes", {}, None, told),)
    if chosen.method("phase-offset") != "none" and len(phase) > 1:
        bipolar = chosen.steps["input"].bipolar == "mcpc-3d-s" or None
        found, record = _run(
            "phase-offset", chosen, device, phase=phase, magnitude=magnitude, scan=scan, bipolar=bipolar
        )
        phase, records = _images(found.phase), (*records, record)
    numbers = chosen.steps["input"].echo_numbers()
    if numbers is not None:
        if numbers[-1] > len(phase):
            raise ValueError(f"Echo {numbers[-1]} is asked for, but there are {len(phase)}.")
        kept = [number - 1 for number in numbers]
        scan = replace(scan, echo_times_s=tuple(scan.echo_times_s[i] for i in kept))
        magnitude, phase = magnitude[kept], phase[kept]
    return Echoes(magnitude, phase, combined, scan, records)


def _corrected_readout(
    magnitude: RealArray, phase: RealArray, combined: RealArray, scan: Scan, chosen: Settings
) -> tuple[RealArray, tuple[StepRecord, ...]]:
    """The phase without the plane of a bipolar readout where that is taken off, and a record where there is one."""
    choice = chosen.steps["input"].bipolar
    if len(phase) < 3:
        return phase, ()
    head = combined > signal_threshold(combined)
    found = find_bipolar(phase, magnitude, scan=scan, mask=head)
    warnings = readout_warnings(found, choice)
    if found is not None and takes_plane(choice, found):
        phase = phase.copy()
        remove_bipolar(phase, found)
    elif not warnings:
        return phase, ()
    title = "phase between odd and even echoes"
    return phase, (StepRecord("input", "bipolar", title, {"bipolar": choice}, None, warnings),)


def brain_mask(echoes: Echoes, *, options: Choice | None = None) -> Mask:
    """Step 2: consensus mask 1, (n0, n1, n2) bool; `auto` is the built-in brain extraction."""
    return _extracted_brain(echoes, chosen_settings(options))[0]


def _extracted_brain(echoes: Echoes, chosen: Settings) -> tuple[Mask, StepRecord]:
    method = chosen.method("mask")
    if method == "fsl-bet":
        raise ValueError("fsl-bet is a program that the command line calls; give its mask as `brain`, or take bet.")
    method = BUILT_IN_BRAIN_EXTRACTION if method == "auto" else method
    image = getattr(chosen.options_of("mask", BUILT_IN_BRAIN_EXTRACTION), "image", "first-echo")
    seen = brain_image(_single(echoes.magnitude), options=BetOptions(image=image))
    direction = np.array(echoes.scan.b0_direction)
    found, record = _run(
        "mask", chosen, "cpu", method, image=seen, scan=echoes.scan,
        superior_direction=tuple(float(part) for part in direction / np.linalg.norm(direction)),
        decay=decay_rate(_single(echoes.magnitude), echoes.scan.echo_times_s),
    )  # fmt: skip
    return np.asarray(found) > 0, record


def total_field(echoes: Echoes, brain: Mask, *, options: Choice | None = None, device: str = "cpu") -> TotalField:
    """Step 3: unwrapping and echo combination, in either order.

    Parameters
    ----------
    echoes : of `prepare`.
    brain : (n0, n1, n2) where to unwrap.
    options, device : as in `reconstruct`.
    """
    chosen = chosen_settings(options)
    scan, magnitude = echoes.scan, echoes.magnitude
    if chosen.method("echo-combination") == "nonlinear-fit":
        fit, fitted = _run(
            "echo-combination", chosen, device, phase=echoes.phase, magnitude=magnitude, mask=brain, scan=scan
        )
        found, unwrapped = _run(
            "unwrapping", chosen, device, phase=_images(fit.increment_rad), mask=brain,
            magnitude=np.sqrt(np.einsum("exyz,exyz->xyz", magnitude, magnitude)),
            scan=replace(scan, echo_times_s=(scan.echo_spacing_s,)),
        )  # fmt: skip
        field = increment_to_field(_images(found.phase), fit)
        return TotalField(
            _images(field.field_hz), _images(field.noise_hz), _images(found.phase), _images(found.quality),
            (fitted, unwrapped),
        )  # fmt: skip
    found, unwrapped = _run(
        "unwrapping", chosen, device, phase=_single(echoes.phase), magnitude=_single(magnitude), mask=brain, scan=scan
    )
    phase = _images(found.phase)
    joined, record = _run(
        "echo-combination", chosen, device, unwrapped_phase=phase if phase.ndim == 4 else phase[None],
        magnitude=magnitude, mask=brain, scan=scan,
    )  # fmt: skip
    return TotalField(
        _images(joined.field_hz), _images(joined.noise_hz), phase, _images(found.quality), (unwrapped, record)
    )


def relaxation(
    echoes: Echoes, brain: Mask, field: TotalField, *, options: Choice | None = None, device: str = "cpu"
) -> RelaxationMaps | None:
    """Step 4: R2*, T2* and S0; None for a single echo, or where the settings want none."""
    chosen = _resolved(chosen_settings(options), echoes)
    if chosen.method("relaxometry") == "none":
        return None
    magnitude, times = echoes.magnitude, echoes.scan.known_echo_times_s
    kind = chosen.steps["r2star"].field_gradient
    if kind != "none":
        magnitude, _ = undo_gradient_loss(magnitude, field.field_hz, brain, echo_times_s=times, kind=kind)
    found, record = _run("relaxometry", chosen, device, magnitude=magnitude, mask=brain, echo_times_s=times)
    r2star, t2star, s0 = (_images(np.where(brain, image, 0)) for image in (found.r2star, found.t2star_s, found.s0))
    return RelaxationMaps(r2star, t2star, s0, (record,))


def tissue_field(
    total: TotalField, brain: Mask, scan: Scan, *, options: Choice | None = None, device: str = "cpu"
) -> TissueField:
    """Step 5: the consensus masks 2 and 3, and background field removal within them.

    Parameters
    ----------
    total : of `total_field`.
    brain : consensus mask 1.
    scan : geometry and centre frequency.
    options, device : as in `reconstruct`.
    """
    chosen = chosen_settings(options)
    wanted = chosen.steps["reliable-mask"]
    maps = {"quality": total.quality} if wanted.source == "quality" else {"noise": total.noise_hz}
    reliable = reliable_mask(**maps, options=wanted)
    joined = background_mask(brain, reliable, options=chosen.steps["background-mask"])

    def remove(field_hz: FloatImage) -> tuple[BackgroundRemoval, StepRecord]:
        return _run(
            "background", chosen, device, total_field=field_hz, mask=joined.eroded, scan=scan, noise=total.noise_hz
        )

    removed, record = remove(total.field_hz)
    refinement = chosen.steps["background-refinement"]
    removed = refine_background(
        total.field_hz, removed, lambda field: remove(field)[0], scan=scan, noise_hz=total.noise_hz,
        options=refinement, device=device,
    )  # fmt: skip
    masks = Masks(brain, reliable, joined.mask, joined.eroded, np.asarray(removed.mask) > 0)
    return TissueField(_images(removed.tissue_field), masks, (record,))


# More than 8 parameters: none can be derived from the others.
def susceptibility(
    tissue: TissueField,
    total: TotalField,
    echoes: Echoes,
    relaxation: RelaxationMaps | None = None,
    *,
    options: Choice | None = None,
    reference: Mask | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Susceptibility:
    """Step 6: data weights, dipole inversion by the first of the chosen methods, and the reference.

    Parameters
    ----------
    tissue, total, echoes : of the steps before.
    relaxation : R2*, for the residual of the signal model and the reference "csf"; None where there is none.
    options, device : as in `reconstruct`.
    reference : (n0, n1, n2) region whose mean is 0, for the reference "segmentation".
    progress : called as progress(iteration, iterations).
    """
    chosen = chosen_settings(options)
    scan, times = echoes.scan, echoes.scan.known_echo_times_s
    method = registry.find("inversion", chosen.method("inversion"))
    mask = tissue.masks.qsm if "mask" in method.inputs() else tissue.masks.eroded
    residual = None
    if relaxation is not None:
        residual = _images(
            relative_residual(
                echoes.phase, echoes.magnitude, r2star=relaxation.r2star, field_hz=total.field_hz, echo_times_s=times,
                mask=mask,
            )
        )  # fmt: skip
    weights = _images(
        data_weights(
            noise_hz=total.noise_hz, magnitude=echoes.magnitude, mask=mask, options=chosen.steps["weights"]
        )
    )  # fmt: skip
    found, record = _run(
        "inversion", chosen, device, progress=progress, scan=scan, mask=tissue.masks.qsm,
        total_mask=tissue.masks.eroded, weights=weights, relative_residual=residual, noise_hz=total.noise_hz,
        field_ppm=hz_to_ppm(tissue.field_hz, scan.frequency_mhz),
        total_field_ppm=hz_to_ppm(total.field_hz, scan.frequency_mhz),
        magnitude_rss=echoes.magnitude_rss, magnitude=echoes.magnitude, phase=echoes.phase,
        r2star=None if relaxation is None else relaxation.r2star,
    )  # fmt: skip
    chi, inside = _images(found.chi_ppm), np.asarray(found.mask) > 0
    check_susceptibility_ppm(chi, inside)
    region = _reference_region(chosen, inside, relaxation, reference, scan)
    if chosen.steps["reference"].main != "none":
        chi = _images(reference_to(chi, inside, region=region).chi_ppm)
    return Susceptibility(chi, inside, weights, (record,))


def _reference_region(
    chosen: Settings, inside: Mask, relaxation: RelaxationMaps | None, given: Mask | None, scan: Scan
) -> Mask | None:
    """The reference region; None for the whole mask."""
    options = chosen.steps["reference"]
    if options.main == "csf":
        if relaxation is None:
            raise ValueError("The reference csf needs R2*: give `relaxation`.")
        csf = csf_mask(relaxation.r2star, inside, voxel_size_mm=scan.voxel_size_mm, largest_r2star=options.csf_r2star)
        return enough_csf(csf)
    if options.main == "segmentation":
        if given is None:
            raise ValueError("The reference segmentation needs a region: give `reference`.")
        return np.asarray(given) > 0
    return None


def _run(stage: str, chosen: Settings, device: str, name: str = "", **available: Any) -> tuple[Any, StepRecord]:
    """Run the chosen method of a stage with what there is, and say what was done."""
    method = registry.find(stage, name or chosen.method(stage))
    options = chosen.options_of(stage, method.name)
    if method.needs_network():
        from qsmprep.weights.store import load_network

        available["network"] = load_network(find_weights(options.weights), device=device)
    present = {key: value for key, value in available.items() if value is not None}
    result = method.run(options, device=device, **present)
    record = StepRecord(
        stage, method.name, method.title, {} if options is None else asdict(options),
        getattr(result, "convergence", None), tuple(getattr(result, "warnings", ())),
    )  # fmt: skip
    return result, record


def _resolved(chosen: Settings, echoes: Echoes) -> Settings:
    """The settings with what `auto` means for these echoes."""
    if chosen.method("mask") == "auto":
        chosen = chosen.with_method("mask", BUILT_IN_BRAIN_EXTRACTION)
    if len(echoes.phase) < 2:
        return chosen.with_method("relaxometry", "none")
    if chosen.method("relaxometry") == "auto":
        return chosen.with_method("relaxometry", usual_method(echoes.scan.echo_times_s))
    return chosen


def _images(array: RealArray) -> RealArray:
    """As the program passes images from step to step: contiguous float32."""
    return np.ascontiguousarray(array, dtype=np.float32)


def _single(echoes: RealArray) -> RealArray:
    """A single echo without the axis of the echoes; several as they are."""
    return echoes[0] if len(echoes) == 1 else echoes
