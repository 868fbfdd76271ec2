"""nipype graphs: one module a stage; `gre.py` joins the stages into the pipeline of one run."""
