#!/usr/bin/env bash
# Check and measure everything on the accelerator of this machine, with its own python3:
#   benchmarks/on_device.sh [--minutes 8] [--out DIR] [--model DIR]
# No installation of this project is needed; what is missing is named with the way to carry it along.
cd "$(dirname "$0")/.." && exec python3 benchmarks/on_device.py "$@"
