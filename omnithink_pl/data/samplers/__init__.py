"""Ways to mix tasks in a batch, one a file, named in YAML by ``class_path``."""

from omnithink_pl.data.samplers.adaptive import AdaptiveSampler
from omnithink_pl.data.samplers.base import TaskSampler
from omnithink_pl.data.samplers.proportional import ProportionalSampler
from omnithink_pl.data.samplers.stratified import StratifiedTaskSampler
from omnithink_pl.data.samplers.uniform import UniformSampler

__all__ = ["AdaptiveSampler", "ProportionalSampler", "StratifiedTaskSampler", "TaskSampler", "UniformSampler"]
