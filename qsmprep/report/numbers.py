"""Numbers as people write them: no more digits than the unit deserves, and nought where only rounding is left."""

from __future__ import annotations

import math

# Decimals beyond which a number of this unit says nothing.
_DECIMALS = {"ppm": 4, "MHz": 4, "%": 2, "ms": 3, "s": 4, "1/s": 2, "L": 3, "cm": 1, "mm": 2, "degrees": 2, "Hz": 3}
_WHOLE = ("MHz",)  # of these all decimals count, however large the number
_ROUNDING = 1e-9  # below this a number without a unit of the list is what rounding left of nought


def quantity_words(value: float, unit: str = "") -> str:
    """A number of a unit in words: four digits (all of a whole number), at most as fine as the unit's last decimal.

    >>> quantity_words(-0.000180502, "ppm"), quantity_words(-8e-12, "ppm"), quantity_words(0.0321213, "ppm")
    ('-0.0002', '0', '0.0321')
    >>> quantity_words(18.8596, "1/s"), quantity_words(127.7321, "MHz"), quantity_words(0.000249563, "rad")
    ('18.86', '127.7321', '0.0002496')
    """
    if not math.isfinite(value):
        return str(value)
    decimals = _DECIMALS.get(unit)
    if decimals is None:
        value = 0.0 if abs(value) < _ROUNDING else value
    else:
        value = round(value, decimals)
        if unit in _WHOLE:
            return f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{value:.4g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    return f"{digits} × 10^{int(power)}"
