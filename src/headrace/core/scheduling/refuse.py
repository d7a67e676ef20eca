"""Why a workload is not placed: named reasons in the order of their precedence."""

from enum import IntEnum


class Refusal(IntEnum):
    """A reason, lower is stronger: law, then contract, then power, then capacity, then time.

    To add one, add it here at its precedence, return it from ``candidates`` in ``rank.py`` (or from ``admit``), and give it
    a sentence in ``SENTENCES``.
    """

    JURISDICTION = 100
    """The policy forbids the site."""
    DEDICATED = 200
    """The site serves another tenant alone."""
    CONTRACT = 210
    """No contract of the tenant covers it, or what the contract holds is in use."""
    QUOTA = 215
    """The quota of its tenant or its project is used up."""
    DATA = 220
    """A data set that it uses is not at the site."""
    POWER = 300
    """An element of the power tree can't carry it."""
    HARDWARE = 400
    """No node has such accelerators, so many of them, or so much memory."""
    NODE_STATE = 410
    """Nodes that would do are draining, down or not yet commissioned."""
    CAPACITY = 420
    """What would do is in use."""
    TOPOLOGY = 425
    """Enough nodes are free, but they don't stand as the workload requires."""
    ENGINE = 430
    """The site's engine can't do what the workload asks for."""
    TIME = 500
    """Not before a stated moment (it is backing off after a failure)."""
    WINDOW = 505
    """What would do is kept for a reservation or a maintenance, at least for as long as it may run."""
    RANK = 600
    """It would fit, but others go first."""


SENTENCES: dict[Refusal, str] = {
    Refusal.JURISDICTION: "its policy does not allow the site",
    Refusal.DEDICATED: "the site is dedicated to another tenant",
    Refusal.CONTRACT: "no contract of the tenant covers it",
    Refusal.QUOTA: "the quota of its tenant or project is used up",
    Refusal.DATA: "data that it uses is not there",
    Refusal.POWER: "not enough power",
    Refusal.HARDWARE: "no such hardware",
    Refusal.NODE_STATE: "the nodes that would do are not ready",
    Refusal.CAPACITY: "the nodes that would do are in use",
    Refusal.TOPOLOGY: "free nodes don't stand as it requires",
    Refusal.ENGINE: "the site's engine can't do it",
    Refusal.TIME: "it is backing off",
    Refusal.WINDOW: "kept for a reservation or maintenance",
    Refusal.RANK: "others go first",
}
