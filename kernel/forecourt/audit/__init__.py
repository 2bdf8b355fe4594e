"""Who did what: what the log shows by itself, and entries for what no other event shows (ADR 0017)."""
