#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts the demo program, records it for 3 s and says where to look; then the
# same through the service, as from another host.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo

out=demo-output
mkdir -p $out
bin/demo &
demo=$!
service=
trap 'kill $demo; [ -z "$service" ] || $as_root kill $service' EXIT
sleep 0.2

$as_root bin/srprof record --pid $demo --duration 3s --frequency 499 \
	--output $out/demo.svg --output $out/demo.html --output -

echo
echo "Flame graph (any browser):  $PWD/$out/demo.svg"
echo "Page with table and search: $PWD/$out/demo.html"
echo
echo "The same through the service, with certificates on both sides:"

certs=$out/certs
bin/srprof certs --dir $certs --force >/dev/null
bin/serviceradar-profiler config example |
	sed -e 's|":50084"|"127.0.0.1:0"|' -e "s|/etc/serviceradar/certs|$certs|" >$out/profiler.json
$as_root bin/serviceradar-profiler --config $out/profiler.json >$out/profiler.log 2>&1 &
service=$!
address=
while [ -z "$address" ]; do
	sleep 0.1
	kill -0 $service || { cat $out/profiler.log; exit 1; }
	address=$(sed -n 's/.*"message":"listening".*"address":"\([^"]*\)".*/\1/p' $out/profiler.log)
done
(
	set -x
	bin/srprof record --server "$address" --cert-dir $certs --pid $demo --duration 3s --frequency 499 --output $out/service.svg
	bin/srprof list --server "$address" --cert-dir $certs
)
