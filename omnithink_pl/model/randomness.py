"""Training without randomness: probability ratios must be those of one function of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PretrainedConfig

# In the names under which models keep a probability to leave something out: attention_dropout, resid_pdrop, layerdrop.
LEAVES_OUT = ("drop",)
# In the names of the noise of a mixture's router. It is not set to 0: PhiMoE reads it as a threshold, too.
NOISE = ("jitter", "noise")


def disable_randomness(model: nn.Module) -> None:
    """Switch every dropout, layer drop and router noise of a model off, in training mode too.

    Three places hold the probabilities: modules of torch; numbers that a layer copied from the config and passes to a
    function (Seed-OSS's ``residual_dropout``, OPT, GPTBigCode, XGLM); and the config, which some layers read in every
    forward pass, and which is saved with the policy. A router with noise goes into evaluation mode, in which it chooses
    the experts that it would choose when sampling. Call this after ``model.train()``, which would undo that.
    """
    configs: dict[int, PretrainedConfig] = {}
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        if _numbers(module, NOISE):
            module.training = False
        for config in _configs(getattr(module, "config", None)):
            configs[id(config)] = config
    for owner in (*model.modules(), *configs.values()):
        for name in _numbers(owner, LEAVES_OUT):
            setattr(owner, name, 0.0)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode inside, and restore every module's own afterwards.

    Dropout is off there, and layers keep keys and values, which gradient checkpointing would not let them.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _numbers(owner: object, words: tuple[str, ...]) -> list[str]:
    """Return the names of an object's own positive floats with one of these words in them."""
    return [
        name
        for name, value in vars(owner).items()
        if isinstance(value, float) and value > 0.0 and any(word in name for word in words)
    ]


def _configs(config: object) -> Iterator[PretrainedConfig]:
    """Yield a config and those inside it."""
    if isinstance(config, PretrainedConfig):
        yield config
        for inner in vars(config).values():
            yield from _configs(inner)
