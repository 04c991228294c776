// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/carverauto/serviceradar-profiler/encoding/flame"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// at is where a node of the known profile is on the page: the middle of the
// samples [start, limit) of 1000, in the row of a depth, root at the bottom.
func (b *tab) at(start, limit float64, depth int) (x, y float64) {
	b.t.Helper()
	r := eval[[]float64](b, `(() => { const r = document.querySelector("#graph").getBoundingClientRect(); return [r.left, r.width, r.bottom]; })()`)
	return r[0] + r[1]*(start+limit)/2000, r[2] - 19*(float64(depth)+0.5)
}

// drawn waits until that many frames are drawn.
func (b *tab) drawn(frames int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector("#graph").dataset.drawn === "%d"`, frames))
}

const picture = `document.querySelector("#graph").toDataURL()`
const crumb = `document.querySelector("#breadcrumb [aria-current]").textContent`

func TestHTMLZoom(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	is(b, `document.title`, "app on host-1 – flame graph")
	before := eval[string](b, picture)

	b.click(b.at(0, 250, 3)) // parse
	b.drawn(5)
	is(b, crumb, "parse")
	if eval[string](b, picture) == before {
		t.Error("zooming changed nothing in the picture")
	}
	b.do(chromedp.Reload())
	b.drawn(5)
	is(b, crumb, "parse")

	b.click(b.center(`document.querySelector("#reset")`))
	b.drawn(9)
	b.click(b.at(450, 1000, 4)) // Shape::draw(int)
	b.drawn(6)
	is(b, `[...document.querySelectorAll("#breadcrumb button")].map((b) => b.textContent).join(" › ")`, "all › worker › main › render › Shape::draw(int)")
	b.key(kb.Escape)
	b.drawn(9)
	b.do(chromedp.NavigateBack())
	b.drawn(6)
	b.do(chromedp.NavigateForward())
	b.drawn(9)
}

// With motion a zoom ends where it ends without.
func TestHTMLGlide(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	b.click(b.at(0, 250, 3))
	b.drawn(5)
	b.hover(5, 5)
	want := eval[string](b, picture)
	b.key(kb.Escape)
	b.drawn(9)
	b.system(light, moving)
	b.click(b.at(0, 250, 3))
	b.hover(5, 5)
	b.until(picture + ` === ` + fmt.Sprintf("%q", want))
	is(b, crumb, "parse")
}

func TestHTMLSearch(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	search := func(text, want string) {
		t.Helper()
		b.ctrlF()
		is(b, `document.activeElement.id`, "query")
		b.key(text)
		is(b, matched, want)
		b.key(kb.Escape)
		is(b, matched, "")
		b.key(kb.Escape) // leaves the field
	}
	search("malloc|memcpy", "Matched: 40.0%")
	search("draw|memcpy", "Matched: 55.0%")
	search("draw(", "Matched: 55.0%")
	search("MALLOC", "Matched: 0.0%")
	b.click(b.center(`document.querySelector("#ic")`))
	search("MALLOC", "Matched: 10.0%")

	b.press("/")
	b.key("malloc")
	b.click(b.at(0, 250, 3))
	is(b, matched, "Matched: 10.0% (40.0% of zoomed)")
	b.do(chromedp.Reload())
	is(b, matched, "Matched: 10.0% (40.0% of zoomed)")
	is(b, `document.querySelector("#query").value`, "malloc")
	is(b, `document.querySelector("#ic").getAttribute("aria-pressed")`, "true")
}

func TestHTMLHover(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	b.click(b.at(450, 1000, 3)) // render
	b.drawn(6)
	b.hover(b.at(0, 1000, 4)) // Shape::draw(int)
	b.until(`!document.querySelector("#tip").hidden`)
	is(b, `document.querySelector("#tip .name").textContent`, "Shape::draw(int)")
	is(b, `document.querySelector("#tip .object").textContent`, "app · user")
	is(b, `[...document.querySelectorAll("#tip tr")].map((r) => [...r.children].map((c) => c.textContent).join(" ").trim()).join("; ")`,
		"Total 550 samples 55.00% of all; Self 250 samples 25.00% of all; 100.00% of parent; 100.00% of zoomed")
	is(b, `document.querySelector("#status").textContent`, "Shape::draw(int) (550 samples, 55.00%) · app")
}

func TestHTMLTable(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	const rows = `[...document.querySelectorAll("#functions tbody tr")].map((r) => [...r.querySelectorAll(".share, .name")].map((c) => c.textContent).join(" ")).join("; ")`
	is(b, rows, "30.00% 30.00% memcpy; 25.00% 55.00% Shape::draw(int); 20.00% 20.00% read; 15.00% 25.00% parse; 10.00% 10.00% malloc; 0.00% 100.00% main; 0.00% 55.00% render")
	b.click(b.center(`document.querySelector("[data-sort=total]")`))
	is(b, `document.querySelector("#functions tbody .name").textContent`, "main")
	b.click(b.center(`document.querySelector("#filter")`))
	b.key("libc")
	is(b, rows, "30.00% 30.00% memcpy; 10.00% 10.00% malloc")
	b.click(b.center(`document.querySelector("#functions tbody tr")`))
	is(b, matched, "Matched: 30.0%")
	is(b, `document.querySelector("#chosen .name").textContent`, "memcpy")

	b.click(b.center(`document.querySelector("[data-tab-button=functions]")`))
	is(b, `getComputedStyle(document.querySelector("#scroller")).display`, "none")
	b.do(chromedp.Reload())
	is(b, `document.body.dataset.tab`, "functions")
	is(b, rows, "30.00% 30.00% memcpy; 10.00% 10.00% malloc")
	is(b, matched, "Matched: 30.0%")
	b.click(b.center(`document.querySelector("[data-tab-button=graph]")`))
	is(b, `getComputedStyle(document.querySelector("#functions")).display`, "none")
	is(b, `document.querySelector("#graph").getBoundingClientRect().width`, 1400.0)
}

// Go's methods differ at the end of their names: the table has that, too, also in
// a small window.
func TestHTMLTableLongNames(t *testing.T) {
	s := newStacks()
	for _, name := range []string{"deflate", "findMatch", "writeTokensAndManyMore"} {
		s.add(100, "worker", frame{"compress/flate.(*compressor)." + name, "goserver", profile.FrameUser})
	}
	s.add(50, "worker", frame{"github.com/carverauto/serviceradar/pkg/checker.(*Registry).Lookup", "goserver", profile.FrameUser})
	b := newTab(t)
	b.do(chromedp.EmulateViewport(1000, 700))
	b.open(write(t, "names.html", s.profile(), flame.WriteHTML))
	b.until(`document.querySelectorAll("#functions tbody tr").length === 4`)
	is(b, `[...document.querySelectorAll("#functions .label")].filter((l) => l.scrollHeight > l.clientHeight).map((l) => l.textContent).join("; ")`, "")
}

func TestHTMLTheme(t *testing.T) {
	b := newTab(t)
	b.system(dark, still)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	theme := func(want string) string {
		t.Helper()
		b.until(fmt.Sprintf(`document.documentElement.dataset.theme === %q`, want))
		b.until(`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
		return eval[string](b, picture)
	}
	seen := map[string]bool{theme("dark"): true}
	b.system(light, still)
	seen[theme("light")] = true
	b.click(b.center(`document.querySelector("#safe")`))
	seen[theme("light")] = true
	b.click(b.center(`document.querySelector("#theme")`)) // light
	b.click(b.center(`document.querySelector("#theme")`)) // dark, whatever the system says
	safe := theme("dark")
	seen[safe] = true
	if len(seen) != 4 {
		t.Errorf("%d different pictures, want 4", len(seen))
	}
	b.do(chromedp.Reload())
	b.drawn(9)
	if theme("dark") != safe {
		t.Error("a reload lost the theme or the colors")
	}
}

func TestHTMLKeyboard(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	b.drawn(9)
	b.do(chromedp.Focus(chromedp.ID("graph")))
	for _, step := range []struct{ key, name string }{
		{kb.ArrowUp, "worker"}, {kb.ArrowUp, "main"}, {kb.ArrowUp, "render"}, {kb.ArrowLeft, "read"}, {kb.ArrowLeft, "parse"},
		{kb.ArrowRight, "read"}, {kb.ArrowDown, "main"}, {kb.ArrowUp, "render"},
	} {
		b.key(step.key)
		is(b, `document.querySelector("#status").textContent.split(" (")[0]`, step.name)
	}
	b.key(kb.Enter)
	b.drawn(6)
	is(b, crumb, "render")
}

func TestHTMLDeep(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "deep.html", deep(500), flame.WriteHTML))
	b.until(`document.querySelector("#graph").dataset.drawn > 20`)
	const scroller = `document.querySelector("#scroller")`
	is(b, scroller+`.scrollHeight`, 502*19+1)
	is(b, scroller+`.scrollTop + `+scroller+`.clientHeight`, 502*19+1) // at the root
	b.click(b.center(`document.querySelector("#flip")`))
	is(b, scroller+`.scrollTop`, 0)
	b.do(chromedp.Evaluate[chromedp.Void](scroller + `.scrollTop = 5000`))
	x, y := b.center(scroller)
	b.hover(x-300, y)
	b.until(`document.querySelector("#tip .name").textContent.startsWith("recurse_2")`)
	b.screenshot("deep.html")
}

func TestHTMLHostileNames(t *testing.T) {
	b := newTab(t)
	path := write(t, "hostile.html", hostile(), flame.WriteHTML)
	b.open(path)
	b.until(`document.querySelector("#graph").dataset.drawn > 20`)
	is(b, `document.querySelectorAll("script").length`, 2)
	is(b, `document.querySelectorAll("img, svg, iframe, [onload], [onerror]").length`, 0)
	is(b, `document.querySelectorAll("#functions tbody tr").length`, 19)
	b.ctrlF()
	b.key("<script>")
	if got := eval[string](b, matched); !strings.HasPrefix(got, "Matched: ") || got == "Matched: 0.0%" {
		t.Errorf("search: %q", got)
	}
	x, y := b.at(0, 30, 2)
	b.hover(x, y)
	b.click(x, y)
	b.do(chromedp.Click(chromedp.CSS("#functions tbody tr")))
	b.do(chromedp.Reload())
	is(b, `typeof window.pwned`, "undefined")
	b.screenshot("hostile.html")
	// What an address says is not trusted either.
	b.do(chromedp.Navigate("about:blank"))
	b.do(chromedp.Navigate(fileURL(path) + "#zoom=1e9&chosen=-7&tab=%3Cb%3E&sort=__proto__&__proto__=1&query=%3Cimg+src=x%3E"))
	is(b, crumb, "all")
	is(b, `document.body.dataset.tab`, "both")
}

// The policy must hold even if a script did get in: it could load nothing,
// run nothing it made, and tell nobody.
func TestHTMLPolicy(t *testing.T) {
	b := newTab(t)
	b.expected = []string{"Content Security Policy", "Content-Security-Policy", "violates", "Refused"}
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}))
	defer server.Close()
	b.origin = server.URL // the attempts are seen as requests, though none arrives
	b.open(write(t, "known.html", known(), flame.WriteHTML))
	is(b, fmt.Sprintf(`fetch(%q).then(() => "loaded", () => "blocked")`, server.URL), "blocked")
	is(b, fmt.Sprintf(`new Promise((done) => { const i = new Image(); i.onload = () => done("loaded"); i.onerror = () => done("blocked"); i.src = %q; })`, server.URL), "blocked")
	is(b, fmt.Sprintf(`navigator.sendBeacon(%q, "x"), "sent"`, server.URL), "sent") // it only says that it tried
	is(b, `(() => { const s = document.createElement("script"); s.textContent = "window.pwned = 1"; document.body.append(s); return typeof window.pwned; })()`, "undefined")
	is(b, `(() => { document.body.insertAdjacentHTML("beforeend", "<b onclick='window.pwned=1'>x</b>"); document.body.lastElementChild.click(); return typeof window.pwned; })()`, "undefined")
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// The drawing's cost is bounded by pixels; how fast that is, is reported and
// never judged.
func TestHTMLHundredThousandNodes(t *testing.T) {
	b := newTab(t)
	p := big(100_000)
	path := write(t, "big.html", p, flame.WriteHTML)
	b.system(light, moving)
	b.open(path)
	b.until(`document.querySelector("#graph").dataset.drawn > 100`)
	nodes := eval[int](b, `JSON.parse(document.querySelector("#data").textContent).nodes.total.length`)
	if nodes < 100_000 {
		t.Fatalf("only %d nodes", nodes)
	}
	load := eval[float64](b, `performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`)
	b.screenshot("big.html")
	figures := eval[[]float64](b, tour)
	t.Logf("%d nodes: page ready in %.0f ms; %.0f frames in %.0f ms of zooming and hovering, longest %.0f ms; at most %.0f boxes drawn",
		nodes, load, figures[0], figures[1], figures[2], figures[3])
	bound := eval[float64](b, `(() => { const c = document.querySelector("#graph").getBoundingClientRect(); return (c.width / 0.3 + 1) * (c.height / 19 + 2); })()`)
	if figures[3] > bound || figures[3] >= float64(nodes) {
		t.Errorf("%.0f boxes drawn, want at most %.0f", figures[3], bound)
	}
}

// tour zooms in and out and moves over the graph for two seconds, and counts
// animation frames: [frames, ms, longest, most boxes].
const tour = `new Promise((done) => {
	const canvas = document.querySelector("#graph"), r = canvas.getBoundingClientRect();
	const begin = performance.now();
	let frames = 0, longest = 0, last = begin, boxes = 0, step = 0;
	const event = (type, x, y) => canvas.dispatchEvent(new MouseEvent(type, { bubbles: true, clientX: x, clientY: y }));
	const tick = (now) => {
		frames++;
		longest = Math.max(longest, now - last);
		last = now;
		boxes = Math.max(boxes, Number(canvas.dataset.drawn));
		const x = r.left + (frames * 37) % r.width;
		event("mousemove", x, r.bottom - 19 * (2.5 + frames % 6));
		if (now - begin > 250 * step) {
			step++;
			event("click", x, r.bottom - 19 * (step % 4 === 0 ? 0.5 : 2.5 + step % 4));
		}
		if (now - begin < 2000) requestAnimationFrame(tick);
		else done([frames, now - begin, longest, boxes]);
	};
	requestAnimationFrame(tick);
})`
