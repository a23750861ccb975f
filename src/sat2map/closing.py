"""What is closed at the end of a `with` statement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Has a `close`, which the end of a `with` statement calls, whatever ended it."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; nothing happens where that was done before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()
