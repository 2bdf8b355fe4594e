"""Who calls and what they may do: identities, permissions, scope.

* ``identity``: who calls, and the refusals of those who do not show it.
* ``tokens``: from a bearer token to an identity. ``keys``: the public keys that tokens are verified with.
* ``certificates``: from a client certificate to an identity.
* ``rates``: how much one identity may ask for.
* ``development``: tokens and certificates for a laptop, never in production.
* ``callers``: token or certificate, whichever decides.
* ``permissions``, ``scope``: what callers may do, and to what.
"""
