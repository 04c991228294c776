// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/carverauto/serviceradar-profiler/privilege"
)

// confine gives up every privilege that this service does not need on this
// host, and says in one line which it has, and what the missing ones cost.
func confine(log *slog.Logger) {
	privilege.RaiseLimits()
	host, err := privilege.ThisHost()
	if err != nil {
		log.Error("privileges stay as they are: which are needed cannot be found out", "error", err.Error())
		return
	}
	holding, err := privilege.Keep(host.Needed())
	if err != nil {
		log.Error("privileges stay as they are", "error", err.Error())
	}
	level := slog.LevelInfo
	have, missing, costs := []string{}, []string{}, []string{}
	for _, r := range holding.Have {
		have = append(have, r.String())
	}
	for _, r := range holding.Missing {
		level = slog.LevelWarn
		missing = append(missing, r.String())
		costs = append(costs, r.Without)
	}
	log.Log(context.Background(), level, "privileges", "user", os.Geteuid(), "have", have, "missing", missing, "without_them", costs, "dropped", holding.Dropped)
}
