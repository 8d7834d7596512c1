"""`prunekit verify`: whether a folder is what prunekit wrote."""

from __future__ import annotations

import argparse

from ..storage.streamed.verify import verify


def run_verify(a: argparse.Namespace) -> None:
    """`prunekit verify`."""
    found = verify(a.folder)
    print(f"{found.files} files have their hashes; {found.layers} layers hold what the recipe says")
    print(f"sparsity {found.sparsity:.4f}")
