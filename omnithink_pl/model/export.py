"""What must hold before the first step for a policy to be saved after the last one."""

from __future__ import annotations

import logging
import tempfile

from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import read_config

log = logging.getLogger(__name__)

# Values of a generation config that only sampling reads.
SAMPLING_ONLY = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
)
# ... and that only beam search reads.
BEAMS_ONLY = ("early_stopping", "length_penalty")


def mend_generation_config(model: PreTrainedModel, name: str) -> None:
    """Leave out values of a model's generation config that have no effect and that transformers refuses to save.

    Published instruct models have ``do_sample: false`` beside a temperature; transformers loads that with a warning,
    and raises when it is to be saved: at the end of a run.

    Args:
        model: Just loaded.
        name: Of the policy, for messages.

    Raises:
        BadInput: If the config cannot be saved for another reason.
    """
    config = model.generation_config
    if config is None:
        return
    unused = [
        *([] if config.do_sample is True else SAMPLING_ONLY),
        *([] if (config.num_beams or 1) > 1 else BEAMS_ONLY),
    ]
    try:
        config.validate(strict=True)
    except ValueError:
        for value in unused:
            setattr(config, value, None)
        _validate(config, name)
        log.warning("model.policy: left out of the generation config of %r what it does not use: sampling is off", name)


def _validate(config: GenerationConfig, name: str) -> None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        why = " ".join(str(error).split())
        raise BadInput(
            f"model.policy: the generation_config.json of {name!r} is invalid, so that the trained policy could not be "
            f"saved: {why}; correct the file or delete it"
        ) from error


def check_export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trust_remote_code: bool = False) -> None:
    """Save a policy without its weights, and load that again.

    Args:
        model: Without adapters.
        tokenizer: Its tokenizer.
        trust_remote_code: Whether it was loaded by code that came with it, which is saved with it.

    Raises:
        BadInput: If a file cannot be written or read, what is read is no config of a policy, or the tokenizer that is
            read makes other tokens.
    """
    name, text = type(model).__name__, "<think> 1 + 2\n</think> <answer>3</answer>"
    with tempfile.TemporaryDirectory(prefix="omnithink-export-") as directory:
        try:
            model.config.save_pretrained(directory)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(directory)
            tokenizer.save_pretrained(directory)
            read_config(directory, "the saved policy", trust_remote_code)
            again = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)
        except BadInput as error:  # the text part of a composite model may be no model of its own
            raise BadInput(f"model.policy: {name} could not be loaded again after training: {error}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = " ".join(str(error).split())
            raise BadInput(
                f"model.policy: {name} could not be saved after training: {why}; correct its config.json, "
                f"generation_config.json or tokenizer files"
            ) from error
    if again.encode(text) != tokenizer.encode(text) or again.chat_template != tokenizer.chat_template:
        raise BadInput(
            f"model.policy: the tokenizer of {name} is not the same once saved and loaded again; save it with "
            f"transformers 5 (AutoTokenizer.from_pretrained, save_pretrained) and use that directory"
        )
