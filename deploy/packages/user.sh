#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before the files come: one of them belongs to the service's group. As
# /usr/lib/sysusers.d/serviceradar-profiler.conf has it.
set -e
if ! getent passwd serviceradar-profiler >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		echo 'u serviceradar-profiler - "ServiceRadar profiler" /' | systemd-sysusers -
	else
		useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin --comment 'ServiceRadar profiler' serviceradar-profiler
	fi
fi
