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
loops = [thing for thing in gc.get_objects() if type(thing) is CompiledLoop]
reached = [loop for loop in loops if loop._dispatcher is not None and loop.dispatcher.signatures]
for loop in reached:  # and what they call, which may have come compiled with them
    called = map(loop._function.__globals__.get, loop._function.__code__.co_names)
    reached += [other for other in called if type(other) is CompiledLoop and other not in reached]
for loop in loops:
    if loop not in reached:
        print("MISSED", loop.__module__, loop.__name__)
"""
# What no run calls: heads of the template, foreign weights, and what only tests and graphics cards need of an operator.
NOT_OF_A_RUN = ("qsmprep.phantom.", "qsmprep.weights.tensorflow", "qsmprep.numerics.symmetric_gradient",
                "qsmprep.numerics.operators")  # fmt: skip


@pytest.mark.parametrize("method", COMPILED, ids=lambda method: method.name)
def test_every_method_is_in_the_plan_and_can_be_given_what_it_needs(method):
    assert f"{method.stage} {method.name}" in plan()
    assert set(method.required()) <= set(images())


@pytest.mark.faults
def test_the_plan_runs_and_compiles_every_loop_of_a_run():
    done = subprocess.run([sys.executable, "-c", RUN_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    missed = [line for line in done.stdout.splitlines() if line.startswith("MISSED")]
    assert not [line for line in missed if not line.split()[1].startswith(NOT_OF_A_RUN)]
