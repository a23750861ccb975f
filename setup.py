"""Builds the page of `sat2map serve` into wheels; all else stands in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WEB = Path(__file__).parent / "web"


class BuildWithPage(build_py):
    """Builds the page first, where npm is found; an editable installation never does."""

    def run(self) -> None:
        """Build the page, then what setuptools builds."""
        if WEB.is_dir() and not self.editable_mode:
            build_page()
        super().run()


def build_page() -> None:
    """Build `web/` into the package, or say that there will be no page, or that of before."""
    npm = shutil.which("npm")
    if npm is None:
        print(
            "warning: npm is not found, so the page of sat2map serve is not built", file=sys.stderr
        )
        return
    for command in (("ci", "--no-audit", "--no-fund"), ("run", "build")):
        done = subprocess.run([npm, *command], cwd=WEB, check=False)
        if done.returncode != 0:
            said = " ".join(command)
            print(
                f"warning: npm {said} failed, so the page of sat2map serve is not built",
                file=sys.stderr,
            )
            return


setup(cmdclass={"build_py": BuildWithPage})
