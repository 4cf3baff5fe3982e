"""FSDP2 as a strategy whose processes each write and read their own parts of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, final

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from omnithink_pl.distributed.collectives import gather_rows
from omnithink_pl.errors import RankFailure
from omnithink_pl.exclusive import make_folder
from omnithink_pl.model.checkpoint_file import read_mapped
from omnithink_pl.model.sharded_checkpoint import (
    refuse_damaged,
    remove_unnamed,
    shards_name,
    shards_of,
    split,
    write_parts,
    write_rest,
)
from omnithink_pl.model.sharding import sharded_like


@final
class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's strategy for sharded models, with checkpoints that are not gathered.

    Lightning writes either one file that the first process gathers, or one a process by
    ``torch.distributed.checkpoint``: over the last one, without checksums, and with the optimiser's state brought into
    being by a step of its own. Here parameters and optimiser state are written as they are, each process's parts to a
    file, and any number of processes continues from them: see :mod:`omnithink_pl.model.sharded_checkpoint`. A
    checkpoint of one file is read too.
    """

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Restore the optimiser by ``load_optimizer_state_dict``."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the module's state, sharded as it is."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimiser's state, sharded as it is."""
        return optimizer.state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, each process its parts; it is there when the first one has renamed its file.

        Raises:
            OSError: In all processes, if one cannot write; the checkpoint from before is unchanged.
            RankFailure: If another process is gone.
        """
        path, first = Path(self.broadcast(filepath)), self.is_global_zero
        rest, parts = split(checkpoint)
        folder = None
        with _together():
            if first:
                remove_unnamed(path)  # where writing was cut off
                folder = make_folder(path.parent, shards_name(path))
        folder, mark = self.broadcast((folder, token_hex(8)))
        assert folder is not None
        with _together():
            write_parts(parts, folder, self.global_rank, mark)
        with _together():
            if first:
                write_rest(rest, path, folder, self.world_size, mark)
                remove_unnamed(path)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint: this process's parts of what is sharded, or tensors that are mapped from one file.

        Raises:
            BadInput: If a file of parts is damaged or missing; names it.
        """
        path = Path(self.broadcast(checkpoint_path))
        checkpoint = read_mapped(path)  # whoever chose it has compared its checksums
        shards = shards_of(checkpoint, path)
        if shards is None:
            return checkpoint
        refuse_damaged(gather_rows(shards.damage(self.global_rank, self.world_size)))
        return shards.fill(checkpoint, self.device_mesh["data_parallel"])

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Restore parameters and buffers."""
        module = self.lightning_module
        assert module is not None
        own = module.state_dict()
        values = {name: sharded_like(value, own.get(name, value)) for name, value in checkpoint["state_dict"].items()}
        module.load_state_dict(values, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the optimisers' states; those of one file are divided as the parameters are."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {key: _own(value, parameters[number]) for key, value in values.items()}
                for number, values in saved["state"].items()
            }
            states.append({**saved, "state": state})
        Strategy.load_optimizer_state_dict(self, {"optimizer_states": states})


def _own(value: Any, parameter: Tensor) -> Any:
    """Return an optimiser's value for a parameter, sharded as that is, and not mapped from a file."""
    if not isinstance(value, Tensor) or isinstance(value, DTensor):
        return value
    return sharded_like(value, parameter).clone()


@contextmanager
def _together() -> Iterator[None]:
    """Have all processes fail if the work inside fails in one; they enter and leave together.

    Raises:
        OSError: Of the first process that failed.
        RankFailure: If another process is gone.
    """
    problem = []
    try:
        yield
    except OSError as error:
        problem = [str(error)]
    try:
        problems = gather_rows(problem)
    except RuntimeError as error:
        raise RankFailure(f"another process of this run is gone; see its message ({error})") from error
    if problems:
        raise OSError(problems[0])
