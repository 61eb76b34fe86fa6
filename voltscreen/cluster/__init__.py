"""SLURM: site profiles, batch scripts, submitting, and what became of a job."""
