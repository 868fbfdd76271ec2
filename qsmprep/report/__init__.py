"""Figures, the HTML report, the methods text and the bibliography: made only from what left the pipeline."""
