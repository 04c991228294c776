// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"cmp"
	"os"
)

// What the environment says where no flag does. It does not name the files one
// by one, so that a flag never meets half of a pair from elsewhere.
const (
	ServerVariable     = "SRPROF_SERVER"
	CertDirVariable    = "SRPROF_CERT_DIR"
	IdentityVariable   = "SRPROF_IDENTITY"
	ServerNameVariable = "SRPROF_SERVER_NAME"
)

// What the environment says of contexts.
const (
	ConfigVariable  = "SRPROF_CONFIG"
	ContextVariable = "SRPROF_CONTEXT"
)

// Resolve finds out where to go: by what somebody says, then by the environment,
// then by the context of that name, else the current one. A server that is named
// otherwise has nothing to do with the current context, unless that is named too.
func Resolve(name string, said *Place) (Place, error) {
	p := Place{
		Server: os.Getenv(ServerVariable), CertDir: os.Getenv(CertDirVariable),
		Identity: os.Getenv(IdentityVariable), ServerName: os.Getenv(ServerNameVariable),
	}
	name = cmp.Or(name, os.Getenv(ContextVariable))
	if name != "" || cmp.Or(said.Server, p.Server) == "" {
		f, err := Read()
		if err != nil {
			return p, err
		}
		kept, err := f.Find(name)
		if err != nil {
			return p, err
		}
		if kept != nil {
			p = kept.under(&p)
		}
	}
	return p.under(said), nil
}
