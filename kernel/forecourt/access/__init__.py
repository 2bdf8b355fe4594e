"""Who may do what: identities, permissions, and whose data each of them reaches."""
