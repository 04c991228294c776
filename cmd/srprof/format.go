// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/session"
)

// outputName is the one flag for what comes out, and in which form. Commands
// that write profiles take files; to them only "json" is a word.
const outputName = "output"

// Forms of what commands tell.
const (
	formTable = "table"
	formWide  = "wide"
	formJSON  = "json"
)

// formFlag is -o of commands that tell something.
type formFlag struct {
	form  string
	forms []string
}

// addFormFlag adds it; wide tells whether there is a table with more columns.
func (f *formFlag) addFormFlag(c *cobra.Command, wide bool) {
	f.forms = []string{formTable, formJSON}
	if wide {
		f.forms = []string{formTable, formWide, formJSON}
	}
	c.Flags().StringVarP(&f.form, outputName, "o", formTable, "`FORM` to write: "+strings.Join(f.forms, ", ")+" (errors too, to standard error, with their code)")
	completeWords(c, outputName, f.forms...)
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(f.forms, f.form) {
			return session.Invalid("unknown_output", fmt.Sprintf("--output is %q", f.form), "say "+strings.Join(f.forms, ", "))
		}
		return run(c, args)
	}
}

func (f *formFlag) json() bool { return f.form == formJSON }

// wantsJSON finds out whether errors are to be JSON. It looks at the words of
// the command line, since what cannot be parsed has errors, too.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-o" + formJSON, "-o=" + formJSON, "--output=" + formJSON:
			return true
		case "-o", "--" + outputName:
			if i+1 < len(args) && args[i+1] == formJSON {
				return true
			}
		}
	}
	return false
}

// writeJSON is the form for programs: an object or a list, or a line of it.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	return e.Encode(v)
}

// listJSON is what JSON has for no elements: [] and not null.
func listJSON[T any](all []T) []T { return append([]T{}, all...) }
