"""Folders to be damaged, and text for what is streamed."""

import shutil

import pytest
import torch
from tiny import VOCABULARY

from prunekit.compression.compress import compress
from prunekit.storage.save import save


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of a tiny checkpoint, to be damaged."""
    return shutil.copytree(folders.llama, tmp_path / "copy")


@pytest.fixture
def compressed(llama, ids, tokenizer, tmp_path):
    """A folder that prunekit wrote, to be damaged."""
    return save(compress(llama, ids, sparsity=0.5, fp8="e4m3"), tokenizer, tmp_path / "compressed")


@pytest.fixture(scope="session")
def windows():
    """Forty windows of 32 tokens: five batches of calibration."""
    return torch.randint(1, VOCABULARY, (40, 32), generator=torch.Generator().manual_seed(3))
