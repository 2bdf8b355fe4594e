"""The notify service: tells customers what happened, once for each reason, by SMS or email."""
