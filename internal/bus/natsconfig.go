// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSConfigOptions configure NATSConfig.
type NATSConfigOptions struct {
	// Account that the users belong to. Empty: the users are those of a server
	// without accounts.
	Account string
	// Settings lets the controller read the settings of the servers, to see
	// whether they sync before they acknowledge. The system account has to export
	// them. It needs an Account.
	Settings bool
	// SystemAccount that exports the settings. Default "SYS".
	SystemAccount string
}

// NATSConfig returns the part of the configuration of a NATS server that lets
// the controller and the gateways of this installation in, with the permissions
// that they need and no others: they are those of the embedded server. It has
// public keys only. With an account it is the entry of the accounts block,
// without it is the authorization block.
func NATSConfig(m Material, o NATSConfigOptions) (string, error) {
	if o.Settings && o.Account == "" {
		return "", fmt.Errorf("the settings of the servers can only be imported into an account")
	}
	if o.Account != "" && !token.MatchString(strings.ToLower(o.Account)) {
		return "", fmt.Errorf("account %q is not a name of letters and digits", o.Account)
	}
	list := users(m)
	if o.Settings {
		list[0].Permissions.Publish.Allow = append(list[0].Permissions.Publish.Allow, subjectVarz)
	}
	var b configWriter
	if o.Account == "" {
		b.open("authorization {")
		b.users(list)
		b.close("}")
		return b.String(), nil
	}
	b.open(o.Account + " {")
	b.line("jetstream: enabled")
	if o.Settings {
		b.line(fmt.Sprintf("# The account %s exports them: exports: [{service: %q, response_type: stream, accounts: [%s]}]",
			orDefault(o.SystemAccount, "SYS"), subjectVarz, o.Account))
		b.line(fmt.Sprintf("imports: [{service: {account: %s, subject: %q}}]", orDefault(o.SystemAccount, "SYS"), subjectVarz))
	}
	b.users(list)
	b.close("}")
	return b.String(), nil
}

// configWriter writes the configuration format of NATS.
type configWriter struct {
	strings.Builder
	depth int
}

func (w *configWriter) line(text string) {
	w.WriteString(strings.Repeat("  ", w.depth) + text + "\n")
}

func (w *configWriter) open(text string) {
	w.line(text)
	w.depth++
}

func (w *configWriter) close(text string) {
	w.depth--
	w.line(text)
}

func (w *configWriter) users(list []*server.NkeyUser) {
	w.open("users: [")
	for _, u := range list {
		w.open("{")
		w.line("nkey: " + u.Nkey)
		w.open("permissions {")
		w.subjects("publish", u.Permissions.Publish)
		w.subjects("subscribe", u.Permissions.Subscribe)
		w.close("}")
		w.close("}")
	}
	w.close("]")
}

func (w *configWriter) subjects(what string, p *server.SubjectPermission) {
	w.open(what + " {")
	w.open("allow: [")
	for _, subject := range p.Allow {
		w.line(fmt.Sprintf("%q", subject))
	}
	w.close("]")
	w.close("}")
}
