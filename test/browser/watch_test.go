// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A test that watches must be seen to notice: a page with every fault.
func TestFaultsAreNoticed(t *testing.T) {
	b := newTab(t)
	page := filepath.Join(t.TempDir(), "faulty.html")
	if err := os.WriteFile(page, []byte(`<!DOCTYPE html><title>faulty</title><script>
		console.error("said so");
		setTimeout(() => { throw new Error("thrown"); });
		Promise.reject(new Error("rejected"));
		fetch("http://127.0.0.1:9/asked").catch(() => { document.title = "done"; });
	</script>`), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(page)
	b.until(`document.title === "done"`)
	all := func() string { return strings.Join(b.complaints(), "\n") }
	for _, want := range []string{"said so", "thrown", "rejected", "the page asked for http://127.0.0.1:9/asked"} {
		if !strings.Contains(all(), want) {
			t.Errorf("%q went unnoticed in:\n%s", want, all())
		}
	}
	b.mu.Lock()
	b.console, b.requests = nil, nil
	b.mu.Unlock()
	b.expected = []string{"127.0.0.1:9", "ERR_", "CORS"} // what the failed request still says
}
