"""Quality numbers in a word or two, as the lines of the group page say them."""

from __future__ import annotations

from collections.abc import Mapping

# What is wrong when the number is beyond its limit.
SHORT: Mapping[str, str] = {
    "phase_linearity": "phase not linear",
    "phase_nonlinearity": "echoes disagree",
    "echo_time_offset": "echo times",
    "bipolar_phase": "odd and even echoes",
    "unreliable": "unreliable voxels",
    "residual_wraps": "phase wraps",
    "open_fringes_input": "fringes of the scanner",
    "open_fringes": "fringes left",
    "peak_snr": "signal to noise",
    "ghost_level": "ghosts",
    "tissue_field_rms": "tissue field",
    "background_rim": "field at the rim",
    "background_harmonics": "background left",
    "mask_volume": "mask volume",
    "mask_holes": "holes in mask",
    "mask_lost": "brain lost",
    "air_in_mask": "air in mask",
    "brain_outside_mask": "brain outside mask",
    "chi_sd_white_matter": "map noise",
    "streaking": "streaking",
    "shadow": "shadows",
    "data_residual": "misfit to field",
    "b0_direction_error": "B0 direction",
    "iron_contrast": "sign of the map",
    "r2star_relative": "R2* level",
    "field_noise": "field noise",
    "total_field_rms": "total field",
    "reference_mean": "reference mean",
    "reference_sd": "reference spread",
}
# Shown in the line of a run, and over the time, before the others: data, field, mask and map.
MAIN = ("peak_snr", "unreliable", "streaking", "chi_sd_white_matter", "tissue_field_rms", "mask_lost")


def short_word(metric: str, title: str) -> str:
    """A quality number in a word or two; its title where none are known.

    >>> short_word("unreliable", "Unreliable voxels"), short_word("new", "Something new")
    ('unreliable voxels', 'Something new')
    """
    return SHORT.get(metric, title or metric.replace("_", " ") or "flagged")
