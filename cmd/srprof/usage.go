// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/spelling"
)

// codeUsage is the code of mistakes in the command line itself.
const codeUsage = "usage"

// errFlag marks what is wrong with a flag.
var errFlag = errors.New("usage")

// usageError makes a mistake in the command line, which cobra has found, an error
// of ours: what is wrong, and what was probably meant. It is nil if err is none.
func usageError(c *cobra.Command, err error) error {
	var foreseen *session.Error
	if err == nil || errors.As(err, &foreseen) {
		return nil
	}
	e := session.Invalid(codeUsage, strings.TrimPrefix(err.Error(), errFlag.Error()+": "), c.CommandPath()+" --help shows how it is used")
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if near := nearestFlag(c, unknown.GetSpecifiedName()); near != "" {
			e.Remedy = "did you mean --" + near + "? " + e.Remedy
		}
	case errors.As(err, &invalid):
		invalidValue(invalid, e)
	case errors.Is(err, errFlag):
	case strings.HasPrefix(err.Error(), "unknown command "):
		unknownCommand(c, e)
	case slices.ContainsFunc([]string{"accepts ", "requires "}, func(prefix string) bool { return strings.HasPrefix(err.Error(), prefix) }):
		e.Problem += ": " + c.UseLine()
	case strings.HasPrefix(err.Error(), "required flag"):
	default:
		return nil
	}
	return e
}

// unknownCommand completes the error about a word that is no command.
func unknownCommand(c *cobra.Command, e *session.Error) {
	quoted, _ := strconv.QuotedPrefix(strings.TrimPrefix(e.Problem, "unknown command "))
	word, err := strconv.Unquote(quoted)
	if err != nil {
		return
	}
	if !c.HasAvailableSubCommands() {
		e.Problem = fmt.Sprintf("%s takes no argument, and %s is one", c.CommandPath(), quoted)
		return
	}
	var known []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			known = append(known, sub.Name())
		}
	}
	if near := spelling.Nearest(word, known); near != "" {
		e.Remedy = "did you mean " + c.CommandPath() + " " + near + "? " + e.Remedy
	}
}

func nearestFlag(c *cobra.Command, name string) string {
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	return spelling.Nearest(name, known)
}

// invalidValue says what a flag takes, where Go's own words are for programmers.
func invalidValue(of *pflag.InvalidValueError, e *session.Error) {
	kind := of.GetFlag().Value.Type()
	wants := map[string]string{"duration": "it takes a time with its unit, such as 500ms, 30s or 5m", "int": "it takes a whole number",
		"int64": "it takes a whole number", "intSlice": "it takes whole numbers"}[kind]
	if wants == "" {
		return
	}
	names := "--" + of.GetFlag().Name
	if short := of.GetFlag().Shorthand; short != "" {
		names = "-" + short + ", " + names
	}
	e.Problem = fmt.Sprintf("invalid argument %q for %s: %s", of.GetValue(), names, wants)
	if n, err := strconv.ParseUint(of.GetValue(), 10, 32); err == nil && kind == "duration" {
		e.Remedy = fmt.Sprintf("did you mean %v? %s", time.Duration(n)*time.Second, e.Remedy)
	}
}
