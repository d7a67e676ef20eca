"""Carbon-aware shifting of interruptible 24-hour jobs in one-week windows, over the carbon intensities of 2022."""

from benchmarks.power_event import data
from benchmarks.registry import Figure
from headrace.replay.carbon import replay

LEAST = {
    "NO-NO1": 0.70,
    "NO-NO2": 0.70,
    "GB": 0.55,
    "PT": 0.55,
    "US-TEX-ERCO": 0.55,
    "US-MIDA-PJM": 0.55,
}
"""The least share of the oracle's saving."""
QUICK = ("NO-NO1", "US-MIDA-PJM")
UNSEEN = (
    "NO-NO3", "NO-NO4", "NO-NO5", "SE-SE1", "SE-SE2", "FI", "IE", "DE", "FR", "ES", "US-CAL-CISO",
)  # fmt: skip
"""Zones that nothing was chosen by; their shares are printed, and nothing is asked of them."""


def share(quick: bool) -> Figure:
    """The worst zone's share of the oracle's saving, over the least that is asked of it."""
    zones = QUICK if quick else (*LEAST, *UNSEEN)
    found = replay(data() / "carbon_2022" / "ci_hourly_2022.csv", zones, 24, 168)
    shares = {zone.name: zone.share(zone.shifted) or 0.0 for zone in found.zones}
    last_week = {zone.name: round(zone.share(zone.last_week) or 0.0, 4) for zone in found.zones}
    notes: dict[str, object] = {
        "share_of_oracle": {name: round(value, 4) for name, value in shares.items() if name in LEAST},
        "same_hour_last_week": {name: value for name, value in last_week.items() if name in LEAST},
        "other_zones": {name: round(value, 4) for name, value in shares.items() if name not in LEAST},
        "jobs_each": found.zones[0].jobs,
        "wall_s": round(found.wall_s, 1),
    }
    return Figure(min(shares[name] / least for name, least in LEAST.items() if name in shares), notes)
