"""The default configuration: one for every replay, and printed beside each of them."""

from dataclasses import asdict

from headrace.core.scheduling import service, timeshare, waste
from headrace.core.scheduling.plan import DEFAULT_LIMITS
from headrace.core.units import MS_PER_SECOND


def default_configuration() -> dict[str, object]:
    """All that decides when the product's own planner does, whatever the trace.

    ``limits`` bound one pass of the planner; ``waste`` chooses nodes (per accelerator); ``service`` says what remains of a
    workload, from what it has attained and from how long its siblings took; ``timeshare`` says who holds accelerators
    that several share in time.
    """
    return {
        "planner": "headrace",
        "limits": asdict(DEFAULT_LIMITS),
        "waste": {"bright": waste.BRIGHT, "stop": waste.STOP, "price": waste.PRICE},
        "service": {
            "first_bin_s": service.FIRST_MS // MS_PER_SECOND,
            "bins": service.BINS,
            "siblings_each_side": service.REACH,
            "prior_hazard": service.PRIOR_HAZARD,
            "class_base": 2,
            "age_stretch": service.STRETCH,
            "age_grace_s": service.GRACE_MS // MS_PER_SECOND,
        },
        "timeshare": {
            "exchange_margin": timeshare.MARGIN,
            "exchanges_at_most": timeshare.EXCHANGES_AT_MOST,
        },
    }
