// SPDX-License-Identifier: Apache-2.0

package poller_test

const childVariable = "SRPROF_TEST_POLLER"

func child(file string) { _ = file }
