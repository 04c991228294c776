#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs each fuzz target of the repository for FUZZTIME (a duration of go test:
# 60s), one after the other, and says what came of it. FUZZ chooses among them
# by a regular expression on PACKAGE:NAME. What is found is kept by go test under
# testdata/fuzz of the package, to be committed with the fix; the run goes on
# with the next target, and fails at its end.
set -uo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-60s}
failed=()
printf '| target | time | executions | new inputs |\n|---|---:|---:|---:|\n'
while IFS=: read -r file name; do
	package=./$(dirname "$file")
	target=$package:$name
	[[ $target =~ ${FUZZ:-.} ]] || continue
	if out=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -parallel "${FUZZPARALLEL:-2}" "$package" 2>&1); then
		# fuzz: elapsed: 1m0s, execs: 1234567 (20000/sec), new interesting: 12 (total: 345)
		# Without such a line, what is known already took all the time.
		last=$(grep -o 'elapsed: .*, execs: .*' <<<"$out" | tail -1)
		printf '| `%s` | %s | %s | %s |\n' "$target" \
			"$(sed -E 's/elapsed: ([^,]*),.*/\1/' <<<"${last:-$time}")" "$(sed -E 's/.*execs: ([0-9]+).*/\1/' <<<"${last:-0}")" "$(sed -E 's/.*interesting: ([0-9]+).*/\1/' <<<"${last:-0}")"
	else
		printf '| `%s` | FAILED | | |\n' "$target"
		failed+=("$target"$'\n'"$out")
	fi
done < <(git grep -E --untracked -o 'func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/:func /:/')

if [ ${#failed[@]} -gt 0 ]; then
	printf '\n%s\n' "${failed[@]}" >&2
	exit 1
fi
