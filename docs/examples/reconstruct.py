"""Susceptibility of a simulated head, from arrays: `python reconstruct.py` (a minute)."""

import numpy as np

import qsmprep
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions

head = simulate_head(SimulationOptions(voxel_size="3", tilt_x=15.0))
scan = qsmprep.Scan(head.voxel_size_mm, head.b0_direction, head.echo_times_s, head.centre_frequency_mhz)
result = qsmprep.reconstruct(head.magnitude, head.phase, scan, preset="fast")

inside = result.masks.qsm
chi, truth = result.chi_ppm[inside], head.chi_ppm[inside]
slope = np.polyfit(truth - truth.mean(), chi - chi.mean(), 1)[0]
print(f"susceptibility of {inside.sum()} voxels, slope against the truth {slope:.2f}")
for record in result.records:
    print(f"{record.stage}: {record.title}")
