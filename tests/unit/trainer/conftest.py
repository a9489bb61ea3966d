"""Tiny models do not gain from threads, and lose a lot where other processes want the cores."""

import torch

torch.set_num_threads(1)
