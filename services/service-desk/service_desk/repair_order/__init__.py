"""The repair order: from reception through workshop and inspection to settlement and return of the car.

``open → quoted → approved → dispatched → working ⇄ paused → completed → inspected → invoiced → paid →
handed back``

A declined quote is quoted again or the order is cancelled; a failed inspection asks for rework, with who is
responsible, before work goes on.
"""
