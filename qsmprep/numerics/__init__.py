"""Mathematics that the steps share: transforms, operators, solvers, compiled loops, units."""
