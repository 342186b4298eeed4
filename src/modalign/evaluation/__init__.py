"""Generation, metrics, the forgetting ledger and the report."""
