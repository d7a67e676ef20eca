"""What the measures mean, computed the slow and obvious way: exact fractions, dense elimination, all simple paths,
plain fixpoints.

Written from the definitions, without looking at how the core does it; it shares no code with it. Matrices are
dictionaries from (holder, subject) to the fraction that the holder has, where everything is known.
"""

from collections.abc import Collection, Mapping
from fractions import Fraction

Matrix = Mapping[tuple[str, str], Fraction]
ZERO, ONE = Fraction(0), Fraction(1)


def names(matrix: Matrix) -> list[str]:
    return sorted({name for pair in matrix for name in pair})


def solve(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """The solution of a square system with its right side as the last column; None when it is singular."""
    size = len(rows)
    rows = [list(row) for row in rows]
    for at in range(size):
        pivot = next((row for row in range(at, size) if rows[row][at]), None)
        if pivot is None:
            return None
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for row in range(size):
            if row != at and rows[row][at]:
                factor = rows[row][at]
                rows[row] = [value - factor * own for value, own in zip(rows[row], rows[at], strict=True)]
    return [row[-1] for row in rows]


def reached(matrix: Matrix, group: Collection[str]) -> dict[str, Fraction]:
    """What a group has of everybody: 1 of its own, of others the sum over their holders."""
    every = names(matrix)
    rows = []
    for name in every:
        row = [ONE if other == name else ZERO for other in every]
        if name not in group:
            row = [value - matrix.get((other, name), ZERO) for value, other in zip(row, every, strict=True)]
        rows.append([*row, ONE if name in group else ZERO])
    found = solve(rows)
    assert found is not None, "entities that only hold each other"
    return dict(zip(every, found, strict=True))


def inverse(matrix: Matrix) -> dict[tuple[str, str], Fraction]:
    """``W(I - W)^-1`` by its letters."""
    every = names(matrix)
    found = {}
    for holder in every:
        # A row v of the result fits v = w + v W, that is v (I - W) = w.
        rows = [
            [(ONE if other == subject else ZERO) - matrix.get((other, subject), ZERO) for other in every]
            + [matrix.get((holder, subject), ZERO)]
            for subject in every
        ]
        solution = solve(rows)
        assert solution is not None
        found.update({(holder, subject): value for subject, value in zip(every, solution, strict=True)})
    return found


def cascade(matrix: Matrix, listed: Collection[str], least: Fraction) -> set[str]:
    """Who is in: the listed, and whoever is held by those who are in to ``least`` or more."""
    inside = set(listed)
    while True:
        new = {
            name
            for name in names(matrix)
            if name not in inside
            and sum((matrix.get((other, name), ZERO) for other in inside), ZERO) >= least
        }
        if not new:
            return inside
        inside |= new


def controlled(votes: Matrix, party: str) -> set[str]:
    """Whoever a party has more than half of the votes of, alone or with whom it has so."""
    inside = {party}
    while True:
        new = {
            name
            for name in names(votes)
            if name not in inside and 2 * sum((votes.get((other, name), ZERO) for other in inside), ZERO) > 1
        }
        if not new:
            return inside
        inside |= new


def attributed(matrix: Matrix, votes: Matrix, party: str, entity: str) -> Fraction:
    """What a party has of an entity with all of whom it has the majority; the entity's holding in itself isn't counted."""
    return sum((matrix.get((other, entity), ZERO) for other in controlled(votes, party) - {entity}), ZERO)


def weakest(matrix: Matrix, group: Collection[str], entity: str) -> Fraction:
    """The best over all simple paths from a group of the smallest link on the path."""
    if entity in group:
        return ONE
    best = ZERO

    def walk(here: str, strength: Fraction, seen: frozenset[str]) -> None:
        nonlocal best
        for (holder, subject), share in matrix.items():
            if subject != here or holder in seen or not share:
                continue
            if holder in group:
                best = max(best, min(strength, share))
            else:
                walk(holder, min(strength, share), seen | {holder})

    walk(entity, ONE, frozenset({entity}))
    return best


def diluted(
    matrix: Matrix, entity: str, of_diluted: Mapping[str, Fraction], of_existing: Mapping[str, Fraction]
) -> dict[tuple[str, str], Fraction]:
    """The matrix after everything that converts in an entity has: new shares per existing one, then a part of all."""
    found = {pair: share for pair, share in matrix.items() if pair[1] != entity}
    before = {holder: share for (holder, subject), share in matrix.items() if subject == entity}
    counts = {
        holder: before.get(holder, ZERO) + of_existing.get(holder, ZERO)
        for holder in {*before, *of_existing, *of_diluted}
    }
    total = sum(counts.values(), ZERO)
    # So many new shares that those who convert to a part of all have just that part.
    left = 1 - sum(of_diluted.values(), ZERO)
    for holder, count in counts.items():
        found[holder, entity] = (count / total * left if total else ZERO) + of_diluted.get(holder, ZERO)
    return found
