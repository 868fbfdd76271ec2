"""nipype nodes: each loads images, calls one pure function of a step, and saves images. One module a step."""
