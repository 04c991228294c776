// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func htmlOf(tb testing.TB, p *profile.Profile) string {
	tb.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, p); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// The only elements with raw text are ours; a name that opened another would
// change these counts.
func dataOf(t *testing.T, page string) pageData {
	t.Helper()
	if n := strings.Count(page, "<script"); n != 2 {
		t.Errorf("%d script elements, want 2", n)
	}
	if n := strings.Count(page, "<style"); n != 1 {
		t.Errorf("%d style elements, want 1", n)
	}
	m := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("no data")
	}
	var d pageData
	if err := json.Unmarshal([]byte(m[1]), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHTMLSaysTheProfile(t *testing.T) {
	for _, p := range []*profile.Profile{redis(t), random(3_000)} {
		d := dataOf(t, htmlOf(t, p))
		root := p.Tree()
		if n := len(d.Nodes.Function); n != size(root) || len(d.Nodes.Total) != n || len(d.Nodes.Self) != n || len(d.Nodes.Children) != n {
			t.Fatalf("%d nodes, want %d", n, size(root))
		}
		var self uint64
		for _, s := range d.Nodes.Self {
			self += s
		}
		if self != root.Total || d.Nodes.Total[0] != root.Total {
			t.Errorf("total %d, sum of self %d, want %d", d.Nodes.Total[0], self, root.Total)
		}
		if rest := same(t, &d, root, 0); rest != len(d.Nodes.Function) {
			t.Errorf("read %d nodes of %d", rest, len(d.Nodes.Function))
		}
		var m profile.Metadata
		if err := json.Unmarshal(d.Metadata, &m); err != nil || m.Host != p.Meta.Host {
			t.Errorf("metadata %+v, %v", m, err)
		}
	}
}

// same compares the subtree at index i with n and returns where it ends.
func same(t *testing.T, d *pageData, n *profile.Node, i int) int {
	t.Helper()
	f := d.Nodes.Function[i]
	if name := d.Strings[d.Function.Name[f]]; name != printable(n.Name, nameLimit) || d.Nodes.Total[i] != n.Total || d.Nodes.Self[i] != n.Self {
		t.Fatalf("node %d: %s total %d self %d, want %s %d %d", i, name, d.Nodes.Total[i], d.Nodes.Self[i], n.Name, n.Total, n.Self)
	}
	i++
	for _, c := range n.Children {
		i = same(t, d, c, i)
	}
	return i
}

func TestHTMLPolicy(t *testing.T) {
	page := htmlOf(t, redis(t))
	if !strings.Contains(page, `http-equiv="Content-Security-Policy"`) || !strings.Contains(page, "default-src &#39;none&#39;") {
		t.Error("no policy")
	}
	for _, bad := range []string{"unsafe-", "http://", "https://", " onclick", " onload", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	// What the policy admits by hash must be what stands there, byte for byte.
	for _, text := range []string{pageScript, pageStyle} {
		if !strings.Contains(page, text) {
			t.Error("the template changed a text that the policy admits by its hash")
		}
	}
}

func TestHTMLWithoutSamples(t *testing.T) {
	page := htmlOf(t, &profile.Profile{})
	dataOf(t, page)
	if !strings.Contains(page, "No samples") {
		t.Error("an empty profile is not called empty")
	}
}

func BenchmarkHTML(b *testing.B) {
	p := random(100_000)
	for b.Loop() {
		if err := WriteHTML(io.Discard, p); err != nil {
			b.Fatal(err)
		}
	}
}
