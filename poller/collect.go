// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/files"
)

// A profile comes as it was made, in gzip'd pprof, through one small buffer into
// a file. After a break it goes on where it was, also in another life of the
// poller: the digest of what is being fetched is written down with the run.

const (
	copyBuffer = 64 << 10
	// resumeFrom is how large a profile must be for its digest to be written
	// down before it is fetched: a smaller one is fetched anew.
	resumeFrom = 1 << 20
)

// collect fetches the profile of a run whose host has sampled.
func (k *tracker) collect() {
	p := k.p
	select {
	case p.collecting <- struct{}{}:
		defer func() { <-p.collecting }()
	case <-p.ctx.Done():
		return
	}
	o := k.collected()
	if p.ctx.Err() == nil {
		k.see(o)
	}
}

// collected is what came of it.
func (k *tracker) collected() observation {
	receipt, err := k.p.files.Receive(k.run.Command)
	if errors.Is(err, fs.ErrExist) { // it came before the crash
		info, err := k.p.files.Info(k.run.Command)
		if err != nil {
			return noRoomFor(err)
		}
		return observation{sight: sawProfile, size: info.Size, digest: info.Digest}
	}
	if err != nil {
		return noRoomFor(err)
	}
	o := k.receive(receipt)
	if err := receipt.Close(); err != nil && o.sight != sawProfile {
		return noRoomFor(err)
	}
	return o
}

func noRoomFor(err error) observation {
	return observation{sight: sawNoRoom, err: asError(err, "results_unavailable", "the profile cannot be kept")}
}

// asError is an error as users meet it.
func asError(err error, code, problem string) *session.Error {
	var e *session.Error
	if errors.As(err, &e) {
		return e
	}
	return &session.Error{Code: code, Kind: session.ErrUnavailable, Problem: problem, Cause: err, Remedy: "see the poller's log"}
}

// receive fetches what is not there yet.
func (k *tracker) receive(receipt *files.Receipt) observation {
	ctx, cancel := context.WithCancel(k.p.ctx)
	defer cancel()
	stalled := time.AfterFunc(3*k.rules.callTimeout, cancel)
	defer stalled.Stop()
	want := session.Want{}
	if there := receipt.Size(); there > 0 && k.run.Digest != "" && there <= k.run.Size {
		want.Offset, want.Digest = there, k.run.Digest
	} else if there > 0 {
		if err := receipt.Restart(); err != nil {
			return noRoomFor(err)
		}
	}
	content, err := k.fleet().Fetch(k.t.whole.trace.Within(ctx), k.run.ID, want)
	if err != nil {
		return k.notFetched(receipt, err)
	}
	defer content.Body.Close()
	if content.Digest != k.run.Digest && content.Size >= resumeFrom {
		run := k.run
		run.Digest, run.Size = content.Digest, content.Size
		if !k.keep(run) {
			return observation{sight: sawNothing, err: stopping()}
		}
	}
	more := func() { stalled.Reset(3 * k.rules.callTimeout) }
	if read, err := k.p.copy(ctx, receipt, content.Body, more); err != nil {
		if read {
			return k.notFetched(receipt, err)
		}
		return noRoomFor(err)
	}
	return k.commit(receipt, content)
}

func (k *tracker) commit(receipt *files.Receipt, content *session.Content) observation {
	err := receipt.Commit(content.Digest)
	switch {
	case err == nil:
		k.p.mu.Lock()
		k.p.collected += uint64(content.Size)
		k.p.mu.Unlock()
		return observation{sight: sawProfile, size: content.Size, digest: content.Digest}
	case errors.Is(err, files.ErrDigest):
		return observation{sight: sawBadFetch, err: &session.Error{Code: "content_corrupt", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the profile of %s did not arrive as it was sent", k.run.Host), Cause: err, Remedy: "record again"}}
	}
	return noRoomFor(err)
}

// notFetched says what a fetch that failed means.
func (k *tracker) notFetched(receipt *files.Receipt, err error) observation {
	e := asError(err, "host_error", "the profile cannot be fetched")
	switch {
	case e.Code == "content_changed" || e.Code == "bad_offset" || e.Code == "content_corrupt":
		if err := receipt.Restart(); err != nil {
			return noRoomFor(err)
		}
		return observation{sight: sawBadFetch, err: e}
	case errors.Is(e, session.ErrNoSamples) || errors.Is(e, session.ErrCanceled) || errors.Is(e, session.ErrTooLarge):
		return observation{sight: sawNoProfile, err: e}
	}
	return k.saw(err, false)
}

// copy copies a profile into a file, where the oldest ones make room if need be.
// It reports whether the error is one of reading.
func (p *Poller) copy(ctx context.Context, to *files.Receipt, from io.Reader, more func()) (reading bool, _ error) {
	buffer := make([]byte, copyBuffer)
	for {
		n, err := from.Read(buffer)
		more()
		for rest := buffer[:n]; len(rest) > 0; {
			wrote, err := to.Write(rest)
			rest = rest[wrote:]
			var e *session.Error
			if errors.As(err, &e) && e.Code == "results_full" && p.makeRoom(ctx) {
				continue
			}
			if err != nil {
				return false, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return true, err
		}
	}
}
