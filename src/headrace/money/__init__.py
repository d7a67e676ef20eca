"""How money is shown: invoices as a table, as JSON and as CSV."""
