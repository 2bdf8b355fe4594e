"""The sales service: leads, opportunities, vehicle stock, orders up to the handover of the car."""
