"""Files and block devices as media: opening them, their size, their trailer, what else is on them.

Chooses no medium, knows no catalog and makes no policy.
"""
