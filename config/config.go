// SPDX-License-Identifier: Apache-2.0

// Package config reads one JSON file into a command's own struct, strictly: a
// key that the struct does not have, a value of another type or a key that is
// there twice is an error that says where it is and what was probably meant.
// A setting that is silently without effect is the worst kind of setting.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"
)

const (
	maxSize   = 16 << 20 // of a file: a poller's names its agents and their checks, a megabyte for 5,000; more is not a configuration
	maxDepth  = 32       // of objects within objects
	maxErrors = 20       // that are told of one file
)

// Error is one thing that is wrong in a file.
type Error struct {
	Code         string // config_invalid, or config_unreadable
	File         string
	Line, Column int    // from 1, in bytes; 0 if it is about all of the file
	Key          string // "profiler.max_frequency_hz"; empty if it is about none
	Problem      string
	Remedy       string
	Cause        error
}

// Error is the sentence, after the place as compilers write it.
func (e *Error) Error() string {
	s := e.File + ": "
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	s += e.Problem
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap lets errors.Is find the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Read reads a file into the struct that v points to. What the file does not
// name stays as it was: v begins as the defaults. The error joins an *Error for
// each thing that is wrong, and then v is not to be used.
//
// Fields have their names from json tags. They may be strings, booleans,
// numbers, slices, maps with strings for keys, structs and pointers to such; a
// time.Duration is a string like "10s".
func Read(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadable(path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return unreadable(path, err)
	}
	return Parse(path, b, v)
}

// Parse is Read with the content of a file.
func Parse(name string, b []byte, v any) error {
	p := &problems{file: name, text: b}
	switch {
	case len(b) > maxSize:
		return p.whole("the file is larger than 16 MiB", "a configuration is smaller")
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return p.whole("the file begins with a byte order mark", "save it as UTF-8 without one")
	case !utf8.Valid(b):
		return p.whole("the file is not UTF-8", "save it as UTF-8")
	case len(bytes.TrimSpace(b)) == 0:
		return p.whole("the file is empty", "the least that it can hold is {}")
	}
	root, err := parse(p)
	if err != nil {
		return err
	}
	fill(p, root, v)
	return errors.Join(p.found...)
}

func unreadable(path string, err error) error {
	e := &Error{Code: "config_unreadable", File: path, Problem: "the configuration cannot be read", Cause: err, Remedy: "name a file that this program may read"}
	var p *fs.PathError
	if errors.As(err, &p) {
		e.Cause = p.Err // the path is in the sentence already
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Remedy = "write one, or name another with --config"
	}
	return e
}

// problems collects what is wrong with a file.
type problems struct {
	file  string
	text  []byte
	found []error
}

func (p *problems) whole(problem, remedy string) error {
	return &Error{Code: "config_invalid", File: p.file, Problem: problem, Remedy: remedy}
}

// at makes an error about a place in the file; nowhere is about all of it.
func (p *problems) at(offset int, key, problem, remedy string) *Error {
	if offset == nowhere {
		return &Error{Code: "config_invalid", File: p.file, Key: key, Problem: problem, Remedy: remedy}
	}
	before := p.text[:min(offset, len(p.text))]
	return &Error{Code: "config_invalid", File: p.file, Key: key, Problem: problem, Remedy: remedy,
		Line: bytes.Count(before, []byte("\n")) + 1, Column: len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1}
}

const nowhere = -1

func (p *problems) add(offset int, key, problem, remedy string) {
	if len(p.found) < maxErrors {
		p.found = append(p.found, p.at(offset, key, problem, remedy))
	}
}
