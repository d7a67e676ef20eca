"""Which command lists the things of a kind: the next step for a name that nothing has."""

LISTED_BY: dict[str, str] = {
    "workload": "headrace ps --all",
    "node": "headrace nodes",
    "site": "headrace sites",
    "tenant": "headrace documents",
    "price-plan": "headrace documents",
    "contract": "headrace documents",
    "reservation": "headrace documents",
    "maintenance": "headrace documents",
    "dataset": "headrace data list",
    "data set": "headrace data list",
    "facts": "headrace documents",
    "ownership": "headrace documents",
    "estate": "headrace documents",
    "invoice": "headrace invoice ls",
    "token": "headrace token ls",
    "instruction": "headrace grid ls",
    "event": "headrace journal events",
}
"""The command that lists each kind of thing, by the kind's name in messages."""


def where_listed(kind: str) -> str:
    """A sentence that names the command for a kind; of one that nothing lists it can only say to look."""
    command = LISTED_BY.get(kind)
    return f"'{command}' lists those there are." if command else "List what you have."
