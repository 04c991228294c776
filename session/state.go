// SPDX-License-Identifier: Apache-2.0

package session

import "slices"

// State is where in its life a session is.
type State string

// The states. What comes after which is in transitions.
const (
	StatePending   State = "pending"   // waits for its turn
	StateRunning   State = "running"   // samples, or finds names at the end
	StateSucceeded State = "succeeded" // has a profile; also when its target exited early
	StateFailed    State = "failed"    // has an error and no profile
	StateCanceled  State = "canceled"  // ended on request; may have a profile
)

// States are all of them, in order.
var States = []State{StatePending, StateRunning, StateSucceeded, StateFailed, StateCanceled}

var transitions = map[State][]State{
	StatePending: {StateRunning, StateFailed, StateCanceled},
	StateRunning: {StateSucceeded, StateFailed, StateCanceled},
}

// May says whether a session in state s may go over to state to.
func (s State) May(to State) bool { return slices.Contains(transitions[s], to) }

// Final says whether nothing comes after s.
func (s State) Final() bool { return s.Known() && len(transitions[s]) == 0 }

// Known says whether s is one of the states.
func (s State) Known() bool { return slices.Contains(States, s) }
