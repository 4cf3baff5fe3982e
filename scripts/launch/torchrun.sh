#!/usr/bin/env bash
# One machine, or the same command on each of several:
#   scripts/launch/torchrun.sh --config configs/curriculum.yaml --config configs/scale/fsdp.yaml
# NODES, NODE (0, 1, ...) and HEAD (host:port of node 0) describe several; GPUS is per machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
nodes=${NODES:-1}
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
if ((nodes > 1)); then
  where=(--nnodes="$nodes" --node_rank="${NODE:?}" --rdzv_backend=c10d --rdzv_endpoint="${HEAD:?}" --rdzv_id=omnithink)
else
  where=(--standalone)
fi
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run "${where[@]}" --nproc_per_node="$gpus" \
  main.py fit "$@" --trainer.devices="$gpus" --trainer.num_nodes="$nodes"
