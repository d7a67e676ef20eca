"""Promises 1, 2 and 4 under attack: whatever order the changes come in, nothing is over a limit, a border or an invoice."""

import random
import re

import pytest

from headrace.core.scheduling.check import check
from headrace.core.scheduling.proposal import Plan
from headrace.engines.fake import FakeEngine
from tests.api.small import ALBION, EXAMPLES, FJORD, JOB, Small

LAB = (EXAMPLES / "estates" / "lab.yaml").read_text()
BLOCK_3 = """\
      - name: block-3
        fed_by: feed-b
        commissioned: {day}
        groups:
          - {{name: lab, hardware: lab, racks: 1, nodes_per_rack: 4}}

  - name: loughton
"""


def _apply(world: Small, text: str) -> int:
    return world.ask("POST", "/v1/apply", text.encode(), headers={"content-type": "application/yaml"}).status


def _holds(world: Small) -> None:
    """No limit is exceeded by what runs, by the checker's own sums and by the columns; nothing is where it may not be."""
    snapshot = world.control.world.snapshot(world.control.now_ms())
    assert check(snapshot, Plan(snapshot.version, (), ())) == []
    # What idles is declared, not admitted: an estate may be declared that could not even idle. Nothing runs there then.
    used = {placement.site for placement in world.control.world.state.placements.values()}
    over = [
        (element["id"], element["admitted_w"], element["limit_w"])
        for element in world.ask("GET", "/v1/power").json["elements"]
        if element["admitted_w"] > element["limit_w"] and element["site"] in used
    ]
    assert over == []
    for placement in world.control.world.state.placements.values():
        site = world.control.world.site(placement.site)
        spec = world.control.world.state.workloads[placement.workload].spec
        assert not spec.policy.countries or site.country in spec.policy.countries
        assert (
            placement.tenant != FJORD
            or spec.policy.countries
            or site.country in ("DK", "FI", "IS", "NO", "SE")
        )
        assert site.dedicated_to in (None, placement.tenant)


def _estate(dice: random.Random) -> str:
    """The lab with other limits, countries, owners and days."""
    text = LAB.replace("firm: 3700W", f"firm: {dice.choice((1500, 2500, 3000, 3700, 9000))}W")
    text = text.replace("pue: 1.1", f"pue: {dice.choice(('1.0', '1.1', '1.6', '2.9'))}")
    text = text.replace("rating: 3kW", f"rating: {dice.choice((1, 2, 3))}kW", 1)
    text = text.replace(
        "country: NO\n    zone", f"country: {dice.choice(('NO', 'NO', 'SE', 'GB', 'unknown'))}\n    zone", 1
    )
    if dice.random() < 0.3:
        text = text.replace(
            "- name: loughton\n", f"- name: loughton\n    dedicated_to: {dice.choice((FJORD, ALBION))}\n"
        )
    if dice.random() < 0.5:
        day = dice.choice(("2026-11-18", "2026-11-19", "2026-11-20", "2030-01-01"))
        text = text.replace("  - name: loughton\n", BLOCK_3.format(day=day), 1)
    if dice.random() < 0.2:
        text = re.sub(r"commissioned: 2025-02-01", "commissioned: 2026-11-20", text, count=1)
    return text


@pytest.mark.parametrize("seed", range(6))
def test_no_order_of_changes_admits_more_than_a_limit_or_crosses_a_border(world: Small, seed: int) -> None:
    """Estates, drains, pauses, priorities, stops, days that pass and clocks that jump back, by turns."""
    dice = random.Random(seed)
    for _ in range(40):
        match dice.randrange(8):
            case 0 | 1:
                _apply(world, _estate(dice))
            case 2 | 3:
                nordic, tenant = dice.random() < 0.5, dice.choice((FJORD, ALBION))
                job = JOB | {
                    "project": "research" if tenant == FJORD else "radiology",
                    "nodes": dice.choice((1, 1, 2, 3)),
                    "resources": {"gpu": f"lab:{dice.choice((1, 2, 4))}"},
                    "priority": dice.choice((-1000, 0, 1000)),
                    "flex": dice.choice(("firm", "preemptible", "pausable")),
                }
                world.submit(
                    *[job | ({"policy": {"countries": ["NO", "SE"]}} if nordic else {})] * 3, tenant=tenant
                )
            case 4:
                site = dice.choice(("glomfjord", "loughton"))
                evict = dice.random() < 0.5
                world.ask("POST", "/v1/nodes/drain", {"site": site, "evict": evict})
                world.ask("POST", "/v1/nodes/undrain", {"site": site})
            case 5:
                for ident in list(world.control.world.state.workloads)[-4:]:
                    world.ask("POST", f"/v1/workloads/{ident}/{dice.choice(('pause', 'resume', 'stop'))}")
            case 6:
                world.clock.at_ms += dice.choice((-86_400_000, 3_600_000, 86_400_000))
            case _:
                world.run(2)
        _holds(world)
    states = world.ask("GET", "/v1/status").json["workloads"]
    assert states, "something was submitted"


def test_an_engine_is_not_exchanged_under_what_it_runs(world: Small) -> None:
    """A mistyped engine, or another one, would leave processes that nobody can stop."""
    world.submit(JOB)
    world.run(3)
    assert _apply(world, LAB.replace("engine: local", "engine: lokal")) == 404
    world.reconciler.engines = {**world.reconciler.engines, "spare": FakeEngine(world.clock)}
    assert _apply(world, LAB.replace("engine: local", "engine: spare")) == 409
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/stop").status == 200
    world.run(15)
    assert world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]["state"] == "stopped"
    assert _apply(world, LAB.replace("engine: local", "engine: spare")) == 200


def test_money_is_asked_once_whatever_the_clock_and_the_operator_do(world: Small) -> None:
    """Promise 4: a second issue, a clock set back, a repeated credit note and an erased tenant change no sum."""
    world.submit(JOB)
    world.run(30)
    world.ask("POST", "/v1/workloads/fjord-ai-1/stop")
    world.run(15)
    issue = {"period": "2026-11"}
    path = f"/v1/tenants/{FJORD}/invoices"
    assert world.ask("POST", path, issue).status == 201
    world.clock.at_ms -= 40 * 86_400_000
    assert world.ask("POST", path, issue).status == 409
    (number,) = (one["invoice"]["invoice"] for one in world.ask("GET", "/v1/invoices").json["invoices"])
    credit, key = {"amount_micros": 1_000, "reason": "late"}, {"idempotency-key": "c"}
    notes = f"/v1/invoices/{number}/credit-notes"
    assert [world.ask("POST", notes, credit, headers=key).json["changed"] for _ in range(2)] == [True, False]
    assert world.ask("POST", notes, credit | {"amount_micros": 1_001}, headers=key).status == 409
    total = world.ask("GET", f"/v1/invoices/{number}").json["invoice"]["total_micros"]
    assert world.ask("POST", notes, credit | {"amount_micros": total}).status == 409
    assert world.ask("POST", f"/v1/tenants/{FJORD}/erase").status == 200
    assert world.ask("POST", path, issue).status == 409
    assert world.ask("GET", f"/v1/invoices/{number}").json["due_micros"] == total - 1_000
    assert set(world.control.world.state.ledger.trial_balance().values()) == {0}
