// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/encoding/speedscope"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// speedscopeVersion is the one our export is known to open in.
const speedscopeVersion = "1.25.0"

// speedscopeFolder returns where speedscope's own build lies. It is installed
// once into the user's cache: nothing of it is in this repository.
func speedscopeFolder(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "srprof-test", "speedscope-"+speedscopeVersion)
	release := filepath.Join(dir, "node_modules", "speedscope", "dist", "release")
	if _, err := os.Stat(filepath.Join(release, "index.html")); err == nil {
		return release
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		need(t, "no npm on PATH, to install speedscope with")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(npm, "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "speedscope@"+speedscopeVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		need(t, "install speedscope: "+err.Error()+"\n"+string(out))
	}
	return release
}

// scope opens a profile in speedscope and turns to its sandwich view, which
// has names and numbers as text.
func scope(t *testing.T, p *profile.Profile) *tab {
	t.Helper()
	var file bytes.Buffer
	if err := speedscope.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(speedscopeFolder(t))))
	mux.HandleFunc("/app.speedscope.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(file.Bytes())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	b := newTab(t)
	b.origin = server.URL
	b.expected = []string{"WebGL", "GL Driver Message"} // of this machine without a GPU, not of the profile
	b.open(server.URL + "/#profileURL=" + server.URL + "/app.speedscope.json")
	b.until(`document.body.innerText.includes("Sandwich") && document.querySelector("canvas") !== null`)
	b.until(`(() => { const tab = [...document.querySelectorAll("div")].find((d) => d.children.length < 2 && d.textContent.endsWith("Sandwich")); tab.click(); return document.querySelector("table") !== null; })()`)
	return b
}

// sandwich is the table as lines of "total | self | name".
const sandwich = `[...document.querySelectorAll("tr")].slice(1).map((r) => [...r.children].map((c) => c.textContent.trim()).join(" | ")).join("\n")`

func TestSpeedscope(t *testing.T) {
	b := scope(t, known())
	b.until(`document.querySelectorAll("tr").length === 9`)
	is(b, sandwich, strings.Join([]string{
		"300 (30%) | 300 (30%) | memcpy",
		"550 (55%) | 250 (25%) | Shape::draw(int)",
		"200 (20%) | 200 (20%) | read",
		"250 (25%) | 150 (15%) | parse",
		"100 (10%) | 100 (10%) | malloc",
		"550 (55%) | 0 (<0.01%) | render",
		"1,000 (100%) | 0 (<0.01%) | main",
		"1,000 (100%) | 0 (<0.01%) | worker",
	}, "\n"))
	is(b, `document.body.innerText.includes("app, PID 7")`, true)
	b.screenshot("speedscope")
}

func TestSpeedscopeHostileNames(t *testing.T) {
	b := scope(t, hostile())
	b.until(`document.querySelectorAll("tr").length > 10`)
	is(b, `typeof window.pwned`, "undefined")
	is(b, `document.body.innerText.includes("</script><script>window.pwned=1</script>")`, true)
}
