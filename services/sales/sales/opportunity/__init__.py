"""An opportunity: a customer who may buy a car from us, from the first talk to won or lost.

Stages go forward, by hand or because something happened (a test drive, a quote); each has a probability.
"""

from sales.opportunity import commands, decisions, events, refusals
from sales.opportunity.state import Opportunity, opportunity

__all__ = ["Opportunity", "commands", "decisions", "events", "opportunity", "refusals"]
