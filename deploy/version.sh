#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes the version of what is checked out, as the programs say it and as deb
# and rpm order it: 1.2.0 at the tag v1.2.0, 1.2.0+7.g0123abc seven commits
# later, 0.0.0+… before the first tag. What is not committed ends in .dirty.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! git rev-parse -q --verify HEAD >/dev/null 2>&1; then
	echo 0.0.0 # an archive of the sources
	exit 0
fi
dirty=
git diff --quiet HEAD -- || dirty=.dirty
if described=$(git describe --tags --match 'v[0-9]*' --long --abbrev=7 2>/dev/null); then
	commit=${described##*-g}
	rest=${described%-g*}
	count=${rest##*-}
	tag=${rest%-*}
	tag=${tag#v}
else
	tag=0.0.0 count=$(git rev-list --count HEAD) commit=$(git rev-parse --short=7 HEAD)
fi
if [ "$count" = 0 ]; then
	echo "$tag${dirty:++dirty}"
else
	echo "$tag+$count.g$commit$dirty"
fi
