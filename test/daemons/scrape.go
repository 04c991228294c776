// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Get is what a client is answered.
func Get(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s%v", url, r.Status, b, err)
	}
	return string(b)
}

// Scrape reads the metrics of a program as Prometheus does: the values by their
// names and labels.
func Scrape(t testing.TB, address string) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for line := range strings.Lines(Get(t, http.DefaultClient, "http://"+address+"/metrics")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		values[line[:i]] = v
	}
	return values
}

// Metrics are those of the program, whose configuration has metrics on the
// loopback interface.
func (p *Program) Metrics() map[string]float64 {
	p.t.Helper()
	return Scrape(p.t, p.WaitFor("metrics can be read").Address)
}
