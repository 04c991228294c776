// SPDX-License-Identifier: Apache-2.0

package auth

import "testing"

// Another service may have another name, with certificates of its own or the
// same ones.
func TestSecurityOfOthers(t *testing.T) {
	s := &Security{Mode: "spiffe", CertDir: "d", ServerName: "kv", ServerSPIFFEID: "spiffe://a/kv", TrustDomain: "a", TLS: Files{Cert: "c"}}
	own := &Security{CertDir: "other"}
	if got := s.Other(nil); got != s {
		t.Errorf("%+v", got)
	}
	if got := s.Other(own); *got != *own {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"", "profiler"} {
		want := *s
		want.ServerName, want.ServerSPIFFEID = name, ""
		if got := s.Other(&Security{ServerName: name}); *got != want {
			t.Errorf("%+v", got)
		}
	}
}
