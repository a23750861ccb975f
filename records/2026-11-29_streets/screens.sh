#!/usr/bin/env bash
# Runs of 300 steps that branch from one base, each with one thing changed, and what each is worth.
#
#     screens.sh BASE MAPS SETS OUT
#
# BASE is the run's average at step 3,000 (finish.py of ../2026-11-28_streets), SETS the folder of the
# data sets that make.sh makes. A screen that is there is not done again.
set -euo pipefail
base=$1 maps=$2 sets=$3 out=$4 here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"

all="towns_temperate towns naip_labelled massachusetts_1m0 massachusetts_1m46 banepa"
shares="5.0,0.5,0.9,1.5,0.35,0.35,0.2"

# screen NAME SETS SHARES [--set KEY=VALUE ...]
screen() {
  local name=$1 data=("--data=$maps") given=$3; for set in $2; do data+=("--data=$sets/$set"); done; shift 3
  [ -d "$out/$name/model" ] && return
  sat2map train --recipe "$here/recipe.toml" "${data[@]}" --out "$out/$name" --init "$base" --resume \
    --set training.max_steps=300 --set optimiser.learning_rate=6e-4 --set schedule.warmup_steps=30 \
    --set "data.shares=[$given]" --set training.seed=41 "$@"
}

screen control "$all" $shares
screen control_seed "$all" $shares --set training.seed=42
screen skeleton_recall "$all" $shares --set objective.road_cldice_weight=0 --set objective.road_recall_weight=0.2
screen adversarial "$all" $shares --set objective.adversarial_weight=0.02 --set objective.l1_weight=1.0
screen no_labels "${all/naip_labelled /}" 5.0,0.5,0.9,0.35,0.35,0.2
screen mix_norm "$all" $shares --set generator.mix_norm=0.5
screen no_camera "$all" $shares --set data.camera=0
screen norm_learns "$all" $shares --set generator.freeze_norm=false
screen adversarial_long "$all" $shares --set objective.adversarial_weight=0.05 --set objective.l1_weight=1.0 --set training.max_steps=1000
screen no_towns "${all/towns_temperate towns /}" 5.0,1.5,0.35,0.35,0.2
screen one_scale "$all" $shares --set 'data.resolutions_m=[0.9,1.1]'
