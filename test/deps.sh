#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the tests need and that are missing, and
# those named as arguments.
set -euo pipefail

packages=(
	gcc g++ libc6-dev make git binutils util-linux bsdutils procps
	bash-completion                        # what a shell offers
	iproute2 iputils-ping                   # networks between hosts of our own
	clang-14 llvm-14                       # the BPF objects
	lld-14                                 # programs laid out as another linker does
	protobuf-compiler libprotobuf-dev      # the code for messages
	dwz libc6-dbg libbinutils-dbg          # debug information as distributions pack it
	libc6-arm64-cross libstdc++6-arm64-cross # unwind tables of another architecture
	musl-tools                             # programs of the zoo with another C library
	qemu-system-x86 qemu-system-arm        # other kernels
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	mmdebstrap systemd rpm                 # a Debian to install packages on, units and packages to look at
	linux-perf bpftrace bpftool            # what we are compared with
	redis-server redis-tools openssl       # real programs to profile
	libc6-dbg dwz xz-utils debuginfod      # names that were stripped
	chromium nodejs npm                    # drawings in a real browser
	openjdk-17-jdk-headless python3        # runtimes, besides nodejs
)
packages+=("$@")
# Any Rust compiler will do.
command -v rustc >/dev/null || packages+=(rustc)

missing=()
for p in "${packages[@]}"; do
	# A program that is there by other means (a newer Node.js, say) is as good.
	case $p in
	nodejs) command -v node >/dev/null && continue ;;
	npm) command -v npm >/dev/null && continue ;;
	esac
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi
echo "installing: ${missing[*]}"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
