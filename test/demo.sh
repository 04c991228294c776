#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts the demo program, records it for 3 s and says where to look; then the
# same through profiler, agent and poller, as from another host.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo

out=demo-output
mkdir -p $out
bin/demo &
demo=$!
up=
# What srprof up has started ends with it.
trap 'kill $demo; [ -z "$up" ] || { $as_root kill $up; wait $up; } || true' EXIT
sleep 0.2

$as_root bin/srprof record --pid $demo --duration 3s --frequency 499 \
	--output $out/demo.svg --output $out/demo.html --output -

echo
echo "Flame graph (any browser):  $PWD/$out/demo.svg"
echo "Page with table and search: $PWD/$out/demo.html"
echo
echo "The same through profiler, agent and poller, with certificates on all sides:"
echo

$as_root bin/srprof up --dir $PWD/$out/up >$out/type-this.txt 2>$out/up.log &
up=$!
until grep -q 'Ctrl-C ends it' $out/up.log; do
	kill -0 $up 2>/dev/null || { cat $out/up.log; exit 1; }
	sleep 0.1
done
# As root the context is found by itself; with sudo, the first line says where.
eval "$(grep -o 'export .*' $out/type-this.txt || true)"
host=$(hostname)
(
	set -x
	bin/srprof hosts
	bin/srprof run "$host" --pid $demo -d 3s --frequency 499 -o $out/fleet.svg -o -
	bin/srprof list
)
echo
echo "Flame graph of it: $PWD/$out/fleet.svg"
