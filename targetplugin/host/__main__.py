"""`python3 -m targetplugin.host`: pitcopy."""

import sys

from targetplugin.host.pitcopy import main

sys.exit(main())
