// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// maxUnnamed is how many objects without names are listed by themselves. One
// that recorded 500 processes does not want a page for each.
const maxUnnamed = 20

// Unnamed weighs the problems of a profile: how many samples each one concerns.
// Those that concern most come first; what is left after the first 20 is one
// sum.
func Unnamed(p *profile.Profile, problems []Problem) []profile.Unnamed {
	us := make([]profile.Unnamed, len(problems))
	for i := range problems {
		us[i] = problems[i].unnamed(p)
	}
	weigh(p, us, problems, func(i int) int { return i })
	order := make([]int, len(us))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(us[b].Samples, us[a].Samples), cmp.Compare(us[b].Self, us[a].Self), cmp.Compare(us[a].Object, us[b].Object))
	})
	if len(us) > maxUnnamed {
		return sum(p, us, problems, order)
	}
	sorted := make([]profile.Unnamed, len(us))
	for to, from := range order {
		sorted[to] = us[from]
	}
	return sorted
}

// sum keeps the first of the order and adds up the others: a sample that goes
// through several of them counts once.
func sum(p *profile.Profile, us []profile.Unnamed, problems []Problem, order []int) []profile.Unnamed {
	sorted := make([]profile.Unnamed, maxUnnamed)
	place := make([]int, len(us))
	for to, from := range order {
		place[from] = min(to, maxUnnamed-1)
		if to < maxUnnamed-1 {
			sorted[to] = us[from]
			sorted[to].Samples, sorted[to].Self = 0, 0
		}
	}
	rest := &sorted[maxUnnamed-1]
	n := len(us) - maxUnnamed + 1
	*rest = profile.Unnamed{Object: "others", Reason: profile.ReasonSeveral, Why: fmt.Sprintf("%d more objects and reasons", n)}
	for _, from := range order[maxUnnamed-1:] {
		rest.Addresses += us[from].Addresses
	}
	weigh(p, sorted, problems, func(i int) int { return place[i] })
	return sorted
}

// weigh counts the samples of each problem at its place in us.
func weigh(p *profile.Profile, us []profile.Unnamed, problems []Problem, place func(i int) int) {
	of := make([]int32, len(p.Addresses)) // 1 + place
	for i := range problems {
		for _, id := range problems[i].ids {
			of[id] = int32(place(i) + 1)
		}
	}
	seen := make([]int, len(us)) // 1 + the last sample that was counted
	for i := range p.Samples {
		s := &p.Samples[i]
		for depth, id := range s.Addresses {
			at := of[id] - 1
			if at < 0 {
				continue
			}
			if depth == 0 {
				us[at].Self += s.Count
			}
			if seen[at] != i+1 {
				seen[at] = i + 1
				us[at].Samples += s.Count
			}
		}
	}
}

// unnamed is what is known of a problem before it is weighed.
func (p *Problem) unnamed(of *profile.Profile) profile.Unnamed {
	u := profile.Unnamed{Object: p.Object, Addresses: p.Addresses, Why: p.Err.Error()}
	u.Reason, u.Remedy = reasonOf(p.Err)
	if p.Remedy != "" {
		u.Remedy = p.Remedy
	}
	if m := of.Mapping(p.mapping); m != nil {
		u.Path, u.BuildID = m.Path, m.BuildID
		if m.Kind == profile.MappingAnonymous && u.Reason == profile.ReasonUnreadable {
			u.Reason = profile.ReasonMade
		}
	}
	return u
}

// reasonOf tells the reason by the error, and what helps wherever it is. For
// what is stripped that depends on the host, so is not known here.
func reasonOf(err error) (profile.Reason, string) {
	switch {
	case errors.Is(err, ErrHidden):
		return profile.ReasonHidden, "run srprof as root or with CAP_SYSLOG, and set sysctl kernel.kptr_restrict to 0 or 1"
	case errors.Is(err, ErrAnonymous), errors.Is(err, ErrNotWritten):
		return profile.ReasonMade, ""
	case errors.Is(err, ErrNoFile):
		return profile.ReasonNoFile, ""
	case errors.Is(err, ErrNoMapping):
		return profile.ReasonNoMapping, ""
	case errors.Is(err, fs.ErrPermission):
		return profile.ReasonNotPermitted, "run srprof as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
	case errors.Is(err, process.ErrReplaced):
		return profile.ReasonReplaced, "run srprof as root or with CAP_CHECKPOINT_RESTORE (CAP_SYS_ADMIN before Linux 5.9), or restart the process"
	case errors.Is(err, ErrNoTable):
		return profile.ReasonStripped, ""
	case errors.Is(err, ErrNoSymbol):
		return profile.ReasonNotCovered, ""
	case errors.Is(err, object.ErrFormat):
		return profile.ReasonUnreadable, ""
	case errors.Is(err, fs.ErrNotExist):
		return profile.ReasonGone, ""
	}
	return profile.ReasonUnreadable, ""
}
