"""A stand-in for an EventStoreDB server, at the level of the wire.

It speaks the server's gRPC protocol (Streams, Gossip) as the client ``kurrentdbclient`` expects it, in a
process of its own, and keeps its events in a file. It is for tests on machines where no real server can be
installed: it is neither durable against a crash of the machine, nor secure, nor a cluster.

Run it with ``python -m forecourt.testing.eventstoredb_standin --port 2113 --data events.log``.
"""
