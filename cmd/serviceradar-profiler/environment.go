// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/config"
)

// variablePrefix begins the names of variables of the environment that stand
// for keys of the configuration: SRPROF_PROFILER_LOGGING_LEVEL.
const variablePrefix = "SRPROF_PROFILER_"

// fromEnvironment takes the variables of ServiceRadar's loggers for defaults:
// those services use them where their configuration says nothing.
func (l *logging) fromEnvironment(get func(string) string) (used []string) {
	for _, v := range []struct {
		name string
		set  func(string)
	}{
		{"LOG_LEVEL", func(s string) { l.Level = s }},
		{"LOG_OUTPUT", func(s string) { l.Output = s }},
		{"LOG_TIME_FORMAT", func(s string) { l.TimeFormat = s }},
		{"DEBUG", func(s string) { l.Debug = slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(s)) }},
	} {
		if value := get(v.name); value != "" {
			v.set(value)
			used = append(used, v.name)
		}
	}
	return used
}

// place says where a key may have been set: in the file, and in those variables.
// No key stands for all.
func (s *settings) place(path, key string) string {
	own := config.Variable(variablePrefix, key)
	var names []string
	for _, name := range s.Variables {
		if key == "" || name == own || strings.HasPrefix(name, own+"_") || key == "logging" && !strings.HasPrefix(name, variablePrefix) {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return cmp.Or(path, "the defaults")
	case path == "":
		return strings.Join(names, ", ")
	}
	return path + " with " + strings.Join(names, ", ")
}
