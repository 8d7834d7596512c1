"""Settings that all tests share: the same examples on every run, and few threads."""

import torch
from hypothesis import settings

settings.register_profile("prunekit", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("prunekit")
torch.set_num_threads(2)
