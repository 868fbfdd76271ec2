"""What is compiled when a container is built: every loop that a run can reach."""

import subprocess
import sys

import pytest

from qsmprep import registry
from qsmprep.app.warm_up import images, plan

COMPILED = [method for method in registry.METHODS if not method.needs_network()]
RUN_ALL = """
import gc, importlib, pkgutil, qsmprep
from qsmprep.app.warm_up import plan
from qsmprep.numerics.jit import CompiledLoop
for task in plan().values():
    task()
for module in pkgutil.walk_packages(qsmprep.__path__, "qsmprep."):
    if module.name.split(".")[1] not in ("cli", "dicom", "interfaces", "report", "workflows"):
        importlib.import_module(module.name)
for loop in [thing for thing in gc.get_objects() if type(thing) is CompiledLoop]:
    if loop._dispatcher is None or not loop.dispatcher.signatures:
        print("MISSED", loop.__module__, loop.__name__)
"""
# What no run of the pipeline calls: heads of the template, and the import of foreign weights.
NOT_OF_A_RUN = ("qsmprep.phantom.", "qsmprep.weights.tensorflow")


@pytest.mark.parametrize("method", COMPILED, ids=lambda method: method.name)
def test_every_method_is_in_the_plan_and_can_be_given_what_it_needs(method):
    assert f"{method.stage} {method.name}" in plan()
    assert set(method.required()) <= set(images())


def test_the_plan_runs_and_compiles_every_loop_of_a_run():
    done = subprocess.run([sys.executable, "-c", RUN_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    missed = [line for line in done.stdout.splitlines() if line.startswith("MISSED")]
    assert not [line for line in missed if not line.split()[1].startswith(NOT_OF_A_RUN)]
