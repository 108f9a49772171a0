"""The lab: two virtual machines, a target and an initiator, on a real kernel."""
