"""Slurm as an engine: jobs on the nodes that the plan chose, each rank under the runner."""
