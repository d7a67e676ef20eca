"""The policy engine that a control plane runs with: Cedar for policies, plain lists of countries for what is no more."""

from functools import lru_cache

from headrace.core.authority import Policy, Request, Verdict
from headrace.core.sovereignty.plain import ACCESS, PLACES, PlainPolicies
from headrace.policy.cedar import CedarPolicies


class Policies(CedarPolicies):
    """Judges rights and lists of countries by the plain engine, and all other policies by their rules in Cedar."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = PlainPolicies()

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """Judge a request by a policy."""
        if policy.is_plain and (request.action in PLACES or request.action in ACCESS):
            return self._plain.evaluate(policy, request)
        return super().evaluate(policy, request)


@lru_cache(maxsize=1)
def policies() -> Policies:
    """The engine: one for all worlds of a process, for it remembers rules that it has read, and nothing else."""
    return Policies()
