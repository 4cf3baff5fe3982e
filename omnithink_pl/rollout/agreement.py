"""At the start of a run: the forward pass of training, a plain one and the sampler must be one model (law 12).

Each computes log-probabilities in its own way: training packs prompts and completions into one row, the sampler decodes
token by token from a cache, and the plain forward pass is transformers' own, on one sequence. An architecture that one
of them misunderstands would train without any error, on wrong probability ratios.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import accepted
from omnithink_pl.model.compilation import is_compiled
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import Policy
from omnithink_pl.model.precision import computing
from omnithink_pl.model.randomness import eval_mode
from omnithink_pl.model.sharding import sharded_modules, whole
from omnithink_pl.model.soundness import MISCALLED
from omnithink_pl.rollout.base import RolloutEngine, Sampling, check_prompts
from omnithink_pl.rollout.transformers import TransformersEngine

log = logging.getLogger(__name__)
Tokens = Sequence[int]

# Of two prompts, the longest tokens that are used: a check of a second or two for a model of 135 million parameters.
LENGTHS = 16, 24
COMPLETIONS, TOKENS = 2, 8  # of each prompt, and of each completion, at most
FINE = {torch.float32, torch.float64}
# Differences in nats that are rounding, mean and largest: in float32 up to 3e-5 were measured.
EXACT = 1e-4, 2e-3
# Where weights have 16 or 4 bits, or the engine's have: means of 0.02 to 0.14 were measured.
COARSE = 0.3, float("inf")
# A causal model's logits before a token move by rounding when it changes; this share of what moves at the token.
LEAK_EXACT, LEAK_COARSE = 1e-3, 0.1
OTHER_MODEL = "use another model: docs/models.md lists architectures"
RANDOM = (
    "some randomness stays on in training mode, so that probability ratios would be noise; set the model's dropout and "
    "noise to 0 in its config.json, or " + OTHER_MODEL
)


def check_agreement(
    policy: Policy,
    engine: RolloutEngine,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    share_prompt: bool | None,
) -> None:
    """Compare the log-probabilities of a few completions, computed in each of the ways of a run.

    Where weights of float32 are computed with in bfloat16 (bf16-mixed), all that transformers computes is compared in
    float32 too: errors of 0.01 to 0.09 nats passed for bfloat16's rounding. Float32 is not to be had from a sharded
    policy, whose weights are gathered in bfloat16, nor from weights of 16 or 4 bits: there such errors go unseen.

    With a sharded policy, or an engine that processes share, all processes must call this with the same prompts. Of
    all here, only sampling with that engine, once, and gathering that policy are collective.

    Args:
        policy: As it will be trained, on its device.
        engine: Attached to the policy.
        prompts: Token ids of two short real prompts, of different lengths.
        sampling: That of the run; of it, temperature and longest completion are used.
        share_prompt: As in training; ``None`` where nothing is trained.

    Raises:
        BadInput: If two of them differ by more than rounding, the model looks ahead, or training would be random; names
            the pair, and the cure.
        ValueError: If a prompt does not fit into the context.
    """
    with torch.no_grad(), torch.random.fork_rng(_devices(policy.model)):
        with computing(policy.model, policy.compute):
            completions = _check(policy, engine, prompts, sampling, share_prompt)
        if _computes_coarser_than_weights(policy):
            with _in_float32(policy):
                _check(policy, engine, prompts, sampling, share_prompt, completions)


def _check(
    policy: Policy,
    engine: RolloutEngine,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    share_prompt: bool | None,
    completions: list[list[Tokens]] | None = None,
) -> list[list[Tokens]]:
    """Compare in the dtype that the policy computes in, and return the completions of each prompt.

    Given completions are used if the engine has weights of its own: it would sample as it did before.
    """
    model, name, sampled = policy.model, type(policy.model).__name__, None
    exact = {policy.compute or p.dtype for p in model.parameters()} <= FINE
    temperature = sampling.temperature or 1.0
    _check_causal(model, min(prompts, key=len), exact)
    if completions is None or isinstance(engine, TransformersEngine):
        sampled, completions = _sample(policy, engine, prompts, sampling)
    pairs = [(prompt, c) for prompt, group in zip(prompts, completions, strict=True) for c in group]
    with eval_mode(model), whole(model):
        plain = torch.cat([plain_logprobs(model, *pair, temperature) for pair in pairs])
    if share_prompt is not None:
        forward = TrainingForward(model, prompts, completions, temperature, share_prompt)
        trained = forward.with_gradient()
        if _differ(trained, plain, exact):
            again = forward()
            if _differ(trained, again, exact):
                raise BadInput(f"{name}: two forward passes of training differ {_nats(trained, again)}: {RANDOM}")
            raise BadInput(_disagreement(f"{name}: {forward.name}", trained, plain, exact, forward.cure))
    exact = exact and not getattr(engine, "low_precision", False)
    if sampled is not None and _differ(sampled, plain, exact):
        what = f"{name}: the sampler {type(engine).__name__}"
        raise BadInput(_disagreement(what, sampled, plain, exact, _other(engine)))
    return completions


def _computes_coarser_than_weights(policy: Policy) -> bool:
    """Return whether the policy computes in bfloat16 and could do so in float32."""
    if policy.compute is None or sharded_modules(policy.model):
        return False
    return {p.dtype for p in policy.model.parameters()} <= FINE


@contextmanager
def _in_float32(policy: Policy) -> Iterator[None]:
    """Let forward passes, and an engine that samples from the policy itself, compute in float32, and not in TF32.

    Compiled layers run as they are: they would be compiled once more.
    """
    compute, precision = policy.compute, torch.get_float32_matmul_precision()
    policy.compute = None
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            computing(policy.model, None),
            torch.compiler.set_stance("force_eager") if is_compiled(policy.model) else nullcontext(),
        ):
            yield
    finally:
        policy.compute = compute
        torch.set_float32_matmul_precision(precision)


def check_dtypes(policy: Policy, engine: RolloutEngine, corrected: bool) -> None:
    """Warn of an engine that computes in another dtype than training; refuse it where nothing corrects the difference.

    Most of a small update is below bfloat16's spacing. Qwen2.5-0.5B in float32 and its engine in bfloat16 differ by
    0.017 nats a token before any update and by 0.138 (2.6 at most) after three AdamW steps of 5e-6, while the engine
    still equals the weights cast to bfloat16 to 0.022: completions come from another policy than the trained one. Under
    bf16-mixed both compute with the cast weights.

    Args:
        policy: As it will be trained.
        engine: One without a ``dtype`` samples from the policy itself, or does not say.
        corrected: Whether ``model.rollouts.correction`` weighs tokens.

    Raises:
        BadInput: If the dtypes differ and nothing is corrected.
    """
    own = str(policy.compute or policy.model.dtype).removeprefix("torch.")
    other = getattr(engine, "dtype", own)
    if other == own:
        return
    why = (
        f"model.engine.init_args.dtype is {other} and training computes in {own}: small updates vanish in one of them, "
        f"so that completions come from another policy (0.14 nats a token were measured after three updates); set "
        f"trainer.precision to bf16-mixed beside bfloat16, to 32-true beside float32"
    )
    if not corrected:
        raise BadInput(f"{why}, or model.rollouts.correction.level to token")
    log.warning(why)


@final
@dataclass(frozen=True)
class TrainingForward:
    """The forward pass of training over some completions; calling it returns their log-probabilities, flat."""

    model: PreTrainedModel
    prompts: Sequence[Tokens]
    completions: Sequence[Sequence[Tokens]]
    temperature: float
    share_prompt: bool

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"the {'packed' if self.share_prompt else 'padded'} forward pass of training"

    @property
    def cure(self) -> str:
        """What to do if it fails."""
        return "set model.memory.share_prompt to false" if self.share_prompt else OTHER_MODEL

    def __call__(self) -> Tensor:
        """Compute the log-probabilities."""
        with _unsupported(f"{type(self.model).__name__}: {self.name}", self.cure):
            found = token_logprobs(
                self.model, self.prompts, self.completions, self.temperature, share_prompt=self.share_prompt
            )
        return found.logprobs[found.mask]

    def with_gradient(self) -> Tensor:
        """Compute them, and the gradient by the embedded tokens: some models divide by 0 where there is padding.

        That gradient passes through all layers but belongs to no parameter, so that no hook of DDP is called.

        Raises:
            BadInput: If the backward pass fails, or its gradient is not finite.
        """
        if parts := sharded_modules(self.model):  # whose hooks expect the gradients of parameters
            found = self()
            for part in parts:  # only a backward pass would; a checkpoint is loaded into shards after this
                part.reshard()
            return found
        embedded: list[Tensor] = []

        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            embedded.append(output if output.requires_grad else output.requires_grad_())  # frozen below adapters

        hook = self.model.get_input_embeddings().register_forward_hook(record)
        try:
            with torch.enable_grad():
                found = self()
                with _unsupported(f"{type(self.model).__name__}: the backward pass of training", self.cure):
                    (gradient,) = torch.autograd.grad(found.sum(), embedded[0])
        finally:
            hook.remove()
        if not gradient.isfinite().all():
            raise BadInput(f"{type(self.model).__name__}: the gradient of {self.name} is not finite; {self.cure}")
        return found.detach()


def short_prompts(prompts: Iterable[list[int]]) -> list[list[int]]:
    """Return the ends of the two shortest prompts of different lengths: what :func:`check_agreement` needs."""
    by_length: dict[int, list[int]] = {}
    for prompt in prompts:
        by_length.setdefault(len(prompt), prompt)
    shortest = [by_length[length] for length in sorted(by_length)[:2]]
    return [prompt[-length:] for prompt, length in zip(shortest, LENGTHS, strict=False)]


def plain_logprobs(model: PreTrainedModel, prompt: Tokens, completion: Tokens, temperature: float = 1.0) -> Tensor:
    """Return the log-probability of each token of a completion, ``[T]``: one sequence, no cache, nothing of ours."""
    tokens = torch.tensor([[*prompt, *completion]], device=model.device)
    with _unsupported(f"{type(model).__name__}: a plain forward pass", OTHER_MODEL):
        logits = model(input_ids=tokens, **accepted(model, use_cache=False)).logits[0, len(prompt) - 1 : -1]
    every = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)
    return every.gather(-1, tokens[0, len(prompt) :, None]).squeeze(-1)


def _sample(
    policy: Policy, engine: RolloutEngine, prompts: Sequence[Tokens], sampling: Sampling
) -> tuple[Tensor, list[list[Tokens]]]:
    """Return the sampler's log-probabilities of all tokens, and the completions of each prompt."""
    # Without a nucleus: rounding can move its edge, and with it all probabilities.
    sampling = replace(sampling, group_size=COMPLETIONS, top_p=1.0, max_tokens=min(TOKENS, sampling.max_tokens))
    check_prompts(prompts, sampling, policy.context)
    with _unsupported(f"{type(policy.model).__name__}: sampling by {type(engine).__name__}", _other(engine)):
        engine.sync()
        groups = engine.generate(prompts, sampling, range(len(prompts)))
    values = [value for group in groups for completion in group for value in completion.logprobs]
    return torch.tensor(values, device=policy.model.device), [[c.token_ids for c in group] for group in groups]


def _check_causal(model: PreTrainedModel, prompt: Tokens, exact: bool) -> None:
    """Refuse a model whose logits depend on later tokens: change the last one and look at those before."""
    prompt = prompt[-8:]
    if len(prompt) < 2:
        return
    other = next((token for token in prompt if token != prompt[-1]), prompt[-1] - 1 if prompt[-1] else 1)
    tokens = torch.tensor([[*prompt], [*prompt[:-1], other]], device=model.device)
    with _unsupported(f"{type(model).__name__}: a plain forward pass", OTHER_MODEL), eval_mode(model), whole(model):
        logits = model(input_ids=tokens, **accepted(model, use_cache=False)).logits.float()
    moved = (logits[0] - logits[1]).abs().amax(-1)
    if moved[:-1].max() > (LEAK_EXACT if exact else LEAK_COARSE) * moved[-1]:
        raise BadInput(
            f"model.policy: {type(model).__name__} looks ahead: changing a token changes the predictions before it, so "
            f"it is no causal language model (BERT and its kin are bidirectional); use a decoder, such as Qwen or Llama"
        )


@contextmanager
def _unsupported(what: str, cure: str) -> Iterator[None]:
    """Turn what a model's code raises into an error with the cure; ours, and lack of memory, stay as they are."""
    try:
        yield
    except (BadInput, torch.OutOfMemoryError):
        raise
    except (*MISCALLED, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(f"{what} fails ({type(error).__name__}: {why}); {cure}") from error


def _differ(a: Tensor, b: Tensor, exact: bool) -> bool:
    mean, largest = EXACT if exact else COARSE
    difference = (a - b).abs()
    return not (difference.mean() <= mean and difference.max() <= largest)  # so that NaN differs


def _nats(a: Tensor, b: Tensor) -> str:
    difference = (a - b).abs()
    return f"by {difference.mean():.2g} nats on average and {difference.max():.2g} at most"


def _disagreement(what: str, own: Tensor, plain: Tensor, exact: bool, cure: str) -> str:
    return (
        f"{what} and a plain forward pass are not one model: their log-probabilities of the same tokens differ "
        f"{_nats(own, plain)}{', in float32' if exact else ''}, so that training would go wrong; {cure}"
    )


def _other(engine: RolloutEngine) -> str:
    if isinstance(engine, TransformersEngine):
        return "sample with vLLM (configs/rollout/vllm.yaml), or " + OTHER_MODEL
    finer = "set model.engine.init_args.dtype (of a server, --dtype) to float32, or "
    return (finer if getattr(engine, "low_precision", False) else "") + "use configs/base.yaml's engine"


def _devices(model: PreTrainedModel) -> list[torch.device]:
    return [model.device] if model.device.type == "cuda" else []
