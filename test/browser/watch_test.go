// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	for _, want := range []string{"said so", "thrown", "rejected", "the page asked for http://127.0.0.1:9/asked"} {
		deadline := time.Now().Add(patience)
		for !strings.Contains(strings.Join(b.complaints(), "\n"), want) {
			if time.Now().After(deadline) {
				t.Errorf("%q went unnoticed in %q", want, b.complaints())
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	b.mu.Lock()
	b.console, b.requests = nil, nil
	b.mu.Unlock()
	b.expected = []string{"127.0.0.1:9", "ERR_", "CORS"} // what the failed request still says
}
