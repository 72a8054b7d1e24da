"""Imported by the server that `forks` has its processes from."""

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401

from tools.soak.grounds import warm

warm()
