"""Fixtures that all tests share."""

pytest_plugins = ["forecourt.testing.servers"]
