// SPDX-License-Identifier: Apache-2.0

// Package sessionv1 is the generated code for our own interface to sessions.
package sessionv1
