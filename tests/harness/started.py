"""What is started on entering a context and gone on leaving it, also where the start fails halfway."""

from abc import ABC, abstractmethod
from typing import Self


class Started(ABC):
    """``close`` takes away whatever there is, so it may follow a ``start`` that did not come to its end."""

    @abstractmethod
    def start(self) -> None:
        """Return once it serves."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
