"""How things stand, as numbers that Prometheus collects. A door: translates, decides nothing.

Written without a client library: its text format is lines of names, labels and numbers, and what is told is
counted elsewhere already.
"""
