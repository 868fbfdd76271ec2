"""Command-line programs: argument parsers and entry points, nothing else."""
