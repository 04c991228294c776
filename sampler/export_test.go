// SPDX-License-Identifier: Apache-2.0

package sampler

// ParseRecord is parseRecord, for the fuzz test.
var ParseRecord = parseRecord
