"""How much of a plan processes use that share a ledger, wherever that is."""
