"""Universal potentials: insertion energies of working ions in a host's largest void."""
