"""Customers: profiles, contact points, consent, ownership of vehicles, import, and the customer 360."""
