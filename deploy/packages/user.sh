#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before the files come: one of them belongs to the service's group. As
# /usr/lib/sysusers.d/@NAME@.conf has it.
set -e
if ! getent passwd @USER@ >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		echo 'u @USER@ - "@USER@" /' | systemd-sysusers -
	else
		useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin --comment '@USER@' @USER@
	fi
fi
