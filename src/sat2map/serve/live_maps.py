"""Live maps as a part of somebody else's server."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sat2map.arguments import checks_arguments
from sat2map.errors import MissingExtraError
from sat2map.raster.options import Reading
from sat2map.serve.scenes import open_scenes
from sat2map.serve.workshop import ServeOptions, Workshop
from sat2map.translation.translator import Translator, load

if TYPE_CHECKING:
    from sat2map.serve.guard import Guard

logger = logging.getLogger(__name__)


@checks_arguments
@contextmanager
def live_maps(
    scenes: Sequence[str | Path],
    *,
    model: str | Path | Translator = "streets",
    reading: Reading | None = None,
    hosts: Sequence[str] = (),
    public_url: str | None = None,
    attribution: str | None = None,
) -> Iterator[Guard]:
    """Give what `sat2map serve` answers with, for a server of your own.

    To be used in a `with` statement, which yields an application of the protocol ASGI: FastAPI and
    Starlette mount it under a path. What takes long is done in threads of its own, so the event
    loop goes on meanwhile. The end of the statement gives threads and files back.

    Args:
        scenes: Photos, maps, archives of tiles, and folders of them.
        model: What translates photos: a shipped model's name, a model folder, or a translator. It
            is loaded when a photo needs it first.
        reading: How the photos' values become pixels.
        hosts: Names by which your server may be called, besides those of this machine. Who calls
            it otherwise is answered 421.
        public_url: Where it is mounted, for those who ask, if it is not the address they call it
            by, as behind a proxy: "https://example.org/maps".
        attribution: Whom those who show a scene are to name.

    Raises:
        UsageError: An argument does not fit, or the model cannot make single tiles.
        DataError: A scene cannot be read, or lies nowhere on the ground.
        ModelError: The model is missing or damaged.
        MissingExtraError: The extra `serve` is not installed.
    """
    try:
        from sat2map.serve.app import AppOptions, make_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    from sat2map.serve.guard import LOOPBACK, Access, host_of
    from sat2map.serve.page import read_page
    from sat2map.serve.service import Service

    workshop = Workshop(
        lambda: model if isinstance(model, Translator) else load(model),
        ServeOptions(reading=reading or Reading()),
        logger.warning,
    )
    with ExitStack() as stack:
        stack.callback(workshop.pool.close)
        opened = open_scenes([str(scene) for scene in scenes], workshop)
        service = Service(workshop, opened)
        stack.callback(service.close)
        access = Access(frozenset({*LOOPBACK, *map(host_of, hosts)}))
        yield make_app(service, AppOptions(access, public_url, attribution, page=read_page()))
