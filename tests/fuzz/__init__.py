"""Commands as no host sends them, against the engine on a fake ring: `python3 -m tests.fuzz`."""
