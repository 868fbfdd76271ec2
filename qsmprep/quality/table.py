"""Every quality number: what it is, in which unit, which limits it has, and what a value beyond them means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """One quality number.

    Attributes
    ----------
    title, unit, description : for people; unit "1" for a ratio.
    low, high : limits beyond which it is flagged; None for none.
    artefact : what a value beyond a limit probably shows, in the words of the consensus paper where it has some.
    remedy : what to do then.
    severe : whether a flag of it makes the run unusable, not merely one to look at.
    basis : how the limits were chosen.
    """

    title: str
    unit: str
    description: str
    low: float | None = None
    high: float | None = None
    artefact: str = ""
    remedy: str = ""
    severe: bool = False
    basis: str = ""


# fmt: off
DEFINITIONS: dict[str, Definition] = {
    # phase
    "phase_linearity": Definition(
        "Phase linearity residual", "rad",
        "R.m.s. misfit of the unwrapped phase over the echoes to a straight line in each voxel, weighted by the "
        "squared magnitude; bright voxels of mask 3.", high=0.08,
        artefact="Phase that does not grow linearly with echo time: a wrong echo time, motion, flow, or much noise.",
        remedy="Compare EchoTime of every echo with the protocol; look at each echo's phase; leave bad echoes out "
               "(--echoes).",
        basis="About 0.6 Hz or 5 ppb at 3 T over a usual echo train, which is of the order of the contrast between "
              "grey and white matter; noise alone makes 0.05 at the lowest SNR allowed."),
    "phase_nonlinearity": Definition(
        "Systematic phase non-linearity", "rad",
        "The same after averaging the misfit over cubes of 6 mm, which removes noise.", high=0.05,
        artefact="Phase that does not grow linearly with echo time: a wrong echo time, an unwrapping error of single "
                 "echoes, motion, or a bipolar readout.",
        remedy="Compare EchoTime of every echo with the protocol; look at each echo's unwrapped phase; with a bipolar "
               "readout try --bipolar mcpc-3d-s.",
        basis="Compartments of white matter differ by some Hz, about 0.03 rad over an echo train (r.m.s.); clean "
              "simulated heads stay below 0.01."),
    "echo_time_offset": Definition(
        "Error common to all echo times", "ms",
        "By how much all recorded echo times seem too long: slope of phase at echo time 0 against the field, for "
        "structure between 3 and 9 mm.", low=-1.5, high=1.5,
        artefact="Wrong echo times: phase at echo time 0 follows the tissue's field, which it must not.",
        remedy="Compare EchoTime in the sidecars with the protocol; an echo left out or a reference other than the "
               "excitation's centre shifts all by the same.", severe=True,
        basis="Errors of half a pulse or an echo spacing are larger; a real scan with imperfect offset removal had "
              "0.6, clean simulated heads 0.1."),
    "bipolar_phase": Definition(
        "Phase plane between odd and even echoes", "rad",
        "Range over the mask of the plane by which the phase of odd and even echoes differs.", high=0.15,
        artefact="Bipolar readout without correction: eddy currents and gradient delays.",
        remedy="Leave --bipolar at auto, or try --bipolar mcpc-3d-s; acquire with monopolar readout.",
        basis="Gradient delays and eddy currents give tenths of a radian to several; monopolar simulated heads stay "
              "below 0.01."),
    "unreliable": Definition(
        "Unreliable voxels", "%", "Share of the brain mask (1) outside the mask of reliable phase (2).", high=10.0,
        artefact="Phase errors: noise, motion, signal dropout, or a mask that holds more than brain.",
        remedy="Look at the quality map and the brain mask.",
        basis="A tenth of the brain; clean simulated heads lose 1 %, a real scan 3 %."),
    "residual_wraps": Definition(
        "Residual phase wraps", "%",
        "Share of pairs of neighbours in mask 3, a voxel away from dropouts, whose unwrapped phase of the first echo "
        "differs by more than pi.", high=0.02,
        artefact="Phase wraps left: an unwrapping error makes steps of 2 pi.",
        remedy="Look at the unwrapped phase; try --unwrapping laplacian, other ROMEO weights or another mask.",
        severe=True,
        basis="Two pairs in ten thousand: a third of what a ball of 8 mm radius a turn off cuts; real fields near "
              "dropouts are left out."),
    "open_fringes_input": Definition(
        "Open-ended fringe lines of the scanner's phase", "cm",
        "Length of the lines around which the wrapped phase of the first echo, as it came, turns by 2 pi; bright "
        "voxels of the brain mask, 3 voxels below its rim and one from any dropout.", high=5.0,
        artefact="Open-ended fringe lines: the scanner combined the coils' phase wrongly.",
        remedy="Export the coils' images, or a combination with phase offset removal (ASPIRE, MCPC-3D-S, VRC); look "
               "whether the offset removal of this run took the lines away.",
        basis="Half of one line through the brain; none in clean simulated heads, 3 in a real scan with large "
              "voxels and a late first echo."),
    "open_fringes": Definition(
        "Open-ended fringe lines left", "cm",
        "The same after phase offset removal.", high=5.0,
        artefact="Open-ended fringe lines remain in the phase that the field is made of.",
        remedy="Do not use regions near these lines; export the coils' images and combine them anew.", severe=True,
        basis="As before offset removal."),
    "peak_snr": Definition(
        "Peak signal-to-noise ratio", "1",
        "99.9th percentile of the first echo's magnitude over the noise's s.d., from the field's finest details.",
        low=25.0,
        artefact="Noise: thermal, or ghosts of motion.",
        remedy="Look for motion; use larger voxels, fewer or other echoes, or a more regularised inversion.",
        basis="The phase noise of the first echo is then 0.04 rad in the brightest tissue and 0.1 rad in dark ones."),
    "field_noise": Definition(
        "Noise of the total field", "Hz", "Median s.d. of the total field in mask 3 that this noise makes."),
    "ghost_level": Definition(
        "Ghosts in the air", "%",
        "R.m.s. signal of the first echo in the air above its noise, over the brain's median.", high=3.0,
        artefact="Motion or pulsation ghosts.",
        remedy="Look at the magnitude in a window for the air; repeat the scan.",
        basis="Ghosts of 3 % of the signal turn the phase by up to 0.03 rad, nearly as much as the noise at the "
              "lowest SNR allowed."),
    # field
    "total_field_rms": Definition(
        "R.m.s. of the total field", "ppm", "Spread of the total field in mask 3 about its mean."),
    "tissue_field_rms": Definition(
        "R.m.s. of the tissue field", "ppm", "Spread of the tissue field in mask 4 about its mean.", high=0.05,
        artefact="Tissue field far above anatomy's: background left over, a wrong unit or unwrapping errors.",
        remedy="Look at the tissue field and its mask.",
        basis="Four times that of clean simulated heads, strong calcifications included, and of a real scan."),
    "background_rim": Definition(
        "Field at the rim", "1", "R.m.s. of the tissue field in the outer three voxels of mask 4 over that inside.",
        high=3.0,
        artefact="Background field leaks in at the rim (missing tissue or mask errors).",
        remedy="Erode more (--background-mask-erosion-voxels), check the mask, or try another --background.",
        basis="The field of tissue is as strong at the rim as inside; three times allows for veins at the surface."),
    "background_harmonics": Definition(
        "Harmonic rest in the tissue field", "%",
        "Share of the tissue field's energy in mask 4 that harmonic polynomials up to degree 3 explain.", high=50.0,
        artefact="Background field left over: shadows in the map.",
        remedy="Try another --background, or a mask that leaves the sinuses out.",
        basis="Sources inside the mask have no reason to make a field without sources; yet clean simulated heads "
              "have up to 31 %, and V-SHARP's filter leaves less than others."),
    # masks
    "mask_volume": Definition(
        "Brain mask volume", "ml", "Volume of the brain mask (1).", low=900.0, high=2000.0,
        artefact="Missing tissue, or a mask that holds more than brain (adults).",
        remedy="Look at the mask; give one by --mask-file; children and partial coverage are expected to be below.",
        basis="Brains of adults, with some room."),
    "mask_holes": Definition(
        "Holes in the mask", "%", "Voxels that mask 4 encloses without holding them, over the brain mask's.", high=1.0,
        artefact="Missing tissue inside the mask.", remedy="Look at mask 4 and at --background-mask-fill-holes.",
        basis="Larger than vessels and common lesions."),
    "mask_lost": Definition(
        "Brain lost up to the map", "%", "Share of the brain mask (1) outside mask 4.", high=40.0,
        artefact="Missing tissue: eroded or unreliable.",
        remedy="Erode less, or take a background method that keeps the rim (pdf, lbv, iharperella).",
        basis="Consensus masks lose 13 to 21 % to erosion; twice that is a choice to be aware of."),
    "air_in_mask": Definition(
        "Air in the brain mask", "%",
        "Share of the brain mask where the first echo is below 15 % of its median, where most neighbours are as dark.",
        high=0.15,
        artefact="Mask error: it leaks into a sinus or out of the brain, or signal dropped out.",
        remedy="Look at the mask near the sinuses; take --mask net, give a mask by --mask-file, or with BET raise "
        "--bet-fractional-intensity.",
        basis="About 2 ml of a brain; masks that fit have 0.005 % and less in simulated heads, none in a real scan."),
    "brain_outside_mask": Definition(
        "Brain outside the mask", "%",
        "Volume that looks like brain and hangs together with the mask within 20 mm, over the mask's.", high=8.0,
        artefact="Missing tissue: the brain mask is too small.",
        remedy="Look at the mask; take --mask net, give a mask by --mask-file, or with BET lower "
        "--bet-fractional-intensity.",
        basis="More than fluid, meninges and brain stem outside a good mask; the built-in BET leaves 0.6 % and less "
              "in simulated heads, 0.04 % in a real scan."),
    # map
    "chi_sd_white_matter": Definition(
        "S.d. of susceptibility in white matter", "ppm",
        "1.4826 times the median absolute deviation of susceptibility in voxels deep in mask 4 whose R2* lies between "
        "its 30th and 70th percentile there, most of which are white matter.", high=0.06,
        artefact="Noise or streaking in the map.", remedy="Regularise more; look for streaks.",
        basis="White matter varies by 0.02 to 0.03 ppm with fibre direction and myelin."),
    "streaking": Definition(
        "Streaking index", "1",
        "Power of the map where the dipole kernel is below 0.1 over that elsewhere at the same spatial frequency.",
        high=1.6,
        artefact="Streaking: inconsistent data or too little regularisation.",
        remedy="Regularise more; with FANSI also leave out unreliable voxels (--fansi-residual-threshold) or merge two "
        "passes (--fansi-two-pass).",
        severe=True,
        basis="1 without streaks; clean simulated heads stay below 1.3."),
    "shadow": Definition(
        "Shadow index", "1", "S.d. of the map smoothed over 3 cm over its s.d.", high=0.6,
        artefact="Shadowing: slow variation left by background field, mask or inversion.",
        remedy="Try another --background or the weak-harmonic option of FANSI.",
        basis="Simulated anatomy itself has up to 0.41, a real scan 0.46."),
    "data_residual": Definition(
        "Misfit to the tissue field", "1",
        "R.m.s. of the map's own field less the tissue field over that of the tissue field, in mask 4.", high=0.8,
        artefact="The map does not explain the field: background left over, wrong B0 direction or strong "
                 "regularisation.",
        remedy="Check B0's direction and the tissue field.",
        basis="0.2 to 0.41 in clean simulated heads, 0.63 in a real scan; at 1 the map explains nothing."),
    "b0_direction_error": Definition(
        "Error of B0's direction", "degrees",
        "Angle between B0 as used and the axis whose dipole kernel explains the tissue field's own spectrum best.",
        high=3.0,
        artefact="Wrong direction of B0: streaking and wrong values.",
        remedy="Check the affine of the images (was it rotated, reset or lost?) or give --b0-direction.", severe=True,
        basis="28 simulated heads of 1.5 to 3 mm have 0.02 to 2.5, a real scan 2.1; with B0 turned by 5 degrees to "
              "eight sides of each, 2.6 to 7.5, of which 99 % are above. Oblique voxels of the simulation bound it: "
              "fields made with the kernel of points have 0.8 and less."),
    "iron_contrast": Definition(
        "Susceptibility where R2* is highest", "ppm",
        "Median susceptibility of the deep voxels in the top fiftieth of R2* less that of the other deep voxels.",
        low=0.0,
        artefact="Wrong sign of the phase: iron would be diamagnetic.",
        remedy="Use --phase-sign invert (or keep); check how the phase was exported.", severe=True,
        basis="Iron is paramagnetic; no margin is needed for the sign."),
    "r2star_relative": Definition(
        "R2* over what is expected", "1",
        "Median R2* deep in mask 4 over that of white matter at this field strength (7.5 + 4.2 B0 1/s).",
        low=0.6, high=1.7,
        artefact="Wrong scale of the echo times, or signal lost to field gradients.",
        remedy="Compare EchoTime with the protocol (unit, spacing).",
        basis="R2* of white matter over people, methods and voxel sizes; a factor of two in the echo times is "
              "outside."),
    "reference_mean": Definition(
        "Mean of the reference region", "ppm", "Before it was subtracted."),
    "reference_sd": Definition(
        "S.d. of the reference region", "ppm", "Over its voxels."),
}
# fmt: on
