#!/usr/bin/env bash
# Trains and ships `streets` as this record tells, in one command:
#
#     make.sh DATA WORK [SEED]
#
# DATA has the folders maps, naip_california, massachusetts_orthos and banepa; WORK is a new folder, in
# which WORK/shipped is the model. A run that was interrupted goes on when the command is given again.
# What labels the photos of NAIP is trained first, as ../2026-11-28_streets tells: three hours in all on
# two quiet cores with AVX512-BF16.
set -euo pipefail
data=$(realpath "$1") seed=${3:-31} here=$(cd "$(dirname "$0")" && pwd)
first=$here/../2026-11-28_streets labels=$here/../2026-11-29_self-training
mkdir -p "$2" && cd "$2"

towns() { [ -d "$1" ] || sat2map data synthetic "$@" --size 512 --resolution 0.5; }
masks() { [ -d "$2" ] || sat2map data masks "$@"; }
towns towns_temperate --pairs 100 --kind temperate --seed 32
towns towns --pairs 300 --kind desert,tropics,informal,snow,red_soil --seed 41

naip='Imagery USDA NAIP, public domain; data set CC BY 4.0 (Ventura et al. 2024), masks derived'
massgis='Imagery MassGIS, public; roads (C) OpenStreetMap contributors, ODbL'
oam='Imagery OpenAerialMap, CC BY 4.0; buildings (C) OpenStreetMap contributors, ODbL'
mapping=$first/mapping.json
masks "$data/naip_california" naip --mapping "$mapping" --resolution .6 \
  --val 'palm_springs_*,eureka_*' --licence "$naip"
for metres in 1m0 1m46; do # a data set has one ground resolution
  mkdir -p "roads_$metres"
  ln -sf "$data"/massachusetts_orthos/roads/*_"$metres".* "roads_$metres/"
done
masks roads_1m0 massachusetts_1m0 --mapping "$mapping" --resolution 1.0 --val 0 --licence "$massgis"
masks roads_1m46 massachusetts_1m46 --mapping "$mapping" --resolution 1.46 --val '10228690_*' \
  --licence "$massgis"
masks "$data/banepa" banepa --mapping "$mapping" --resolution .53 --val 0 --licence "$oam"

# The two that label: the mean of an early and a late state of one run, and what comes of it.
others=(massachusetts_1m0 massachusetts_1m46 banepa)
sets=("$data/maps" towns_temperate towns naip "${others[@]}")
if [ ! -d naip_labelled ]; then
  sat2map train --recipe "$first/recipe.toml" --set training.seed=11 "${sets[@]/#/--data=}" \
    --out teacher --resume
  for step in 2750 5500; do
    [ -d "at_$step/model" ] || python "$first/finish.py" teacher $step "at_$step" "${sets[@]}"
  done
  [ -d mean ] || python "$first/mean.py" at_2750/model at_5500/model 0.33 mean
  sat2map train --recipe "$first/recipe-2.toml" --set training.seed=12 --init mean \
    "${sets[@]/#/--data=}" --out teacher_2 --resume
  mkdir -p labels
  python "$labels/label.py" mean,teacher_2/model 0.6 naip/train/classes labels naip/train/source/*
  mv labels/mapping.json .
  masks naip/train/source naip_labelled --classes labels --mapping mapping.json --resolution .6 \
    --val 0 --licence "$naip"
fi

sets=("$data/maps" towns_temperate towns naip_labelled "${others[@]}")
sat2map train --recipe "$here/recipe.toml" --set "training.seed=$seed" "${sets[@]/#/--data=}" \
  --out run --resume
# Half of an early state, which is better away from home, and half of the last, which is so at home.
[ -d early/model ] || python "$first/finish.py" run 3000 early "${sets[@]}"
[ -d mixed ] || python "$first/mean.py" early/model run/model 0.5 mixed
[ -d balanced ] || python "$first/balance.py" mixed "$data/maps" towns balanced
python "$first/ship.py" balanced "$data/maps" shipped 2026-11-29_streets naip massachusetts_1m46 \
  towns towns_temperate
python "$here/../2026-11-29_confidence/confidence.py" fit shipped "$data/maps" towns towns_temperate
python "$here/places.py" "$data" . streets-2026-11 shipped --card shipped
