"""Providers: those who carry messages to customers. One port, three adapters, one conformance suite."""
