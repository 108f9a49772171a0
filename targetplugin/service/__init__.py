"""What the small services beside the daemon have in common: a socket, who may ask, descriptors handed over.

Knows nothing of what is asked.
"""
