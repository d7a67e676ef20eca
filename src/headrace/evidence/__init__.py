"""Settlement evidence: a signed document of what one instruction asked and what was delivered, and its verification offline."""
