"""Promise 1 by caps: who may be capped and how deep, in what order, what a cap is worth, and when it is lifted again.

From the words of the promise, the public types and the events alone. Capped are nodes that cappable work has for itself and that
were declared to be limitable: each by the same part of what it could save, no deeper than it takes, never below the least that
its controller takes and its accelerators keep. Where the words leave a choice, each way of taking them is right.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from headrace.core.events import (
    CapsLifted,
    CapsObserved,
    CapsOrdered,
    Committed,
    ExcessMeasured,
    LimitersDeclared,
    NodeStateChanged,
    PlacementMade,
)
from headrace.core.workload import WHOLE_MILLI, Flex, WorkloadType
from headrace.sim.checkers.base import Handler
from headrace.sim.checkers.caps import CAP_MS, Cap, lowest_w, worst_w
from headrace.sim.checkers.curtailable import (
    AHEAD_MS,
    CAP,
    UNCAPPED,
    Curtailable,
    Held,
    Place,
    Share,
)
from headrace.sim.checkers.papers import Papers, Spot, draw_w

ROUND_W = 4
"""A cap is whole watts, and so is its worst: by so much two that are even may differ."""
WORTH_W = 20
"""A cap that could be lowered by less need not be."""
LIFT_MS, LIFT_LOOKS = 20_000, 8
"""What could go on for so long, and was looked at so often, goes on."""


@dataclass(frozen=True, slots=True)
class Able:
    """A node that could be capped: who has it, what it may draw without a cap, and the lowest limit."""

    held: Held
    node: str
    draws_w: int
    lowest_w: int

    @property
    def saves_w(self) -> int:
        """What its lowest cap saves for certain."""
        return self.draws_w - worst_w(self.lowest_w)


class Capped(Curtailable):
    """The rules of caps; told their events by the checker of the grid."""

    def __init__(self, papers: Papers | None = None) -> None:
        self.closed: dict[str, None] = {}
        self.tenant_paused: dict[str, None] = {}
        super().__init__(papers)

    def _of_caps(self) -> Iterable[tuple[type, Handler]]:
        return (
            (LimitersDeclared, self._limited),
            (CapsOrdered, self._cap),
            (CapsObserved, self._confirm),
            (CapsLifted, self._uncap),
            (ExcessMeasured, self._measured),
            (NodeStateChanged, self._node),
        )

    # -- who could be capped ----------------------------------------------------------------------------------

    def _is_cappable(self, held: Held) -> bool:
        return held.spec.type is not WorkloadType.FILLER and held.spec.flex is Flex.CAPPABLE

    def _users(self, site: str) -> dict[str, list[Held]]:
        users: dict[str, list[Held]] = {}
        for held in self.at.get(site, {}).values():
            for node in dict.fromkeys(rank.node for rank in held.ranks):
                users.setdefault(node, []).append(held)
        return users

    def _able_on(self, held: Held, spot: Spot) -> Able:
        ranks = [rank for rank in held.ranks if rank.node == spot.node]
        mask = 0
        for rank in ranks:
            mask |= rank.mask
        taken = mask.bit_count()
        controller_w = self.caps.limiters.get(held.site, {}).get(spot.node, 0)
        full_w = draw_w(spot.hardware, taken, len(ranks))
        return Able(held, spot.node, full_w, lowest_w(spot, taken, controller_w))

    def _able(self, site: str, *, surely: bool) -> Iterator[Able]:
        """Nodes at a site that could be capped, or are; ``surely``: by whatever way the words are taken."""
        limiters, spots = self.caps.limiters.get(site), self.papers.ground.spots
        if not limiters:
            return
        users = self._users(site)
        for node, holders in users.items():
            held, spot = holders[0], spots.get(node)
            if len(holders) > 1 or node not in limiters or spot is None or not self._is_cappable(held):
                continue
            if surely and not self._is_sure(held, users, limiters):
                continue
            found = self._able_on(held, spot)
            if found.saves_w > ROUND_W:
                yield found

    def _is_sure(self, held: Held, users: dict[str, list[Held]], limiters: dict[str, int]) -> bool:
        """Whether it runs undisturbed, alone on all of its nodes, all of which can be limited."""
        return (
            held.started
            and not held.stopping
            and held.workload not in self.tenant_paused
            and all(
                rank.node in limiters
                and len(users[rank.node]) == 1
                and rank.share_milli == WHOLE_MILLI
                and rank.node not in self.closed
                and rank.node not in self.intruders
                for rank in held.ranks
            )
        )

    def floors_w(self, site: str) -> tuple[int, int]:
        """What can't be shed at a site, watts of IT load: at least, and at most; an instruction may ask for what caps save."""
        (least_w, most_w), (loose_w, sure_w) = super().floors_w(site), self.caps_w(site)
        return least_w - loose_w, most_w - sure_w

    def caps_w(self, site: str) -> tuple[int, int]:
        """What caps could save at a site, watts of IT load: at most, and for certain."""
        done = {cap.node for cap in self.caps.of(site) if cap.is_done}
        loose_w = sum(one.saves_w for one in self._able(site, surely=False))
        sure_w = sum(
            one.saves_w
            for one in self._able(site, surely=True)
            if not self.caps.is_closed(one.node) or one.node in done
        )
        return loose_w, sure_w

    def uncapped_w(self, site: str) -> int:
        """The most that a site can draw without its miners, and without any cap."""
        miners = [name for name, held in self.at.get(site, {}).items() if self._is_filler(held)]
        return self.draw_w(site, miners, most_w=UNCAPPED)

    def _could_shed(self, site: str) -> Iterator[tuple[int, Held]]:
        """As for pauses and ends; and who could be capped and is not, or not as low as could be."""
        yield from super()._could_shed(site)
        for one in self._could_cap(site):
            yield CAP, one.held

    def _could_cap(self, site: str) -> Iterator[Able]:
        for one in self._able(site, surely=True):
            cap = self.caps.caps.get(one.node)
            if cap is None:
                is_left = one.node not in self.caps.dropping
            else:
                is_left = cap.is_done and cap.wanted_w - one.lowest_w > WORTH_W
            if is_left:
                yield one

    # -- caps are ordered ---------------------------------------------------------------------------------------

    def _cap(self, committed: Committed, event: CapsOrdered) -> None:
        self._tick(committed.at_ms)
        site = event.site
        place = self.places.setdefault(site, Place())
        if event.instruction not in place.standing:
            what = f"it is capped for {event.instruction}, which does not stand"
            self.found("uncurtailed", site, what)
        limits = [self.it_w(site, one.instruction.limit_w) for one in place.standing.values()]
        coming_w = self._projected_w(site, for_the_grid=True)
        if not place.batch and limits and coming_w <= min(limits):
            what = f"nodes are capped, and {coming_w} W are under all limits of {site} already"
            self.found("needless", site, what)
        users, before_w = self._users(site), self.draw_w(site)
        for node, wanted_w in event.caps:
            self._cap_one(place, node, wanted_w, users.get(node, []))
            place.batch.append((CAP, node))
            self._cover("caps ordered")
        self.caps.ordered(event, committed.at_ms)
        self._let_draw(site, before_w, "a cap is raised")
        self._batch_ms = committed.at_ms

    def _cap_one(self, place: Place, node: str, wanted_w: int, users: list[Held]) -> None:
        """One node is capped: it must be one that may be, and no deeper than may be."""
        spot = self.papers.ground.spots.get(node)
        if spot is None or node not in self.caps.limiters.get(spot.site, {}):
            self.found("not-limitable", node, "it is capped, and was not declared to be limitable")
            return
        wrong = [held for held in users if not self._is_cappable(held)]
        if wrong:
            what = f"its node {node} is capped, and it is {wrong[0].spec.flex}"
            self.found("firm-capped", wrong[0].name, what)
        if len(users) != 1:
            self.found("not-alone", node, f"it is capped, and {len(users)} placements are on it")
            return
        able = self._able_on(users[0], spot)
        if wanted_w < able.lowest_w:
            what = f"it is capped at {wanted_w} W, and {able.lowest_w} W are the least that it takes"
            self.found("below-lowest", node, what)
        is_first = not self.caps.is_closed(node)
        if is_first and worst_w(wanted_w) >= able.draws_w:
            what = f"it is capped at {wanted_w} W, and draws {able.draws_w} W at most"
            self.found("useless", node, what)
        place.capping.append(Share(node, able.draws_w, wanted_w, able.lowest_w, is_first))

    def _judge_caps(self, site: str, place: Place) -> None:
        """The caps of one moment: even, nobody left out, and together no more than it takes."""
        shares, place.capping = place.capping, []
        if not shares:
            return
        limits = [self.it_w(site, one.instruction.limit_w) for one in place.standing.values()]
        coming_w = self._projected_w(site, for_the_grid=True)
        slack_w = ROUND_W * len(shares)
        is_last = max(place.batch)[0] <= CAP and not self._go_together(site)
        if limits and is_last and coming_w < min(limits) - slack_w:
            what = f"{coming_w} W are left by its caps, and {min(limits)} W are allowed at {site}"
            self.found("needless", shares[0].node, what)
        parts = [
            (one.node, one.draws_w - worst_w(one.wanted_w), one.draws_w - worst_w(one.lowest_w))
            for one in shares
            if one.is_first
        ]
        parts = [(node, by_w, of_w) for node, by_w, of_w in parts if of_w > 0]
        if not parts:
            return
        least, deep = max(((by_w - ROUND_W) / of_w, node) for node, by_w, of_w in parts)
        most, shallow = min(((by_w + ROUND_W) / of_w, node) for node, by_w, of_w in parts)
        if least > most:
            self.found("uneven", deep, f"it is capped by another part of what it could save than {shallow}")
            return
        for one in self._able(site, surely=True):
            if not self.caps.is_closed(one.node) and least * one.saves_w > 2 * ROUND_W:
                self.found("uneven", one.node, f"it is not capped, and {deep} is")

    def _go_together(self, site: str) -> bool:
        """Whether several leave one node: what the last of them saves beside its accelerators need not be hoped for."""
        return any(sum(held.stopping for held in users) > 1 for users in self._users(site).values())

    # -- what controllers and meters say --------------------------------------------------------------------------

    def _confirm(self, committed: Committed, event: CapsObserved) -> None:
        self._tick(committed.at_ms)
        site = event.site
        before_w, undone = self.draw_w(site), [one for one in self.caps.of(site) if not one.is_done]
        self.caps.observed(event)
        if self.draw_w(site) > before_w:
            self._surprise(site)
            self._cover("caps lost")
        for cap in undone:
            if cap.is_done:
                is_late = committed.at_ms >= cap.ordered_ms + CAP_MS
                self._cover("caps confirmed late" if is_late else "caps confirmed")
            elif cap.said_w > cap.wanted_w:
                self._cover("caps above what was asked")

    def _limited(self, committed: Committed, event: LimitersDeclared) -> None:
        self._tick(committed.at_ms)
        if any(cap.node not in dict(event.limiters) for cap in self.caps.of(event.site)):
            self._cover("capped nodes out of reach")
        self.caps.declared(event)
        self._surprise(event.site)
        self._reckon(event.site)

    def _measured(self, committed: Committed, event: ExcessMeasured) -> None:
        self._tick(committed.at_ms)
        self.caps.measured(event)
        site = event.element.partition("/")[0]
        self._surprise(site)
        self._reckon(site)
        self._cover("excess" if event.watts else "excess over")

    def _node(self, committed: Committed, event: NodeStateChanged) -> None:
        self._tick(committed.at_ms)
        if event.state == "ready":
            self.closed.pop(event.node, None)
        else:
            self.closed[event.node] = None

    def _fail_caps(self, site: str, place: Place, now_ms: int) -> None:
        """Caps whose time is over and that were not confirmed have failed."""
        for cap in self.caps.of(site):
            if not cap.failed and not cap.is_done and not cap.may_come(now_ms):
                cap.failed = True
                place.failed_ms = max(place.failed_ms, cap.ordered_ms + CAP_MS)
                self._cover("caps that failed")

    def _is_coming(self, site: str, by_ms: int, now_ms: int) -> bool:
        """Whether a cap was ordered by then, and may still be confirmed in time."""
        return any(cap.ordered_ms <= by_ms and cap.may_come(now_ms) for cap in self.caps.of(site))

    # -- and lifted ---------------------------------------------------------------------------------------------

    def _let_draw(self, site: str, before_w: int, what: str) -> None:
        """Something lets a site draw more: that must be under what the grid allows."""
        if self.draw_w(site) > before_w:
            why = self._stops(site, lambda: self.draw_w(site))
            if why:
                self.found("lifted-above", site, f"{what}: {why}")

    def _uncap(self, committed: Committed, event: CapsLifted) -> None:
        self._tick(committed.at_ms)
        site, before_w = event.site, self.draw_w(event.site)
        for node in event.nodes:
            if node not in self.caps.caps:
                self.found("lifted", node, "its cap is lifted, and it had none")
        held = [
            name
            for name, one in self.at.get(site, {}).items()
            if self.quiet.is_quiet(name) and not one.stopping
        ]
        is_first = bool(held) and all(self._may_go_on(site, name) for name in held)
        self.caps.lifted(event)
        if is_first and self.draw_w(site) > before_w and not self._is_intruded(site):
            self.found("not-first", held[0], f"a cap is lifted at {site}, and it could go on, and is held")
        self._let_draw(site, before_w, "a cap is lifted")
        if site in self.places:
            self.places[site].could_lift_ms, self.places[site].looks = -1, 0
        self._cover("caps lifted")

    def _may_go_on(self, site: str, name: str) -> bool:
        """Whether there is surely power for somebody who is paused."""
        return self._is_power_for(site, lambda: self._loads(site, loud=(name,)))

    def _is_power_for(self, site: str, loads_of: Callable[[], dict[str, int]]) -> bool:
        if self._stops(site, lambda: loads_of().get(site, 0), surely=True):
            return False
        limit_w = self.papers.ground.limit_w
        return all(load_w <= limit_w[name] for name, load_w in loads_of().items() if name in limit_w)

    def _is_asked_near(self, place: Place) -> bool:
        return any(one.instruction.from_ms <= self.now_ms + AHEAD_MS for one in place.standing.values())

    def _could_uncap(self, site: str, place: Place, caps: list[Cap]) -> bool:
        """Whether the grid asks for nothing at a site, nobody is paused there, and there is power to lift each of its caps."""
        if not caps or self._is_asked_near(place):
            return False
        if any(self.quiet.is_ordered(name) for name in self.at.get(site, ())):
            return False
        counted = self.caps.counted(site)
        return all(self._is_power_without(site, counted, cap.node) for cap in caps)

    def _is_power_without(self, site: str, counted: dict[str, int], node: str) -> bool:
        others = {name: most_w for name, most_w in counted.items() if name != node}
        return self._is_power_for(site, lambda: self._loads(site, most_w=others))

    def _look_caps_up(self, site: str, place: Place) -> None:
        """Whether nodes are capped longer than it takes."""
        caps = self.caps.of(site)
        if place.since_ms == self.now_ms or not self._could_uncap(site, place, caps):
            place.could_lift_ms, place.looks = -1, 0
            return
        if place.could_lift_ms < 0:
            place.could_lift_ms = self.now_ms
        place.looks += 1
        if place.looks > LIFT_LOOKS and self.now_ms - place.could_lift_ms > LIFT_MS:
            what = f"there is power for it at {site}, and it is capped"
            self.found("not-lifted", caps[0].node, what)
            place.could_lift_ms = self.now_ms + 600_000

    # -- nobody new ---------------------------------------------------------------------------------------------

    def _come_new(self, event: PlacementMade) -> None:
        """Somebody new is placed: not on a capped node, and not before caps are lifted for which there would be power."""
        site = event.site
        for node in dict.fromkeys(rank.node for rank in event.ranks):
            if node in self.caps.caps:
                self.found("on-capped", event.placement, f"it is placed on {node}, which is capped")
        place, spots = self.places.get(site), self.papers.ground.spots
        if place is None or not self.caps.counted(site) or self._is_asked_near(place):
            return
        loads, limit_w = self._loads(site, most_w=UNCAPPED), self.papers.ground.limit_w
        own = {element for rank in event.ranks if rank.node in spots for element in spots[rank.node].path}
        for element in sorted(own):
            capped_w = self._loads(site).get(element, 0)
            if element in limit_w and capped_w < loads[element] > limit_w[element]:
                what = f"it takes power at {element} before the caps below it are lifted"
                self.found("overtaken", event.placement, what)
                return

    # -- for those who decide when to look, and at rest ------------------------------------------------------------

    def _are_caps_moving(self) -> bool:
        return any(cap.may_come(self.now_ms) for cap in self.caps.caps.values()) or any(
            place.could_lift_ms >= 0 for place in self.places.values()
        )

    def _are_caps_open(self, site: str, place: Place) -> bool:
        """Whether caps are still to be lifted at a site."""
        return self._could_uncap(site, place, self.caps.of(site))
