"""Any history, any time, any checkpoint: a pack has what a plain look at the journal finds; what is hidden in one is found."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core import events as ev
from headrace.core.authority import Verdict, digest_of
from headrace.core.ids import ContractId, PlacementId, SiteId, TenantId, WorkloadId
from headrace.core.workload import EndReason
from headrace.evidence.pack import Sealer
from headrace.evidence.pack_export import export_from
from headrace.evidence.standalone import compact
from headrace.journal.codec import Chain, Draft, Group, Head, decode, signed_bytes
from headrace.journal.sqlite import SqliteStore
from tests.evidence.packs import Held, Journal, Lines, hiding, judged, own_seqs, said
from tests.journal.small import keys
from tests.journal.test_golden import GOLDEN

SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
TENANTS = ("acme", "borealis", "gamma")
WHOLE_MS = 1 << 50
Step = tuple[str, str, int, bool]
"""What happens, to whom, after how long (ms), and whether a commit ends with it."""
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["place", "stop", "end", "alarm", "name others"]),
        st.sampled_from(TENANTS),
        st.sampled_from([0, 0, 1, 5]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@dataclass
class History:
    """A journal that is made step by step, by its own code, and a plain list of what is in it."""

    chain: Chain = field(default_factory=Chain)
    groups: list[Group] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    at_ms: int = 1_000
    verdicts: set[str] = field(default_factory=set)
    steps: int = 0

    def add(self, event: ev.Event, *streams: str) -> None:
        """An event."""
        self.drafts.append(Draft(event, self.at_ms, streams))

    def commit(self) -> None:
        """End a commit."""
        if not self.drafts:
            return
        first, own = self.chain.size, keys()
        salts = bytes((first + number) % 251 for number in range(16 * len(self.drafts)))
        headers, bodies = self.chain.seal(self.drafts, salts)
        root = self.chain.frontier.root()
        head = Head(
            self.chain.size, self.at_ms, root, own.sign(signed_bytes(self.chain.size, self.at_ms, root))
        )
        self.groups.append(Group(first, len(self.drafts), headers, bodies, head))
        self.drafts = []

    def begin(self) -> None:
        """What every journal begins with."""
        self.add(ev.JournalOpened("any"), "operator")
        for name in TENANTS:
            self.add(ev.DocumentApplied("tenant", name, {"id": name}), f"tenant:{name}", "operator")
        self.commit()

    def step(self, step: Step) -> None:
        """Something happens."""
        what, tenant, passed_ms, ends = step
        self.at_ms += passed_ms
        self.steps += 1
        own, site = f"tenant:{tenant}", "site:north"
        workload = WorkloadId(f"{tenant}-{self.steps}")
        placement = PlacementId(f"{workload}.1")
        match what:
            case "place":
                verdict = self._verdict(f"system@{tenant}", "workload.place", "site:north", own, "operator")
                made = ev.PlacementMade(
                    placement, workload, TenantId(tenant), SiteId("north"), (), verdict, 1, ContractId("c")
                )
                self.add(made, own, site)
            case "stop":
                verdict = self._verdict("operator-admin", "workload.stop", f"workload:{tenant}", "operator")
                self.add(ev.StopRequested(workload, verdict), own)
            case "end":
                self.add(ev.PlacementEnded(placement, EndReason.EXITED, (0,), ((1, 0),)), own, site)
            case "name others":
                other = TENANTS[(TENANTS.index(tenant) + 1) % len(TENANTS)]
                detail = f"made room for {other}-7"
                self.add(ev.EvictionRequested(placement, EndReason.PREEMPTED, detail), own, site)
            case _:
                self.add(ev.AlarmRaised(1, tenant, "a drill"), "operator")
        if ends:
            self.commit()

    def _verdict(self, subject: str, action: str, place: str, *streams: str) -> str:
        policy = digest_of(["policy", "public", []])
        verdict = Verdict(subject, action, place, True, ("it may",), policy, digest_of([subject, place]))
        if verdict.id not in self.verdicts:
            self.verdicts.add(verdict.id)
            self.add(ev.DecisionRecorded(verdict), *streams)
        return str(verdict.id)

    @property
    def journal(self) -> "InMemory":
        """As it is now."""
        return InMemory(
            Path(), keys(), self.groups[-1].head, dict(self.chain.streams), "any", list(self.groups)
        )


@dataclass
class InMemory(Journal):
    """A journal that no file has."""

    held: list[Group] = field(default_factory=list)

    def groups(self) -> list[Group]:
        return self.held

    def pack(
        self, tenant: str = "acme", from_ms: int = 0, to_ms: int = WHOLE_MS, at: Sequence[int] = ()
    ) -> Lines:
        sealer, out = Sealer(self.own.sign), list[bytes]()
        wanted = self.wanted(tenant, from_ms, to_ms, at)
        export_from(Held(self.held), wanted, self.public.hex(), lambda data: out.append(sealer.feed(data)))
        return b"".join([*out, sealer.end()]).splitlines(keepends=True)


def lived(steps: Sequence[Step]) -> tuple[History, list[InMemory]]:
    """A history, and its journal after each commit."""
    history = History()
    history.begin()
    journals = [history.journal]
    for step in steps:
        history.step(step)
        if not history.drafts:
            journals.append(history.journal)
    history.commit()
    return history, [*journals, history.journal]


@SETTINGS
@given(
    steps=STEPS,
    tenant=st.sampled_from(TENANTS),
    times=st.tuples(st.integers(990, 1_100), st.integers(1, 150)),
    kept=st.integers(0, 40),
)
def test_a_pack_has_what_a_plain_look_at_the_journal_finds(
    steps: list[Step], tenant: str, times: tuple[int, int], kept: int
) -> None:
    """As many events and decisions as there are in that time; withheld is what names others alone; nobody else is named."""
    _, journals = lived(steps)
    journal, old = journals[-1], journals[kept % len(journals)]
    from_ms, to_ms = times[0], times[0] + times[1]
    lines = journal.pack(tenant, from_ms, to_ms, [old.head.size])
    found = judged(lines, journal.public, [old.kept(tenant), old.kept_head()], tenant)
    own = set(own_seqs(journal, tenant))
    events = [one for group in journal.groups() for one in decode(group)]
    inside = [one for one in events if one.seq in own and from_ms <= one.at_ms < to_ms]
    assert found.events == len(inside)
    deciding = [one for one in inside if isinstance(one.event, ev.PlacementMade | ev.StopRequested)]
    assert found.decisions == len(deciding)
    assert found.withheld == sum(isinstance(one.event, ev.EvictionRequested) for one in inside)
    data = b"".join(lines)
    assert [other for other in TENANTS if other != tenant and other.encode() in data] == []


@SETTINGS
@given(
    steps=STEPS, hidden=st.sets(st.integers(0, 60), min_size=1), from_ms=st.sampled_from([0, 1_005, 1_020])
)
def test_whatever_is_hidden_is_found_but_for_the_end_which_a_checkpoint_finds(
    steps: list[Step], hidden: set[int], from_ms: int
) -> None:
    """Any of acme's events are folded away by an operator who signs what is left: only with all that follow them can they go."""
    _, journals = lived(steps)
    journal = journals[-1]
    own = own_seqs(journal)
    times = {one.seq: one.at_ms for group in journal.groups() for one in decode(group)}
    inside = [seq for seq in own if times[seq] >= from_ms]
    gone = {inside[one % len(inside)] for one in hidden} if inside else set()
    if not gone:
        return
    at = [journal.head.size]
    lines = hiding(journal, gone, at, from_ms=from_ms)
    is_end = gone == set(own[-len(gone) :])
    assert (said(lines, journal.public) == "") is is_end
    assert said(lines, journal.public, [journal.kept()])


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_journals_of_older_versions_give_packs(golden: Path, tmp_path: Path) -> None:
    """Whatever they lack: every tenant's pack of every golden journal verifies."""
    shutil.copy(golden / "journal.sqlite", tmp_path)
    store = SqliteStore(tmp_path / "journal.sqlite", readonly=True)
    groups = list(store.groups())
    store.close()
    own = keys()
    assert own.public.hex() == (golden / "signing.pub").read_text().strip()
    journal = Journal(tmp_path / "journal.sqlite", own, groups[-1].head, {}, "")
    for tenant in ("acme", "borealis"):
        found = judged(journal.pack(tenant, at=[groups[3].head.size]), own.public, [_kept(groups[3].head)])
        assert found.events == len(own_seqs(journal, tenant)) > 0
        assert found.decisions > 0


def _kept(head: Head) -> bytes:
    return compact({"head": head.as_json()})


def test_an_event_names_what_it_rests_on_where_verifiers_look() -> None:
    """A new kind of event that called it otherwise would go unjudged: `verdict`, or `verdicts`."""
    for kind in ev.KINDS.values():
        names = [one.name for one in fields(kind)]
        named = {name for name in names if "verdict" in name or "decision" in name}
        assert named <= {"verdict", "verdicts"}, kind.__name__
