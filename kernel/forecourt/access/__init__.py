"""Who calls and what they may do: identities, permissions, scope."""
