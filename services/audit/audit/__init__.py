"""The audit service: who did what, and who looked at whose data. The kernel writes; this answers."""
