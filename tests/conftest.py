"""Loads the project's pytest plugins, and settles how hypothesis searches."""

import os
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ("harness.imaging", "harness.planes", "harness.plugin")

# The gate tries the same examples every time, and never fails for the machine being busy. HYPOTHESIS_PROFILE=hunt looks
# for new ones, for as long as one likes.
settings.register_profile(
    "gate", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("hunt", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

# A shell starts what it puts into the background deaf to Ctrl-C, and deafness is inherited: the commands under test
# hear.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
