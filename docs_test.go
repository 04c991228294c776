// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/architecture.md has each folder, and the layers as they are above.
func TestArchitecture(t *testing.T) {
	_, folders, _ := strings.Cut(read(t, "docs/architecture.md"), "## Folders")
	folders, rules, ok := strings.Cut(folders, "## Rules")
	if !ok {
		t.Fatal("docs/architecture.md has no folders or no rules")
	}
	written := strings.Fields(folders)
	for _, pattern := range []string{"*/*.go", "*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			folder, rest, _ := strings.Cut(filepath.ToSlash(f), "/")
			if sub, _, ok := strings.Cut(rest, "/"); ok && folder == "test" {
				folder = sub
			}
			if !slices.Contains(written, folder+"/") {
				t.Errorf("docs/architecture.md does not have the folder of %s", f)
				written = append(written, folder+"/")
			}
		}
	}
	for n, patterns := range layers[:7] {
		line := regexp.MustCompile(`(?m)^ {7}` + string(rune('0'+n)) + `  (.*)$`).FindStringSubmatch(rules)
		if line == nil || !slices.Equal(strings.Fields(line[1]), patterns) {
			t.Errorf("docs/architecture.md: layer %d is %v", n, patterns)
		}
	}
}

var (
	code    = regexp.MustCompile("(?s)```.*?\n```")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are what the headings of a page can be linked by.
func anchors(text string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return all
}

// Each link leads to a file that is there, and to a heading of it.
func TestLinks(t *testing.T) {
	links := 0
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(p) != ".md" || d.IsDir() {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, p), ""), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			links++
			to := p
			if file != "" {
				to = filepath.Join(filepath.Dir(p), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", p, err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, to)), anchor) {
				t.Errorf("%s: %s has no heading #%s", p, to, anchor)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links < 50 {
		t.Errorf("found %d links", links)
	}
}

// Whoever is woken by an alert finds it in the runbook.
func TestAlerts(t *testing.T) {
	alerts := regexp.MustCompile(`(?m)alert: (\w+)$`).FindAllStringSubmatch(read(t, "deploy/prometheus/alerts.yml"), -1)
	if len(alerts) == 0 {
		t.Fatal("deploy/prometheus/alerts.yml has no alerts")
	}
	runbook := read(t, "docs/runbook.md")
	for _, a := range alerts {
		if !strings.Contains(runbook, "`"+a[1]+"`") {
			t.Errorf("docs/runbook.md does not say what to do about %s", a[1])
		}
	}
}
