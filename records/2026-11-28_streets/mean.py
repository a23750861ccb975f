"""Mix the weights of two models of one network: an early and a late one of the same run.

    python mean.py EARLY LATE SHARE OUT

OUT has (1 - SHARE) times the weights of EARLY and SHARE times those of LATE, and LATE's card.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sat2map.model.familiar import read_familiar
from sat2map.model.folder import load_model, save_model


def main(early: str, late: str, share: str, out: str) -> None:
    """Write OUT."""
    first, last, part = load_model(early), load_model(late), float(share)
    before, after = first.network.state_dict(), last.network.state_dict()
    mixed = {
        name: before[name].lerp(value, part) if value.is_floating_point() else value
        for name, value in after.items()
    }
    last.network.load_state_dict(mixed)
    save_model(Path(out), last.network, last.card, familiar=read_familiar(Path(late)))


main(*sys.argv[1:])
