#!/usr/bin/env bash
# Train a pretrained model on four real tasks, in four commands: demonstrations of its own, a cold start on them, how often it
# then solves each prompt, and the curriculum on prompts that it solves neither never nor always. docs/real.md explains them.
# Run again, it goes on where it was stopped. What it writes lies below outputs/MODEL.
#
#   scripts/real.sh qwen2.5-0.5b                           # a file of configs/real/
#   scripts/real.sh smollm2 --model.policy=/models/smollm2 --config=configs/rollout/vllm.yaml   # what predict and fit both take
set -euo pipefail

model=${1:?"a file of configs/real/, such as qwen2.5-0.5b"}
shift
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
configs=$home/configs/real
out=outputs/$model
cold_start=$out/cold_start/latest/policy

omnithink() { # VERB ARGUMENT...
    local verb=$1
    shift
    echo "== $verb $*"
    "${PYTHON:-python}" "$home/main.py" "$verb" --config="$configs/$model.yaml" --config="$configs/lora.yaml" "$@"
}

sample() { # NAME ARGUMENT...: once, since what is trained on must stay what it is
    local name=$1
    shift
    [ -e "$out/$name/dataset" ] || omnithink predict "$@" --demonstrations.output="$out/$name"
}

train() { # NAME ARGUMENT...: from the newest checkpoint of this name, if there is one
    local name=$1
    shift
    if compgen -G "$out/$name/*/last.ckpt" > /dev/null; then set -- "$@" --ckpt_path=last; fi
    omnithink fit "$@" --name="$name" --trainer.default_root_dir="$out"
}

if [ -e "$out/cold_start_data" ] && [ "$(cat "$out/arguments")" != "$*" ]; then
    echo "$out was begun with other arguments: $(cat "$out/arguments"). Give those, or remove the folder." >&2
    exit 2
fi
# The judge of writing is the base in all four commands, also where the policy is no longer the base.
base=$(sed -n 's/^  policy: \([^ ]*\).*/\1/p' "$configs/$model.yaml")
for argument in "$@"; do
    case $argument in
        --model.policy) echo "write --model.policy=DIR in one word, by which the judge is named" >&2 && exit 2 ;;
        --model.policy=*) base=${argument#*=} ;;
    esac
done
judge=--data.tasks.writing.init_args.judge.init_args.model=$base
mkdir -p "$out"
echo "$*" > "$out/arguments"
sample cold_start_data "$@" --config="$configs/cold_start_data.yaml"
[ -e "$cold_start" ] ||
    train cold_start "$@" --config="$configs/cold_start.yaml" --data.demonstrations="$out/cold_start_data"
sample pass_rates "$judge" "$@" --config="$configs/pass_rates.yaml" --model.policy="$cold_start"
train curriculum "$judge" "$@" --model.policy="$cold_start" --data.pass_rates.path="$out/pass_rates"
