"""Packages whose names are imported when they are first used, so that importing the package takes no time."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


class LazyPackage(ModuleType):
    """A package that looks up ``name`` in the module ``HOME[name]``, or else imports the submodule ``name``."""

    HOME: dict[str, str]

    def __getattr__(self, name: str) -> object:
        if name in self.HOME:
            value = getattr(import_module(f"{self.__name__}.{self.HOME[name]}"), name)
            self.__dict__[name] = value
            return value
        if name.startswith("_") or find_spec(f"{self.__name__}.{name}") is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return import_module(f"{self.__name__}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        """Keep a function visible that has the name of its module, which Python would set here on import."""
        if not (name in self.HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self.HOME})


def make_lazy(package: str, home: dict[str, str] | None = None) -> None:
    """Make an imported package lazy; ``home`` maps public names to the submodules that define them."""
    module = sys.modules[package]
    module.__dict__["HOME"] = dict(home or {})
    module.__class__ = LazyPackage
