"""Who holds what, read from where it is published: plain YAML, BODS 0.4, GLEIF, and the UK's register of significant
control.
"""

# First: its documents are among those that are read there.
import headrace.documents  # noqa: F401
