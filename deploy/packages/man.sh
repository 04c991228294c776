#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/packages/man.sh PROGRAM SECTION SUMMARY: writes its manual page, which
# is what it says to --help, and each of its commands.
set -euo pipefail
program=$1 section=$2 summary=$3
name=$(basename "$program")

escaped() { sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^[.']/\\\\\&&/"; }
verbatim() { printf '.nf\n'; escaped; printf '.fi\n'; }

version=$("$program" --version)
help=$("$program" --help)
printf '.TH "%s" %s "" "%s"\n.SH NAME\n' "${name^^}" "$section" "$(escaped <<<"$version")"
printf '%s \\- %s\n.SH DESCRIPTION\n' "$(escaped <<<"$name")" "$(escaped <<<"$summary")"
verbatim <<<"$help"
# What it would complete: commands, a tab, what they do.
"$program" __complete "" 2>/dev/null | sed -n 's/\t.*//p' | while read -r command; do
	case $command in completion | help | -*) continue ;; esac
	printf '.SH "%s"\n' "$(escaped <<<"$name $command")"
	"$program" help "$command" | verbatim
done
