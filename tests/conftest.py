"""For all Python tests."""

import resource
import signal

# Whoever runs the tests in the background may have SIGINT ignored, which programs inherit: no Ctrl-C would reach them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A process keeps the lock files of each node memory that it has used open for ever, and the tests use hundreds in one.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else 65536, most))
