"""What the packages underneath warn of, silenced for the command line and its processes.

What counts for a user is an error or a notice of ours; the rest is for programmers, who use the
library and see it as Python shows it. So it is silenced here, once, and nowhere in the library.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings

from sat2map.runtimes.telemetry import tell_nobody


def silence_dependencies() -> None:
    """Silence warnings and GDAL's log in this process, and warnings in those that it starts.

    It changes the whole process, so only its own entry point calls it. Where Python was told
    what to show, by -W or $PYTHONWARNINGS, warnings stay as they are. Pydantic does not look for
    plugins of its own in all packages that are installed, which takes it 25 ms.
    """
    tell_nobody()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what counts is raised as well


def allow_any_characters() -> None:
    r"""Have stdout show characters that its encoding lacks as escapes, such as \u5730.

    By default the first of them ends the process, after the work is done. stderr does so anyway.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
