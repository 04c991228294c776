#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts the demo program, records it for 3 s and says where to look.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo

bin/demo &
demo=$!
trap 'kill $demo 2>/dev/null' EXIT
sleep 0.2

out=demo-output
mkdir -p $out
$as_root bin/srprof record --pid $demo --duration 3s --frequency 499 \
	--output $out/demo.svg --output $out/demo.html --output -

echo
echo "Flame graph (any browser):  $PWD/$out/demo.svg"
echo "Page with table and search: $PWD/$out/demo.html"
