"""Fixtures that all tests share, and how hypothesis looks for examples."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["forecourt.testing.servers"]

# The same examples in every run, and no limits of time: a busy machine fails no test.
settings.register_profile(
    "forecourt", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("forecourt")
