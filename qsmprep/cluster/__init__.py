"""One job a participant on a cluster: what is to be done, the scripts, and where it stands."""
