# The two commands of the README. Each makes its own virtual environment from the tested versions.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
DEMO := demo
NIIVUE := qsmprep/data/viewer/niivue.js

.PHONY: demo test test-faults test-container test-cluster test-reproduce lint viewer clean

$(STAMP): pyproject.toml constraints.txt | $(NIIVUE)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	@# Without setuptools' pages about editable installations.
	PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

# The viewer's script, from npm. Everything but the viewer works without it, so that a failure stops nothing here.
$(NIIVUE): viewer/package-lock.json viewer/build.mjs
	@(cd viewer && npm ci --ignore-scripts && npm run build) \
		|| echo "No NiiVue: npm is missing or failed, so that qsmprep-tools view will show pictures instead of maps."

viewer: $(NIIVUE)
	@test -f $(NIIVUE)

demo: $(STAMP)
	$(VENV)/bin/qsmprep-tools simulate $(DEMO)/bids --voxel-size 2 --overwrite
	$(VENV)/bin/qsmprep $(DEMO)/bids $(DEMO)/derivatives participant --work-dir $(DEMO)/work
	@echo "Report:             $(CURDIR)/$(DEMO)/derivatives/sub-01.html"
	@echo "Susceptibility map: $(CURDIR)/$(DEMO)/derivatives/sub-01/anat/sub-01_Chimap.nii.gz"

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

# What `make test` has no time for: a run killed at every moment, full disks, damaged folders, every loop compiled. It
# takes half an hour.
test-faults: $(STAMP)
	$(VENV)/bin/python -m pytest tests/faults tests/app/test_warm_up.py -m "faults or not faults"

# The image is built and run as on a foreign machine; as root on Debian, with Debian's packages.
test-container:
	bash containers/test.sh

# A Slurm cluster is started by hand and given work; as root on Debian, with Debian's packages.
test-cluster: $(STAMP)
	bash tests/cluster/test.sh

# The same head on several threads, schedulers and instruction sets gives the same maps.
test-reproduce: $(STAMP)
	bash tests/reproduce/test.sh

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/python -m mypy

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info viewer/node_modules $(NIIVUE) qsmprep/data/viewer/niivue.licenses.txt
