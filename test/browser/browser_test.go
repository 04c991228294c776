// SPDX-License-Identifier: Apache-2.0

// Package browser opens what we write in a real Chromium: flame graphs as
// files, the way people open them, and speedscope with one of our profiles.
//
// Every test also fails for anything the console complains about, and for any
// request that leaves the page it opened.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take for one thing; a test that needs it is
// about to fail.
const patience = 20 * time.Second

// started is the one browser of this test binary, a tab for each test.
var started struct {
	sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started.stop != nil {
		started.stop()
	}
	os.Exit(code)
}

// chromium returns the browser's path. On a person's machine a missing browser
// skips the test; where everything is required it fails it.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	need(t, "no chromium on PATH")
	return ""
}

// need ends a test that cannot run here: as failed in CI and under make test.
func need(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func start(path string) {
	dir, err := os.MkdirTemp("", "srprof-chromium-")
	if err != nil {
		started.err = err
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir),
		chromedp.NoSandbox, // as root there is none, and the pages are our own
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1400, 900),
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	started.ctx = ctx
	started.stop = func() {
		cancel()
		stopAllocator()
		for range 50 { // its children may still be writing
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	started.err = chromedp.Do(ctx) // starts it
}

// tab is one page under test.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	console  []string // errors and exceptions
	requests []string
	expected []string // parts of console messages that the test provokes
	origin   string   // requests may go there; files may always be read
}

func newTab(t *testing.T) *tab {
	t.Helper()
	path := chromium(t)
	started.Do(func() { start(path) })
	if started.err != nil {
		t.Fatalf("start chromium: %v", started.err)
	}
	ctx, cancel := chromedp.NewContext(started.ctx)
	b := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	requests := chromedp.Events(ctx, network.RequestWillBeSent)
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleException || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.console = append(b.console, fmt.Sprintf("%s: %s", m.Type, m.Text))
				b.mu.Unlock()
			}
		}
	})
	readers.Go(func() {
		for r, err := range requests {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.requests = append(b.requests, r.Request.URL)
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		eval[int](b, `1`)                  // its answer comes after what was said before
		time.Sleep(100 * time.Millisecond) // and this is for what is said late
		cancel()
		readers.Wait()
		for _, c := range b.complaints() {
			t.Error(c)
		}
	})
	b.do(chromedp.EmulateViewport(1400, 900))
	b.system(light, still)
	return b
}

// complaints are what happened beside the test.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, m := range b.console {
		known := false
		for _, part := range b.expected {
			known = known || strings.Contains(m, part)
		}
		if !known {
			found = append(found, "console: "+m)
		}
	}
	for _, r := range b.requests {
		if !strings.HasPrefix(r, "file:") && !strings.HasPrefix(r, "data:") && !strings.HasPrefix(r, "blob:") &&
			(b.origin == "" || !strings.HasPrefix(r, b.origin)) {
			found = append(found, "the page asked for "+r)
		}
	}
	return found
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval evaluates an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *tab) until(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !eval[bool](b, expression) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never true: %s", expression)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// is fails unless an expression has a value.
func is[T comparable](b *tab, expression string, want T) {
	b.t.Helper()
	if got := eval[T](b, expression); got != want {
		b.t.Errorf("%s is %v, want %v", expression, got, want)
	}
}

// open opens a file, the way people do, or an address.
func (b *tab) open(where string) {
	b.t.Helper()
	if filepath.IsAbs(where) {
		where = fileURL(where)
	}
	b.do(chromedp.Navigate(where))
}

func fileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

func (b *tab) click(x, y float64) {
	b.t.Helper()
	b.do(chromedp.MouseClickXY(x, y))
}

func (b *tab) hover(x, y float64) {
	b.t.Helper()
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
}

func (b *tab) key(keys string, options ...chromedp.KeyOption) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, options...))
}

// press is a key as a keyboard sends it: the text belongs to the key going
// down, so that a page can prevent it. (key sends them apart.)
func (b *tab) press(key string) {
	b.t.Helper()
	p := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key}
	if _, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) ctrlF() {
	b.t.Helper()
	b.key("f", chromedp.KeyModifiers(chromedp.ModifierCtrl))
}

// system is what the page believes about its surroundings. Motion is off
// unless a test is about it: a click on a graph that still glides hits
// something else each time.
func (b *tab) system(scheme, motion string) {
	b.t.Helper()
	p := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: motion},
	}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, p); err != nil {
		b.t.Fatal(err)
	}
}

const (
	light, dark   = "light", "dark"
	still, moving = "reduce", "no-preference"
)

// screenshot keeps a picture of the page for people, if they named a folder.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("SRPROF_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
