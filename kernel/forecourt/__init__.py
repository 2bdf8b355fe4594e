"""Forecourt's kernel: what every service shares, and nothing that only one of them needs.

Event sourcing (events, deciders, event stores, projections), messaging over AMQP, the gRPC edge and the
worker process. It knows nothing of cars: words of the trade belong to the services.
"""
