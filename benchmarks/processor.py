"""What it costs that a container's loops are compiled for any processor: python benchmarks/processor.py [CACHE].

The default pipeline on a simulated head with loops compiled for this processor and for any ("generic"), in turn, and
the largest difference of the maps. CACHE keeps what is compiled from call to call.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import json, sys, time
import numpy as np
import qsmprep
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions

head = simulate_head(SimulationOptions(voxel_size="2.5"))
given = (head.magnitude, head.phase, head.scan)
qsmprep.reconstruct(*given)  # compiles, or reads what is compiled
took = time.process_time()
chi = qsmprep.reconstruct(*given).chi_ppm
print(json.dumps(time.process_time() - took))
np.save(sys.argv[1], chi)
"""
REPEATS = 3
KINDS = {"this processor": None, "any processor": "generic"}


def main():
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        caches = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        seconds = {kind: [] for kind in KINDS}
        for _ in range(REPEATS):
            for kind, name in KINDS.items():
                environment = os.environ | {"NUMBA_CACHE_DIR": str(caches / (name or "host"))}
                environment |= {"NUMBA_CPU_NAME": name} if name else {}
                words = [sys.executable, "-W", "ignore", "-c", CODE, f"{folder}/{name}.npy"]
                done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
                seconds[kind].append(json.loads(done.stdout.splitlines()[-1]))
        print("| compiled for | CPU time, median (range) |\n|---|---|")
        for kind, took in seconds.items():
            print(f"| {kind} | {statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f}) |")
        first, second = (np.load(f"{folder}/{name}.npy") for name in KINDS.values())
        print(f"\nLargest difference of the maps: {np.abs(first - second).max():.2g} ppm")


if __name__ == "__main__":
    main()
