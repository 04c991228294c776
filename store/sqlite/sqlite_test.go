// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/store/storetest"
)

func openPlace(ctx context.Context, place string) (store.Store, error) { return Open(ctx, place) }

func TestMain(m *testing.M) {
	storetest.Child(openPlace)
	os.Exit(m.Run())
}

// opened is an empty store, and how to open it again.
func opened(t testing.TB) (store.Store, func() store.Store) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions.db")
	open := func() *Store {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, func() store.Store {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open()
		return s
	}
}

func TestStore(t *testing.T) { storetest.Run(t, opened) }

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, opened) }

func TestCrash(t *testing.T) {
	storetest.Crash(t, 25, filepath.Join(t.TempDir(), "sessions.db"), openPlace)
}
