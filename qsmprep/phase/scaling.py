"""Phase images of any vendor to radians, by rules that are recorded and never stretch data already in radians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsmprep.findings import Warning
from qsmprep.numerics.arrays import FloatImage, Labels
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.phasors import arctan2
from qsmprep.numerics.units import TWO_PI

TOLERANCE = 0.1  # rad; noise and rounding move the extremes of wrapped phase by less than this
LARGEST_UNWRAPPED = 1000.0  # rad; a head stays far below, and a field in Hz or raw integers soon exceed it
CHECK_SCALING = "Check that the wrapped phase in the first picture runs from -π to π; write Units into the sidecar."
COVERED = 0.97  # share of an integer period that must be in use before the period is believed without other evidence


@dataclass(frozen=True)
class ScaledPhase:
    """Phase in radians and how it was found.

    Attributes
    ----------
    phase : float32 in [-pi, pi], shape of the input; 0 where the input was not finite.
    rule : the rule applied, in words, for sidecar and report.
    warnings : what the user should check.
    non_finite : number of NaN or infinite voxels that were set to 0.
    """

    phase: np.ndarray
    rule: str
    warnings: tuple[Warning, ...]
    non_finite: int


@dataclass(frozen=True)
class _Survey:
    """Ranges of the echoes of one run: as scaled by the header, or as stored."""

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    whole: bool
    non_finite: int

    @property
    def low(self) -> float:
        return min(self.lows)

    @property
    def high(self) -> float:
        return max(self.highs)

    @property
    def span(self) -> float:
        return self.high - self.low

    def is_radians(self) -> bool:
        """Whether some echo spans one period of 2 pi around zero or from zero on."""
        near_zero = self.low > -LARGEST_UNWRAPPED and self.high < LARGEST_UNWRAPPED
        periods = [abs(high - low - TWO_PI) <= TOLERANCE for low, high in zip(self.lows, self.highs, strict=True)]
        return near_zero and not self.whole and any(periods)

    def words(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        return f"{kind} from {self.low:.6g} to {self.high:.6g}"


@dataclass(frozen=True)
class PhaseScaling:
    """A rule: phase = wrap(factor * x + offset), x taken from the stored numbers if `from_raw`.

    Attributes
    ----------
    words : the rule, for sidecar and report.
    warnings : what the user should check.
    is_rad : whether x is in rad.
    """

    factor: float
    offset: float
    words: str
    warnings: tuple[Warning, ...] = ()
    from_raw: bool = False
    is_rad: bool = False

    def apply(self, values: NDArray[Any], raw: NDArray[Any]) -> FloatImage:
        """Phase in [-pi, pi] of one image as the header scales it and as it is stored; 0 where it is not finite."""
        image = raw if self.from_raw else values
        phase = np.empty(np.shape(image), np.float32)
        _scale_and_wrap(_flat(image), self.factor, self.offset, phase.reshape(-1))
        return phase


def to_radians(
    values: np.ndarray | Sequence[np.ndarray],
    *,
    raw: np.ndarray | Sequence[np.ndarray] | None = None,
    units: str | None = None,
    manufacturer: str = "",
    slope: float | None = None,
) -> ScaledPhase:
    """Scale the phase of all echoes of a run to radians and wrap it to [-pi, pi].

    One rule is chosen from the ranges of all echoes together and used for all of them. In this order: numbers that are
    in radians already are kept; stored numbers that are in radians while the header's slope takes them out are used
    without the slope; a header slope that maps 12 bits to one period; integers of a known period (12 bits of Siemens
    and Philips, milliradians, degrees, other powers of two); integers of a known vendor that fill only part of their
    period; a range of unknown period at whose ends the image is seen to wrap.

    Parameters
    ----------
    values : echoes as the header scales them: (n_echo, n0, n1, n2), a sequence of (n0, n1, n2), or one such image.
    raw : the same as stored, without slope and intercept; None if unknown.
    units : BIDS `Units`: "rad", "arbitrary", or None.
    manufacturer : DICOM manufacturer, may be empty.
    slope : the header's slope, if stored integers were scaled by one.

    Raises
    ------
    ValueError : if the images are constant, empty of finite voxels, or in a unit that nothing gives away.
    """
    shape: tuple[int, ...] = (len(values), *np.shape(values[0]))
    if isinstance(values, np.ndarray) and values.ndim == 3:
        values, raw, shape = values[None], None if raw is None else [np.asarray(raw)], values.shape
    survey = _survey(values)
    raw_survey = None if raw is None else _survey(raw)
    rule = _choose_rule(values, raw, survey, raw_survey, units, manufacturer.strip(), slope)
    images, used = values, survey
    if rule.from_raw and raw is not None and raw_survey is not None:
        images, used = raw, raw_survey
    phase = np.empty((len(images), *np.shape(images[0])), np.float32)
    for image, echo in zip(images, phase, strict=True):
        _scale_and_wrap(_flat(image), rule.factor, rule.offset, echo.reshape(-1))
    non_finite = used.non_finite
    warnings = rule.warnings
    if non_finite:
        text = f"{non_finite} voxels are NaN or infinite and were set to 0."
        remedy = "Convert the images again; harmless outside of the head."
        warnings += (Warning("phase-not-finite", text, remedy),)
    return ScaledPhase(phase.reshape(shape), rule.words, warnings, non_finite)


def find_scaling(
    values: Sequence[np.ndarray],
    *,
    raw: Sequence[np.ndarray] | None,
    units: str | None = None,
    manufacturer: str = "",
    slope: float | None = None,
) -> PhaseScaling:
    """The rule by which `to_radians` scales these images, for images like them that are read one by one.

    Parameters and errors as of `to_radians`.
    """
    raw_survey = None if raw is None else _survey(raw)
    return _choose_rule(values, raw, _survey(values), raw_survey, units, manufacturer.strip(), slope)


def _choose_rule(
    values: Sequence[NDArray[Any]] | NDArray[Any],
    raw: Sequence[NDArray[Any]] | NDArray[Any] | None,
    survey: _Survey,
    raw_survey: _Survey | None,
    units: str | None,
    manufacturer: str,
    slope: float | None,
) -> PhaseScaling:
    declared = (units or "").strip().lower() in ("rad", "radian", "radians")
    for echo, (low, high) in enumerate(zip(survey.lows, survey.highs, strict=True)):
        if low >= high:
            what = "has no finite voxel" if low > high else f"is {low:g} everywhere"
            raise ValueError(f"The phase image of echo {echo + 1} {what}: it holds no phase.")
    if survey.whole and survey.span < 7 and (raw_survey is None or raw_survey.span < 7):
        raise ValueError(
            f"The phase images hold only whole numbers from {survey.low:g} to {survey.high:g}: phase in radians was "
            "rounded when it was stored. Convert the scanner's images again, as float or with a slope."
        )
    rule = (
        _radians(survey, raw_survey, declared)
        or _header_slope(survey, raw_survey, slope)
        or _known_period(survey, manufacturer)
        or (survey.span >= 1 and _declared_radians(survey, declared))
        or (raw_survey and _known_period(raw_survey, manufacturer, from_raw=True))
        or _declared_radians(survey, declared)
        or _partial_vendor_range(survey, raw_survey, manufacturer, slope)
        or (raw is not None and raw_survey and raw_survey.whole and _seen_to_wrap(raw, raw_survey, from_raw=True))
        or _seen_to_wrap(values, survey)
    )
    if not rule:
        stored = "" if raw_survey is None else f" (stored as {raw_survey.words()})"
        raise ValueError(
            f"The phase cannot be scaled to radians: it holds {survey.words()}{stored}, Units is {units!r}, the "
            f"manufacturer {manufacturer or 'unknown'!r}, and no wrap shows which range is one period. If these are "
            'radians set "Units": "rad" in the sidecar; otherwise give real and imaginary parts or the scanner\'s '
            "original integers."
        )
    if declared and not rule.is_rad:
        text = f'The sidecar says "Units": "rad", but the images hold {survey.words()}: scaled by rule ({rule.words}).'
        rule = replace(rule, warnings=(*rule.warnings, Warning("units-contradicted", text, CHECK_SCALING)))
    return rule


def _radians(survey: _Survey, raw_survey: _Survey | None, declared: bool) -> PhaseScaling | None:
    """Numbers of which at least one echo spans 2 pi: as scaled, or as stored if only those do."""
    if survey.is_radians():
        if survey.span <= TWO_PI + TOLERANCE:
            return PhaseScaling(1, 0, "radians already: one period of 2 pi, kept", is_rad=True)
        text = f"Some phase lies outside one period ({survey.low:.4g} to {survey.high:.4g} rad) and was wrapped."
        wide = Warning("phase-beyond-period", text, CHECK_SCALING)
        return PhaseScaling(1, 0, "radians already: an echo spans 2 pi, the rest was wrapped", (wide,), is_rad=True)
    if raw_survey is not None and raw_survey.is_radians() and not (declared and 1 < survey.span < LARGEST_UNWRAPPED):
        text = (
            f"The header's slope turns the phase into {survey.low:.4g} to {survey.high:.4g}, which is not radians; the "
            "stored numbers span 2 pi and were used without it."
        )
        ignored = Warning("header-slope-ignored", text, CHECK_SCALING)
        words = "radians as stored: one period of 2 pi, header slope ignored"
        return PhaseScaling(1, 0, words, (ignored,), from_raw=True, is_rad=True)
    return None


def _declared_radians(survey: _Survey, declared: bool) -> PhaseScaling | None:
    """What `Units: rad` promises, where the range allows it: never stretched, only wrapped."""
    almost = 0.9 * TWO_PI <= survey.span <= TWO_PI + TOLERANCE and max(-survey.low, survey.high) <= np.pi + TOLERANCE
    if declared and survey.span <= LARGEST_UNWRAPPED and max(-survey.low, survey.high) <= LARGEST_UNWRAPPED:
        if survey.span > TWO_PI + TOLERANCE:
            return PhaseScaling(1, 0, "radians as declared: unwrapped phase, wrapped again", is_rad=True)
        text = f"Phase spans only {survey.span:.3g} rad: it never wraps, so that its scaling rests on Units alone."
        warnings = () if almost else (Warning("phase-never-wraps", text, CHECK_SCALING),)
        return PhaseScaling(1, 0, "radians as declared: less than one period, kept", warnings, is_rad=True)
    if almost and not survey.whole:
        text = f"Units is not rad, but the range of {survey.span:.3g} is nearly 2 pi: taken as radians."
        taken = Warning("taken-as-radians", text, CHECK_SCALING)
        return PhaseScaling(1, 0, "radians by their range: nearly one period of 2 pi, kept", (taken,), is_rad=True)
    return None


def _header_slope(survey: _Survey, raw_survey: _Survey | None, slope: float | None) -> PhaseScaling | None:
    """A slope that maps 12 bits of stored integers to 2 pi, or to 2000 pi, tells the unit whatever the range."""
    if not slope or raw_survey is None or not raw_survey.whole or raw_survey.span > 4096:
        return None
    period = 4095.5 * abs(slope)
    for unit, factor in (("radians", 1.0), ("milliradians", 1e-3)):
        if abs(period * factor - TWO_PI) <= 0.02 and abs(survey.low + survey.high) * factor / 2 < TWO_PI:
            words = f"{unit} by the header: its slope maps 12-bit integers to one period"
            return PhaseScaling(factor, 0, words, is_rad=factor == 1)
    return None


def _known_period(survey: _Survey, manufacturer: str, from_raw: bool = False) -> PhaseScaling | None:
    """Integers that fill a period known from the vendors, or a power of two."""
    low, high, span = survey.low, survey.high, survey.span
    if max(-low, high) <= 3200 and abs(span - 1000 * TWO_PI) <= 1000 * TOLERANCE:
        return PhaseScaling(1e-3, 0, "milliradians: phase = value / 1000", from_raw=from_raw)
    if not survey.whole:
        return None
    if abs(span - 360) <= 2 and (max(-low, high) <= 181 or (low >= 0 and high <= 361)):
        return PhaseScaling(np.pi / 180, 0, "degrees: phase = pi value / 180", from_raw=from_raw)
    if low >= 0 and "philips" in manufacturer.lower() and span >= COVERED * 4094 and high <= 4095:
        return _philips(from_raw)
    # Programs that save floats as integers with a slope fill 8 or 16 bits, whatever the period: no evidence then.
    for bits in range(10, 15) if from_raw else range(8, 17):
        period = 2**bits
        if low >= 0 and high <= period and span >= COVERED * period:
            return _integers(period, from_raw)
        if low < 0 and max(-low, high) <= period / 2 and span >= COVERED * period:
            return _integers(period, from_raw, centred=True)
    return None


def _integers(period: int, from_raw: bool, centred: bool = False, warnings: tuple[Warning, ...] = ()) -> PhaseScaling:
    if centred:
        words = f"integers centred on 0: phase = pi value / {period // 2}"
        return PhaseScaling(TWO_PI / period, 0, words, warnings, from_raw)
    words = f"integers from 0: phase = 2 pi value / {period} - pi"
    return PhaseScaling(TWO_PI / period, -np.pi, words, warnings, from_raw)


def _philips(from_raw: bool, warnings: tuple[Warning, ...] = ()) -> PhaseScaling:
    words = "Philips integers from 0: phase = 2 pi value / 4094 - pi"
    return PhaseScaling(TWO_PI / 4094, -np.pi, words, warnings, from_raw)


def _partial_vendor_range(
    survey: _Survey,
    raw_survey: _Survey | None,
    manufacturer: str,
    slope: float | None,
) -> PhaseScaling | None:
    """Siemens or Philips integers that do not fill their period, as in a crop that never wraps."""
    vendor = manufacturer.lower()
    for found, from_raw in ((survey, False), (raw_survey, True)):
        if found is None or not found.whole or found.span < 64:
            continue
        text = (
            f"Phase fills only {found.low:.0f} to {found.high:.0f} of the {manufacturer} integer range: the vendor's "
            "usual period was assumed."
        )
        assumed = (Warning("vendor-period-assumed", text, CHECK_SCALING),)
        rescaled = found.low < 0 or (slope == 2 and not from_raw)
        if "siemens" in vendor and rescaled and max(-found.low, found.high) <= 4096:
            return _integers(8192, from_raw, centred=True, warnings=assumed)
        if "siemens" in vendor and found.low >= 0 and found.high <= 4096:
            return _integers(4096, from_raw, warnings=assumed)
        if "philips" in vendor and found.low >= 0 and found.high <= 4095:
            return _philips(from_raw, warnings=assumed)
    return None


def _seen_to_wrap(
    images: Sequence[NDArray[Any]] | NDArray[Any],
    survey: _Survey,
    from_raw: bool = False,
) -> PhaseScaling | None:
    """A range of unknown period, if the image jumps from one end of it to the other and fills both ends."""
    if not survey.whole and survey.span <= 7:
        return None
    if not wraps_at_ends(images, survey.low, survey.high):
        return None
    text = (
        f"The phase has an unknown unit ({survey.words()}); its range was taken as one period because the image wraps "
        "at both ends of it."
    )
    taken = Warning("unit-unknown", text, CHECK_SCALING)
    # n whole numbers stand for a period of n steps, a continuous range for its own length.
    period = survey.span + (1 if survey.whole else 0)
    words = f"unknown unit: {survey.low:.6g} to {survey.high:.6g} taken as one period"
    return PhaseScaling(TWO_PI / period, -np.pi - TWO_PI / period * survey.low, words, (taken,), from_raw)


def wraps_at_ends(images: np.ndarray | Sequence[np.ndarray], low: float, high: float) -> bool:
    """Whether images that lie in [low, high] jump between neighbours from one end of that range to the other.

    Wrapped phase does, wherever it crosses its period; an image of anything else, or a crop in which the phase never
    wraps, does not: its extremes are rare voxels. Voxels of exactly 0 (masked) are left out.
    """
    jumps = pairs = inside = 0
    ends = np.zeros(64)
    for image in images:
        x = np.asarray(image, np.float32)
        used = np.isfinite(x) & (x != 0)
        inside += int(used.sum())
        ends += np.histogram(x[used], bins=64, range=(low, high))[0]
        for axis in range(x.ndim):
            first, second = (np.delete(np.arange(x.shape[axis]), end) for end in (-1, 0))
            both = used.take(first, axis) & used.take(second, axis)
            step = np.abs(x.take(second, axis)[both] - x.take(first, axis)[both])
            jumps += int((step > 0.8 * (high - low)).sum())
            pairs += step.size
    return jumps >= max(10, 1e-5 * pairs) and min(ends[0], ends[-1]) >= 0.05 * inside / 64


def real_imag_to_polar(real: np.ndarray, imag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and phase (rad) of real and imaginary images of any shape, float32; 0 where either is not finite.

    Both must carry the same scaling, so give them as the header scales them.
    """
    real, imag = np.asarray(real, np.float32), np.asarray(imag, np.float32)
    if real.shape != imag.shape:
        raise ValueError(f"Real part {real.shape} and imaginary part {imag.shape} differ in shape.")
    if real.size and min(np.nanmin(real), np.nanmin(imag)) >= 0:
        raise ValueError(
            "Real and imaginary parts have no negative value: an offset was lost or these are magnitudes. Give them "
            "with the header's intercept applied."
        )
    finite = np.isfinite(real) & np.isfinite(imag)
    real, imag = np.where(finite, real, 0), np.where(finite, imag, 0)
    return np.hypot(real, imag), arctan2(imag, real)


def _flat(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image, dtype=np.float32).reshape(-1)


def _survey(images: Sequence[NDArray[Any]] | NDArray[Any]) -> _Survey:
    results = []
    for image in images:
        # Whole numbers beyond 2**24 lose nothing that matters here in float32.
        lows, highs, bad, fractions = _survey_slabs(_flat(image))
        results.append((float(lows.min()), float(highs.max()), int(bad.sum()), int(fractions.sum())))
    least, greatest, non_finite, broken = zip(*results, strict=True)
    return _Survey(least, greatest, sum(broken) == 0, sum(non_finite))


@jit(parallel=True)
def _survey_slabs(x: FloatImage) -> tuple[FloatImage, FloatImage, Labels, Labels]:
    """Least, greatest, number of non-finite and of fractional values, of 64 slabs."""
    slabs = 64
    lows = np.full(slabs, np.inf, np.float32)
    highs = np.full(slabs, -np.inf, np.float32)
    counts = np.zeros(slabs, np.int64)
    fractions = np.zeros(slabs, np.int64)
    size = (x.size + slabs - 1) // slabs
    for slab in prange(slabs):
        low = np.float32(np.inf)
        high = np.float32(-np.inf)
        bad = 0
        broken = 0
        for i in range(slab * size, min(x.size, (slab + 1) * size)):
            v = x[i]
            if not np.isfinite(v):
                bad += 1
                continue
            low = min(low, v)
            high = max(high, v)
            if v != np.rint(v):
                broken += 1
        lows[slab] = low
        highs[slab] = high
        counts[slab] = bad
        fractions[slab] = broken
    return lows, highs, counts, fractions


@jit(parallel=True)
def _scale_and_wrap(x: FloatImage, factor: float, offset: float, out: FloatImage) -> None:
    for i in prange(x.size):
        v = factor * x[i] + offset
        if not np.isfinite(v):
            v = 0.0
        elif abs(v) > 3.1415928:  # float32 pi lies above pi: leave what is wrapped as it is
            v -= TWO_PI * np.rint(v / TWO_PI)
        out[i] = v
