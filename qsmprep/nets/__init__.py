"""Deep networks for the steps of the pipeline: architectures, and how each is described. One family a file."""
