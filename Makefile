# The two commands of the README. Each makes its own virtual environment from the tested versions.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
DEMO := demo

.PHONY: demo test lint clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/qsmprep-tools simulate $(DEMO)/bids --voxel-size 2 --overwrite
	$(VENV)/bin/qsmprep $(DEMO)/bids $(DEMO)/derivatives participant --work-dir $(DEMO)/work
	@echo "Report:             $(CURDIR)/$(DEMO)/derivatives/sub-01.html"
	@echo "Susceptibility map: $(CURDIR)/$(DEMO)/derivatives/sub-01/anat/sub-01_Chimap.nii.gz"

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
