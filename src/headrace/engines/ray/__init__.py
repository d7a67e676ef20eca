"""Ray as an engine: gangs on the nodes that the plan chose, each rank under the runner."""
