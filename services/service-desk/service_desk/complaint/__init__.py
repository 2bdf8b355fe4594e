"""A complaint, from any channel, until the customer is content or says that they never will be.

``received → acknowledged → triaged → dispatched → handling → proposed → replied → revisited → closed``

A refused proposal and an unsatisfied revisit lead back to handling; a closed complaint can be reopened. The
clock of the promise (`service_desk.sla`) runs in business hours, stands while the customer is to answer,
and climbs each step of the ladder once in a round; reopening starts a new round.
"""
