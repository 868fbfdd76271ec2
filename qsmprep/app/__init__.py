"""Between the command line and the graph: what is asked for, what `auto` means here, how it is carried out."""
