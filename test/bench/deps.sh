#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the benchmarks need beyond the tests: real programs, and what
# keeps them busy.
set -euo pipefail

exec bash test/deps.sh nginx wrk postgresql sqlite3 xz-utils zstd imagemagick perl python3
