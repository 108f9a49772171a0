"""The simulator: the engine's core on modelled disks, with errors and crashes, from a seed."""
