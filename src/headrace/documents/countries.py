"""Countries as documents name them: the table of :mod:`headrace.core.countries`."""

from headrace.core.countries import COUNTRIES, SLIPS

__all__ = ["COUNTRIES", "SLIPS"]
