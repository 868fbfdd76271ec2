#!/bin/bash
# The same head on several threads, schedulers and instruction sets gives the same maps, within the bounds that
# docs/scale.md states; prints the table of that page. On two idle cores it takes a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-.venv/bin/python}" tests/reproduce/matrix.py "$@"
