// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/carverauto/serviceradar-profiler/encoding/flame"
)

// svgFrame is an expression for the element of a frame.
func svgFrame(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".row > g")].find((g) => g.firstChild.textContent.startsWith(%q + " ("))`, name)
}

func (b *tab) svgWidth(name string) float64 {
	b.t.Helper()
	return eval[float64](b, svgFrame(name)+`.querySelector("rect").getBoundingClientRect().width`)
}

// center of what an expression finds.
func (b *tab) center(element string) (x, y float64) {
	b.t.Helper()
	p := eval[[]float64](b, fmt.Sprintf(`(() => { const r = %s.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, element))
	return p[0], p[1]
}

const matched = `document.querySelector(".matched, #matched").textContent`

func TestSVGZoom(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.svg", known(), flame.WriteSVG))
	whole := b.svgWidth("all")
	if whole < 1300 {
		t.Errorf("the picture uses %.0f px of 1400", whole)
	}
	if got := b.svgWidth("parse") / whole; got < 0.245 || got > 0.255 {
		t.Errorf("parse has %.3f of the width, want 0.25", got)
	}
	is(b, `getComputedStyle(document.querySelector(".reset")).display`, "none")

	b.click(b.center(svgFrame("parse")))
	check := func(when string) {
		if got := b.svgWidth("parse"); got < whole-1 {
			t.Errorf("%s: parse is %.0f px wide, want %.0f", when, got, whole)
		}
		if got := b.svgWidth("malloc") / whole; got < 0.395 || got > 0.405 {
			t.Errorf("%s: malloc has %.3f of the width, want 0.4", when, got)
		}
		is(b, svgFrame("memcpy")+`.classList.contains("hidden")`, true)
		is(b, svgFrame("main")+`.classList.contains("below")`, true)
	}
	check("after the click")
	is(b, `location.href.includes("x=12.00&y=")`, true)
	b.do(chromedp.Reload())
	check("after a reload")

	b.click(b.center(`document.querySelector(".reset rect")`))
	if got := b.svgWidth("parse") / whole; got > 0.255 {
		t.Errorf("after reset parse has %.3f of the width", got)
	}
	is(b, `/[?#]./.test(location.href)`, false)
	b.click(b.center(svgFrame("render")))
	b.key(kb.Escape)
	if got := b.svgWidth("render") / whole; got > 0.56 {
		t.Errorf("after Escape render has %.3f of the width", got)
	}
}

func TestSVGSearch(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.svg", known(), flame.WriteSVG))
	is(b, `getComputedStyle(document.querySelector(".query")).display`, "none")
	b.ctrlF()
	b.key("malloc|memcpy")
	is(b, matched, "Matched: 40.0%")
	is(b, `getComputedStyle(`+svgFrame("memcpy")+`.querySelector("rect")).fill`, "rgb(230, 0, 230)")
	b.screenshot("known-search.svg")

	b.do(chromedp.Reload())
	is(b, matched, "Matched: 40.0%")
	is(b, `document.querySelector("input").value`, "malloc|memcpy")

	// A frame within a matching one adds nothing.
	search := func(text, want string) {
		t.Helper()
		b.key(kb.Escape)
		is(b, matched, "")
		b.key(kb.F3)
		b.key(text)
		is(b, matched, want)
	}
	search("draw|memcpy", "Matched: 55.0%")
	search("draw(", "Matched: 55.0%") // no regular expression
	search("MALLOC", "Matched: 0.0%")
	b.click(b.center(`document.querySelector(".ic rect")`))
	is(b, matched, "Matched: 10.0%")
	b.click(b.center(svgFrame("parse")))
	is(b, matched, "Matched: 10.0% (40.0% of zoomed)")
	b.do(chromedp.Reload())
	is(b, matched, "Matched: 10.0% (40.0% of zoomed)")

	// Links that people made by hand, in both forms.
	for _, sep := range []string{"?", "#"} {
		b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(fileURL(write(t, "known.svg", known(), flame.WriteSVG))+sep+"s=%5Eread%24"))
		is(b, matched, "Matched: 20.0%")
	}
}

func TestSVGHover(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "known.svg", known(), flame.WriteSVG))
	b.hover(b.center(svgFrame("Shape::draw(int)")))
	is(b, `document.querySelector(".details").textContent`, "Shape::draw(int) (550 samples, 55.00%) · app")
	is(b, svgFrame("all")+`.firstChild.textContent`, "all (1,000 samples, 100.00%)")
}

// Without scripts, as where a page shows the file as an image.
func TestSVGAsImage(t *testing.T) {
	b := newTab(t)
	path := write(t, "known.svg", known(), flame.WriteSVG)
	page := filepath.Join(filepath.Dir(path), "page.html")
	if err := os.WriteFile(page, []byte(`<!DOCTYPE html><body style="background:#0d1117"><img src="known.svg">`), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(page)
	is(b, `document.querySelector("img").naturalWidth`, 1200)
	b.screenshot("known-as-image")
}

func TestSVGHostileNames(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "hostile.svg", hostile(), flame.WriteSVG))
	is(b, `typeof window.pwned`, "undefined")
	is(b, `document.querySelectorAll("script").length`, 1)
	is(b, `document.querySelectorAll("image, img, a, [onload], [onerror]").length`, 0)
	b.ctrlF()
	b.key("<script>")
	if got := eval[string](b, matched); !strings.HasPrefix(got, "Matched: ") || got == "Matched: 0.0%" {
		t.Errorf("search: %q", got)
	}
	x, y := b.center(`document.querySelectorAll(".row")[2].firstElementChild`)
	b.hover(x, y)
	b.click(x, y)
	b.do(chromedp.Reload())
	is(b, `typeof window.pwned`, "undefined")
	b.screenshot("hostile.svg")
}

// Reported, never judged: a machine may be busy.
func TestSVGBig(t *testing.T) {
	b := newTab(t)
	b.open(write(t, "big.svg", big(12_000), flame.WriteSVG))
	took := eval[float64](b, `(() => {
		const g = document.querySelectorAll(".row")[3].firstElementChild, t = performance.now();
		g.dispatchEvent(new MouseEvent("click", { bubbles: true }));
		document.documentElement.getBoundingClientRect();
		return performance.now() - t;
	})()`)
	t.Logf("%d frames: zoom took %.0f ms of script and layout", eval[int](b, `document.querySelectorAll(".row > g").length`), took)
}
