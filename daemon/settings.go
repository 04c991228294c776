// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"

	"github.com/carverauto/serviceradar-profiler/config"
)

// NobodyMay is what must not go unnoticed: a good configuration that lets
// nobody do anything.
const NobodyMay = `nobody may use it: "access.roles" gives nobody a role; for example {"access": {"roles": {"admin.serviceradar": ["admin"]}}}`

// Source is what a configuration was read from.
type Source struct {
	File      string   // empty: none
	Prefix    string   // of variables of the environment that stand for keys
	Variables []string // that were taken
}

// ReadSettings reads a configuration into v, which has the defaults in it and
// logging as a part. Variables of the environment whose names begin with prefix
// come over the file; no path means no file.
func ReadSettings(path, prefix string, logging *Logging, v any) (Source, error) {
	source := Source{File: path, Prefix: prefix, Variables: logging.FromEnvironment(os.Getenv)}
	if path != "" {
		if err := config.Read(path, v); err != nil {
			return source, err
		}
	}
	found, err := config.Overlay(prefix, os.Environ(), v)
	source.Variables = append(source.Variables, found...)
	return source, err
}

// Checked is what was found wrong with the value of a key: nothing, mostly.
type Checked struct {
	Key string
	Err error
}

// First is the first thing that is wrong, with the place where it was said.
func (s *Source) First(all ...Checked) error {
	for _, c := range all {
		if c.Err != nil {
			return s.Wrong(c.Key, c.Err)
		}
	}
	return nil
}

// Of says where a key may have been set: in the file, and in those variables.
// No key stands for all.
func (s *Source) Of(key string) string {
	own := config.Variable(s.Prefix, key)
	var names []string
	for _, name := range s.Variables {
		if key == "" || name == own || strings.HasPrefix(name, own+"_") || key == "logging" && !strings.HasPrefix(name, s.Prefix) {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return cmp.Or(s.File, "the defaults")
	case s.File == "":
		return strings.Join(names, ", ")
	}
	return s.File + " with " + strings.Join(names, ", ")
}

// Wrong says where what is wrong was said.
func (s *Source) Wrong(key string, err error) error {
	return fmt.Errorf("%s: %s: %w", s.Of(key), key, err)
}

// Fixed is a key whose value stays as it was when the service began.
type Fixed struct {
	Key      string
	Old, New any
}

// TellFixed warns of those that were changed in the file.
func TellFixed(log *slog.Logger, all ...Fixed) {
	for _, f := range all {
		if !reflect.DeepEqual(f.Old, f.New) {
			log.Warn("this change needs a restart", "key", f.Key)
		}
	}
}
