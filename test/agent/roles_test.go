// SPDX-License-Identifier: Apache-2.0

package agent_test

// roleEnv makes the test binary something else than a test.
const roleEnv = "SRPROF_TEST_ROLE"

func playRole() {}
