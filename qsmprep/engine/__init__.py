"""How a graph is executed: one process a node, or all in this process; resource estimates; progress; cache keys.

`pool.ProcessPool` and `inprocess.InProcess` are given to nipype as `workflow.run(plugin=...)`.
"""

import os

# nipype asks a server for its newest version when the first interface is made, unless this is set.
os.environ.setdefault("NIPYPE_NO_ET", "1")
