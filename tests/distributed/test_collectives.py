"""A strategy that would add gradients up on its own is refused."""

from __future__ import annotations

import pytest
import torch
from lightning import LightningModule

from omnithink_pl.distributed.collectives import no_gradient_sync
from omnithink_pl.errors import BadInput


def test_only_models_whose_gradients_are_ours_to_sum_are_trained() -> None:
    with no_gradient_sync(LightningModule()):
        pass
    with pytest.raises(BadInput, match=r"trainer\.strategy reduces gradients on its own, in Linear"):
        no_gradient_sync(torch.nn.Linear(1, 1))
