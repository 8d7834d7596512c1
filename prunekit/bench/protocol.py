"""What stands above every figure: the machine, the versions, what was done."""

from __future__ import annotations

from ..system.machine import machine, versions

SPARSITY = 0.5


def print_protocol(model_name: str, text: str) -> None:
    """The machine, the versions and what was done, above the figures."""
    about = machine()
    print(f"measured on {about['processor']}, {about['threads']} threads, GPU {about['gpu']}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"model {model_name}; {text}")
