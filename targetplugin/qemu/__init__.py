"""Running qemu-img on files that are open already: in this process' children, or in another service's.

Knows what qemu-img is told and how it is held and ended; knows no image, save or volume.
"""
