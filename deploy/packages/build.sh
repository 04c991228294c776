#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/packages/build.sh DIR [VERSION [ARCH…]]: writes deb and rpm packages of
# what is checked out into DIR, for amd64 and arm64 if nothing else is said.
#
# nfpm makes them without the distributions' tools. The newest whose modules
# were to be had; it needs nothing of ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=v2.45.2
tools=$PWD/bin/tools/nfpm-$version
[ -x "$tools/nfpm" ] || GOBIN=$tools go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$version

to=$(realpath -m "$1")
export VERSION=${2:-$(bash deploy/version.sh)}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- amd64 arm64
# All files have the commit's time: the same sources make the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

programs() { # ARCH
	CGO_ENABLED=0 GOARCH=$1 go build -trimpath -ldflags "-s -w -X github.com/carverauto/serviceradar-profiler/version.version=$VERSION" -o "$work/$1/" ./cmd/...
}
native=$(go env GOHOSTARCH)
programs "$native"
run=$work/$native

bash deploy/packages/man.sh "$run/srprof" 1 "profile running programs with eBPF" | gzip -9n >"$work/srprof.1.gz"
bash deploy/packages/man.sh "$run/serviceradar-profiler" 8 "profile the programs of this host on request" | gzip -9n >"$work/serviceradar-profiler.8.gz"
bash deploy/packages/man.sh "$run/serviceradar-profiler-agent" 8 "who may profile what on this host" | gzip -9n >"$work/serviceradar-profiler-agent.8.gz"
bash deploy/packages/man.sh "$run/serviceradar-profiler-poller" 8 "profiling sessions on the hosts of a fleet" | gzip -9n >"$work/serviceradar-profiler-poller.8.gz"
for shell in bash zsh fish; do
	"$run/srprof" completion $shell >"$work/srprof.$shell"
done
for service in serviceradar-profiler serviceradar-profiler-agent serviceradar-profiler-poller; do
	"$run/$service" completion bash >"$work/$service.bash"
done

# The services' scripts differ in names alone.
fill() { # NAME USER
	for file in user.sh deb/{postinst,postrm,prerm} rpm/{post,postun,preun}; do
		sed "s/@NAME@/$1/g; s/@USER@/$2/g" "deploy/packages/$file" >"$work/$1.${file//\//.}"
	done
	printf 'u %s - "%s" /\n' "$2" "$2" >"$work/$1.sysusers"
}
fill serviceradar-profiler serviceradar-profiler
fill serviceradar-profiler-agent serviceradar
fill serviceradar-profiler-poller serviceradar

for ARCH in "$@"; do
	export ARCH BUILD=$work/$ARCH
	[ "$ARCH" = "$native" ] || programs "$ARCH"
	cp "$work"/*.gz "$work"/*.bash "$work"/*.zsh "$work"/*.fish "$BUILD/"
	for name in srprof serviceradar-profiler serviceradar-profiler-agent serviceradar-profiler-poller; do
		sed "s|@SCRIPTS@|$work/$name|g" deploy/packages/$name.yaml >"$work/$name.yaml"
		for format in deb rpm; do
			"$tools/nfpm" package --config "$work/$name.yaml" --packager $format --target "$to/"
		done
	done
done
