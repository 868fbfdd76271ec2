"""What the inversions by deep networks share: one call from fields in ppm to a map."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from qsmprep.findings import Fact, Warning, key_of
from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_field
from qsmprep.inversion.network_adaptation import Adapter
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.seen import PhaseTerm
from qsmprep.nets.spec import NOT_NEGATIVE
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.data_return import returned_to_field
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.inference import FieldFilter
    from qsmprep.nets.network import Network


# More than 8 parameters: those of `predict`, and the name of the method for its messages.
def invert_by_network(
    network: Network,
    method: str,
    fields_ppm: Mapping[str, np.ndarray],
    mask: np.ndarray,
    *,
    scan: Scan,
    options: InferenceOptions,
    term: PhaseTerm | None = None,
    adapt: Adapter | None = None,
    vsharp: FieldFilter | None = None,
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by a network, its first output, and beside it what others it has.

    Parameters
    ----------
    network : trained for what `options.role` says.
    method : name of the method, for messages.
    fields_ppm : quantity -> (n0, n1, n2) in ppm.
    mask : (n0, n1, n2) where they are valid.
    scan : voxel size and direction of B0.
    options : InferenceOptions of the method.
    term : of a non-linear data term, for networks that have one and for adaptation.
    adapt : what adapts the network to the scan, if anything shall.
    vsharp : makes the tissue field that networks of the total field are shown.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; as the network was trained it has its own zero, so reference it.

    Raises
    ------
    ValueError : a network for another task, a field that is not in ppm, shapes that differ, an empty mask.
    """
    from qsmprep.nets.inference import predict

    begin = time.perf_counter()
    options.role.check(network.spec, method)
    checked = {quantity: checked_field(field, mask)[0] for quantity, field in fields_ppm.items()}
    if not network.spec.masked:  # it is shown what lies around the mask too
        checked = dict(fields_ppm)
    inside = np.asarray(mask) > 0
    found = predict(
        network, checked, inside, scan=scan, options=options, term=term, adapt=adapt, vsharp=vsharp,
        memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
    (_, chi), *others = found.maps.items()
    beside = dict(others)
    if times := getattr(options, "returns", 0):
        field = checked["tissue-field"] - beside.get("off-diagonal-field", np.float32(0))
        weights = None if term is None else term.weights
        chi = returned_to_field(chi, field, inside, scan=scan, times=times, weights=weights)
    sizes = tuple(_size(quantity, values[inside], quantity in NOT_NEGATIVE) for quantity, values in beside.items())
    facts = found.facts + sizes
    warnings = found.warnings
    end = Convergence(1, True, (), "network", time.perf_counter() - begin)
    if adapt is not None and adapt.outcome is not None:
        end = dataclasses.replace(adapt.outcome.convergence, monitored="loss of the adaptation to the case")
        by = adapt.options.method
        if not adapt.outcome.improved:
            text = "The loss of the adaptation to the case rose, so that the map is that of the network as trained."
            warnings += (Warning("adaptation-rose", text, f"Lower --{method}-adapt-learning-rate."),)
            by = f"nothing, as the loss of {by} rose"
        facts += (
            Fact("network_adapted_by", "adapted to the case by", "", by),
            Fact("adaptation_seconds", "duration of the adaptation", "s", round(adapt.outcome.seconds, 1)),
        )
    return Inversion(chi, inside, end, warnings, facts, beside)


def _size(quantity: str, values: np.ndarray, positive: bool) -> Fact:
    """How large a further output is: the median of what is never negative, else the standard deviation."""
    if positive:
        middle = float(np.median(values))
        return Fact(f"median_{key_of(quantity)}", f"median {quantity.replace('-', ' ')}", "ppm", middle)
    deviation = float(values.std(dtype=np.float64))
    return Fact(f"sd_of_{key_of(quantity)}", f"standard deviation of the {quantity}", "ppm", deviation)
