#!/usr/bin/env bash
# Labels all photos with `streets` and trains it on with these labels, twice:
#
#     run.sh DATA SETS OUT
#
# DATA has the folders maps and massachusetts_orthos, SETS is what make.sh of ../2026-11-29_streets makes.
# A run that was interrupted goes on when the command is given again.
set -euo pipefail
data=$(realpath "$1") sets=$(realpath "$2") here=$(cd "$(dirname "$0")" && pwd)
first=$here/../2026-11-28_streets
mkdir -p "$3" && cd "$3"

# label NAME METRES SCALES MASKS LICENCE PHOTO ...: photos that `streets` labels, as the data set NAME
label() {
  local name=$1 metres=$2 scales=$3 masks=$4 licence=$5; shift 5
  [ -d "$name" ] && return
  mkdir -p "labels/$name" "photos/$name"
  python "$here/label_all.py" "$sets/shipped" "$metres" "$scales" "$masks" "labels/$name" "$@"
  mv "labels/$name/mapping.json" "labels/$name.json"
  ln -sf "$@" "photos/$name/"
  sat2map data masks "photos/$name" "$name" --classes "labels/$name" --mapping "labels/$name.json" \
    --resolution "$metres" --val 0 --licence "$licence"
}
naip='Imagery USDA NAIP, public domain; data set CC BY 4.0 (Ventura et al. 2024), masks derived'
massgis='Imagery MassGIS, public; roads (C) OpenStreetMap contributors, ODbL'
oam='Imagery OpenAerialMap, CC BY 4.0; buildings (C) OpenStreetMap contributors, ODbL'
label naip_labelled .6 .7,1.1 "$sets/naip/train/classes" "$naip" "$sets"/naip/train/source/*
for metres in 1m0 1m46; do
  known=massachusetts_$metres scales=1.1,1.46; [ $metres = 1m46 ] || scales=.75,1.0
  label "${known}_labelled" "${metres/m/.}" $scales "$sets/$known/train/classes" "$massgis" \
    "$sets/$known"/train/source/*
done
label massachusetts_labelled 1.46 1.1,1.46 - "$massgis" "$data"/massachusetts_orthos/unlabelled/*.jpg
label banepa_labelled .53 .53,.8 "$sets/banepa/train/classes" "$oam" "$sets"/banepa/train/source/*

all=("$data/maps" "$sets/towns_temperate" "$sets/towns" naip_labelled massachusetts_1m0_labelled
  massachusetts_1m46_labelled massachusetts_labelled banepa_labelled)
for seed in 51 52; do
  sat2map train --recipe "$here/recipe.toml" --set "training.seed=$seed" --init "$sets/shipped" \
    "${all[@]/#/--data=}" --out "seed_$seed" --resume
done
[ -d both ] || python "$first/mean.py" seed_51/model seed_52/model 0.5 both
[ -d half ] || python "$first/mean.py" "$sets/shipped" both 0.5 half
