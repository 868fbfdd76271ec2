"""The acquisition as a paragraph of a methods section, in the order of the consensus paper's sample."""

from __future__ import annotations

from collections.abc import Mapping

from qsmprep.report.acquisition import Entry, is_spoiled, look_up, missing_essentials, times_words
from qsmprep.report.record import Run

NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def acquisition_sentences(run: Run) -> list[str]:
    """Scanner, sequence and what the data do not tell, a sentence each; whatever is known and no more.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024, section 9.1.5.
    """
    sentences = [_scanner(run), _sequence(run), *_stated(run)]
    if missing := missing_essentials(run.acquisition):
        sentences.append(f"Not told by the data, and to be added by the authors: {', '.join(missing).lower()}.")
    return [sentence for sentence in sentences if sentence]


def _text(run: Run, key: str) -> str:
    entry = look_up(run.acquisition, key)
    return entry.text if entry.available else ""


def _scanner(run: Run) -> str:
    field, vendor, model = (_text(run, key) for key in ("field_strength", "vendor", "scanner_model"))
    name = " ".join(filter(None, (field, vendor, model)))
    sentence = f"Images were acquired on a {name} scanner" if name else "Images were acquired"
    if software := _text(run, "scanner_software"):
        sentence += f" (software {software})"
    channels, elements = _text(run, "coil_channels"), _text(run, "coil_elements")
    within = f"{channels} channels" if channels else f"elements {elements}" if elements else ""
    receive = _text(run, "receive_coil")
    coils = [
        f"the transmit coil {transmit}" if (transmit := _text(run, "transmit_coil")) else "",
        f"the receive coil {receive}{f' ({within})' if within else ''}"
        if (receive := _text(run, "receive_coil"))
        else "",
        f"the gradient system {gradients}" if (gradients := _text(run, "gradient_system")) else "",
    ]
    used = _joined([coil for coil in coils if coil])
    return sentence + (f" with {used}" if used else "") + "."


def _sequence(run: Run) -> str:
    entries = {key: look_up(run.acquisition, key) for key in run.acquisition}
    if not any(key in entries and entries[key].available for key in ("echoes", "repetition_time", "voxel_size")):
        return ""
    slab = look_up(run.acquisition, "slab_orientation").parts
    name = _text(run, "sequence_name")
    sentence = f"A {_kind(entries)}" + (f" ({name})" if name else "") + " was used"
    sentence += (
        f" with {'oblique ' if slab.get('oblique') else ''}{slab['plane']} orientation" if "plane" in slab else ""
    )
    details = [
        _pair("TR", _text(run, "repetition_time")),
        _echoes(entries),
        _flow(entries),
        _pair("flip angle", _text(run, "flip_angle").replace(" degrees", "°")),
        _pair("pixel bandwidth", _text(run, "bandwidth")),
        _switch(entries, "elliptical_shutter", "elliptical shutter"),
        _pair("field of view", _text(run, "field_of_view")),
        _pair("acquisition matrix", _text(run, "acquired_matrix")),
        _pair("image matrix", _text(run, "matrix")),
        _pair("voxel size", _text(run, "voxel_size")),
        _pair("acceleration", _text(run, "acceleration")),
        _pair("partial Fourier", _text(run, "partial_fourier")),
        _pair("partial echo", _text(run, "partial_echo")),
        _pair("k-space trajectory", _text(run, "trajectory")),
        _switch(entries, "phase_stabilisation", "phase stabilisation"),
        _pair("acquisition time", _duration(entries)),
    ]
    told = [detail for detail in details if detail]
    return sentence + (": " + "; ".join(told) if told else "") + "."


def _stated(run: Run) -> list[str]:
    """What the sample leaves out and the data tell."""
    frequency = _text(run, "centre_frequency")
    angle = look_up(run.acquisition, "slab_orientation").number_of("degrees_from_b0")
    told = [f"The centre frequency was {frequency}." if frequency else ""]
    return [*told, f"The normal of the slab was {angle:g} degrees from B0." if angle else ""]


def _kind(entries: Mapping[str, Entry]) -> str:
    """The sequence in words: as much of "3D spoiled multi-echo gradient echo" as is known."""
    told = " ".join(str(part) for part in entries.get("sequence_type", Entry()).parts.values())
    dimensions = next((f"{n}D " for n in "32" if f"{n}D" in told), "")
    dimensions += "spoiled " if is_spoiled(entries) else ""
    several = len(entries.get("echoes", Entry()).numbers) > 1
    return f"{dimensions}{'multi-echo ' if several else ''}gradient echo sequence"


def _echoes(entries: Mapping[str, Entry]) -> str:
    entry = entries.get("echoes", Entry())
    count = len(entry.numbers)
    if not count:
        return ""
    polarity = entries.get("readout_polarity", Entry()).text.lower()
    number = NUMERALS[count] if count < len(NUMERALS) else str(count)
    kind = f"{polarity} " if polarity in ("monopolar", "bipolar") else ""
    return f"{number} {kind}echo{'es' if count > 1 else ''}; {times_words(entry.numbers)}"


def _flow(entries: Mapping[str, Entry]) -> str:
    entry = entries.get("flow_compensation", Entry())
    if not entry.available:
        return ""
    if entry.value is True or entry.text == "on":
        return "flow compensation"
    return "no flow compensation" if entry.value is False or entry.text == "off" else f"flow compensation {entry.text}"


def _switch(entries: Mapping[str, Entry], key: str, name: str) -> str:
    entry = entries.get(key, Entry())
    if not entry.available:
        return ""
    return name if entry.text == "on" else f"no {name}" if entry.text == "off" else f"{name} {entry.text}"


def _duration(entries: Mapping[str, Entry]) -> str:
    seconds = entries.get("scan_duration", Entry()).number
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return " ".join([f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes))


def _pair(name: str, value: str) -> str:
    return f"{name} = {value}" if value else ""


def _joined(parts: list[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]
