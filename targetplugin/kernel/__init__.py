"""What the kernel does for us: LIO's objects through rtslib, uio devices and disks through udev.

Keeps no state of its own: the catalog says what should be there, configfs and sysfs what is.
"""
