"""What the law would have to be for a workload to start: other countries for a list, another policy or a fact for rules."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headrace.core.errors import HeadraceError
from headrace.core.scheduling.admit import can_ever_fit
from headrace.core.scheduling.findings import start_of
from headrace.core.scheduling.remedies import Remedy
from headrace.core.scheduling.sight import Sight
from headrace.core.sovereignty.law import Blocked
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.workload import PolicyRef, WorkloadSpec

_MOST_NAMED = 4
"""Countries or sites that a line names."""


@dataclass(frozen=True, slots=True)
class _Other:
    """The same work under other law: ``where`` it would be allowed then, and that law ``under``."""

    where: str
    under: str
    spec: WorkloadSpec


class ByLaw:
    """Tries other law for one workload."""

    def __init__(self, sight: Sight) -> None:
        self.sight, self.snapshot, self.spec, self.tenant = sight, sight.snapshot, sight.spec, sight.tenant

    def abroad(self, sites: Iterable[int]) -> list[Remedy]:
        """Where the law alone keeps it from room: it would start there under another, which is tried."""
        tried = dict[str, Remedy | None]()
        for site in sites:
            other = self._other(site)
            if other is None or other.where in tried:
                continue
            fits = start_of(self.sight.other(other.spec)) is not None
            text = (
                f"{other.where} under policy {other.spec.policy.profile}"
                if other.spec.policy.profile
                else other.where
            )
            tried[other.where] = Remedy("policy", text, other.spec) if fits else None
        return [one for _, one in sorted(tried.items()) if one is not None]

    def blocked(self, sites: Iterable[int]) -> dict[int, Blocked]:
        """What keeps it from each of some sites, where that is a policy with rules."""
        found = ((site, self.snapshot.blocked(self.tenant, self.spec.policy, site)) for site in sites)
        return {site: one for site, one in found if one is not None}

    def reason(self, blocked: dict[int, Blocked]) -> str:
        """Each site with the rule or the missing permit, and the fact that decides."""
        said = [f"site {self.sight.id_of(site)}: {one.why}" for site, one in blocked.items()]
        more = [f"and {len(said) - _MOST_NAMED} more sites"] if len(said) > _MOST_NAMED else []
        return "; ".join(said[:_MOST_NAMED] + more)

    def change(self, blocked: dict[int, Blocked], would: str) -> str:
        """What would let it start at sites that a policy with rules keeps it from."""
        ways = []
        for site, one in list(blocked.items())[:_MOST_NAMED]:
            other = self._other(site)
            if other is not None:
                fits = start_of(self.sight.other(other.spec)) is not None
                ways.append(f"{would if fits else 'would be allowed'} {other.where} under {other.under}")
            ways += [f"at {self.sight.id_of(site)} it {one.change}"] if one.change else []
        return "; or ".join(ways) or "no policy that there is allows it there"

    def elsewhere(self) -> str:
        """Where it would run if it was submitted again under other law, and under which; empty when it would nowhere."""
        now, later, facts = dict[str, str](), dict[str, str](), dict[str, None]()
        if not self._is_known():
            return f"policy {self.spec.policy.profile} is not there any more: submit it again under another"
        for site in self.sight.sites:
            if self.snapshot.place_verdict(self.tenant, self.spec.policy, site).allowed:
                return ""  # The estate has changed since: the reason is no longer one.
            blocked = self.snapshot.blocked(self.tenant, self.spec.policy, site)
            if blocked is not None and blocked.change:
                facts[f"at {self.sight.id_of(site)} it {blocked.change}"] = None
            other = self._other(site)
            if other is None or other.where in now:
                continue
            sight = self.sight.other(other.spec)
            if not any(True for _ in sight.spots()):
                continue
            if start_of(sight) is not None:
                now[other.where] = other.under
            elif other.where not in later and can_ever_fit(self.snapshot, other.spec, self.tenant) is None:
                # It was refused by law before anything else: whether it could ever fit there is not known yet.
                later[other.where] = other.under
        said = list(facts)[:_MOST_NAMED]
        if now or later:
            found = sorted((now or later).items())
            where = " or ".join(f"{one} ({under})" for one, under in found[:_MOST_NAMED])
            what = "countries" if found[0][0].startswith("in ") else "sites"
            more = f" or {len(found) - _MOST_NAMED} more {what}" if len(found) > _MOST_NAMED else ""
            said.insert(
                0, f"submitted again it {'would start now' if now else 'would wait for room'} {where}{more}"
            )
        return "; ".join(said)

    def _is_known(self) -> bool:
        """Whether its policy is there: one that nobody is under any more may have been removed."""
        try:
            return all(
                self.snapshot.place_verdict(self.tenant, self.spec.policy, site) for site in self.sight.sites
            )
        except HeadraceError:
            return False

    def _other(self, site: int) -> _Other | None:
        """The law that would let it in at a site: its country, or a policy that there is; None where that isn't the question."""
        place = self.snapshot.fleet.sites[site]
        if place.dedicated_to not in (None, self.tenant):
            return None
        if self.snapshot.place_verdict(self.tenant, self.spec.policy, site).allowed:
            return None
        blocked = self.snapshot.blocked(self.tenant, self.spec.policy, site)
        if blocked is None:
            if not place.country:
                return None
            allowing = replace(self.spec, policy=PolicyRef("", (place.country,), self.spec.policy.data))
            return _Other(f"in {place.country}", f"policy {_allowing(place.country)}", allowing)
        if not blocked.others:
            return None
        name = blocked.others[0]
        pinned = replace(self.spec, policy=PolicyRef(name, (), self.spec.policy.data), site=place.id)
        return _Other(f"at {place.id}", f"policy {name}", pinned)


def also_by_law(abroad: list[Remedy]) -> str:
    """Changes of law beside another change, in brackets; "" for none."""
    own = [one for one in abroad if one.spec is not None]
    countries = [one.text for one in own if one.spec is not None and one.spec.policy.countries]
    rules = [one.text for one in own if one.spec is not None and not one.spec.policy.countries]
    said = [*rules, *([f"{', '.join(countries)} if its policy allowed it"] if countries else [])]
    return f" (or {', or '.join(said)})" if said else ""


def _allowing(country: str) -> str:
    """Policies that allow a country: the narrowest profile that does, and the shorthand."""
    having = [policy for policy in PROFILES.values() if country in policy.countries]
    shorthand = f"{{countries: [{country}]}}"
    if not having:
        return shorthand
    return f"{min(having, key=lambda policy: len(policy.countries)).name} or {shorthand}"
