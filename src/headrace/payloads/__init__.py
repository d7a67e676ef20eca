"""Programs that run as real workloads on one machine: a model endpoint, a scoring gang, a miner.

Each is started as `python -m headrace.payloads.NAME` and takes what it needs from the environment
that an engine gives to every rank. Nothing here is imported by the control plane, except
`counters`, with which it reads what a replica says it has served.
"""
