// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Attend watches a session until it ends, and returns nil if there may be a
// profile. When ctx is done it ends the session; one that serves others too is
// left to them.
func Attend(ctx context.Context, there Runner, one *Session, show func(*Session)) error {
	watching, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	left := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shared, err := cancelUnshared(watching, there, one.ID)
		left <- err
		if shared || err != nil {
			leave()
		}
	})
	defer stop()
	for now, err := range there.Watch(watching, one.ID) {
		switch {
		case watching.Err() != nil:
			return <-left
		case err != nil:
			return err
		}
		*one = now
		show(&now)
	}
	return one.Failure()
}

// cancelUnshared ends a session unless it serves others too.
func cancelUnshared(ctx context.Context, there Runner, id ID) (shared bool, err error) {
	now, err := there.Get(ctx, id)
	if err != nil || now.Shared > 1 {
		return now.Shared > 1, err
	}
	_, err = there.Cancel(ctx, id)
	if errors.Is(err, ErrUnavailable) { // then who watches is told, too, or sees its end
		err = nil
	}
	return false, err
}

// idLength is that of a whole ID; a shorter one is looked up.
const idLength = 36

// Find completes an ID as git does: by what it begins with.
func Find(ctx context.Context, there Runner, name string) (ID, error) {
	if name == "" {
		return "", Invalid("no_session_id", "the session's ID is empty", "srprof list shows them")
	}
	if len(name) >= idLength {
		return ID(name), nil
	}
	all, err := there.List(ctx, Filter{})
	if err != nil {
		return "", err
	}
	var found []ID
	for i := range all {
		if strings.HasPrefix(string(all[i].ID), strings.ToLower(name)) {
			found = append(found, all[i].ID)
		}
	}
	switch len(found) {
	case 0:
		return "", NotFound(ID(name))
	case 1:
		return found[0], nil
	}
	return "", Invalid("ambiguous_id", fmt.Sprintf("%d sessions begin with %s", len(found), name), "write more of the ID; srprof list shows enough of each")
}
