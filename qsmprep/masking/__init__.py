"""Masks: the brain, the voxels whose phase can be trusted, and what background removal works on."""

from __future__ import annotations
