"""For all Python tests."""

import signal

# Whoever runs the tests in the background may have SIGINT ignored, which programs inherit: no Ctrl-C would reach them.
signal.signal(signal.SIGINT, signal.default_int_handler)
