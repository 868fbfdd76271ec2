"""What to do about each warning, told beside it in the report."""

from __future__ import annotations

import re

LOOK = "Look at this step's pictures before the map is used; run the step with another method if they are not good."

# The first pattern found in a warning gives its remedy; what a warning says itself is not repeated.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"high-pass filtered|phase filtered for SWI", "Export the unfiltered phase from the scanner and run again; do not use this map."),
    (r"cap of \d+ iterations", "Raise the method's cap of iterations or loosen its tolerance; if the curve below is flat, the map may be used."),
    (r"no neighbour to unwrap from", "Look at the mask for islands; a smaller mask (--mask, --bet-fractional-intensity) leaves them out."),
    (r"differ by more than half a turn", "Look at the unwrapped phase for sharp edges; take a stricter reliable mask or unwrap each echo by itself (--romeo-individual)."),
    (r"brain mask holds", "Look at the outline of mask 1; set --bet-fractional-intensity, or give a mask by --mask-file."),
    (r"of the brain mask is left", "Look at the quality map: motion, low signal or a wrong phase scaling; loosen the threshold of the reliable mask if it looks good."),
    (r"NaN or infinite|are set to zero", "Convert the images again; harmless outside of the head."),
    (r"^Sign test|sign of", "Compare bright nuclei with R2*: if iron is dark, run again with --phase-sign invert."),
    (r"Network ", "Compare with a method without a network, such as fansi, before the values are used."),
    (r"trained|training|signal-to-noise", "The network saw other images in its training: compare with a method without a network."),
    (r"Stimulated echoes", "Take --r2 epg, which models them."),
    (r"there is no spin echo scan", "Acquire a spin echo scan (MESE) where the separation of sources matters."),
    (r"registered magnitudes correlate|magnitudes correlate", "Look at the outline on the registered image; leave the scan out by --r2 none if it does not fit."),
    (r"spin echo scan covers", "Do not use R2' and the separated sources outside of the covered part."),
    (r"spin echo \d+ is missing", "Add the file if it exists."),
    (r"single echo", "Acquire several echoes next time; take care with values near the mask's edge."),
    (r"2D acquisition", "Look at the phase for jumps from slice to slice; acquire in 3D next time."),
    (r"[Pp]artial Fourier", "Expect blur along that direction; scan with full sampling next time."),
    (r"echo planar", "Correct the geometric distortion before regions are compared with other images."),
    (r"later than echo", "Check the echo numbers of the file names; the echo times were followed."),
    (r"Units|scaling|radians", "Check that the wrapped phase in the first picture runs from -π to π; write Units into the sidecar."),
    (r"record of this run is missing", "Run qsmprep again for this participant to have its whole record."),
)  # fmt: skip


def remedy_of(warning: str) -> str:
    """What to do about a warning.

    >>> remedy_of("Stopped at the cap of 30 iterations, before the tolerance was met.").split(";")[0]
    "Raise the method's cap of iterations or loosen its tolerance"
    """
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, warning)), LOOK)
