// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/headgate-io/headgate/internal/program"
)

// Names on the bus are made of Kubernetes names (RFC 1123): they contain no
// character that means something in a NATS subject, except the dots of a
// subdomain, which escapeName removes.
var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

const maxSubdomain = 253

func validLabel(what, s string) error {
	if !dnsLabel.MatchString(s) {
		return fmt.Errorf("%s %q is not a DNS label", what, s)
	}
	return nil
}

func validSubdomain(what, s string) error {
	if len(s) > maxSubdomain || !dnsSubdomain.MatchString(s) {
		return fmt.Errorf("%s %q is not a DNS subdomain", what, s)
	}
	return nil
}

// escapeName makes one token of a DNS subdomain. No DNS name has an underscore,
// so unescapeName gets the name back.
func escapeName(s string) string { return strings.ReplaceAll(s, ".", "_") }

func unescapeName(s string) string { return strings.ReplaceAll(s, "_", ".") }

// programKey returns the bucket key of a Flow's program.
func programKey(k program.Key) (string, error) {
	if err := validLabel("namespace", k.Namespace); err != nil {
		return "", err
	}
	if err := validLabel("name", k.Name); err != nil {
		return "", err
	}
	return k.Namespace + "." + k.Name, nil
}

// parseProgramKey is the inverse of programKey.
func parseProgramKey(s string) (program.Key, error) {
	ns, name, ok := strings.Cut(s, ".")
	k := program.Key{Namespace: ns, Name: name}
	if !ok || !dnsLabel.MatchString(ns) || !dnsLabel.MatchString(name) {
		return program.Key{}, fmt.Errorf("key %q does not name a program", s)
	}
	return k, nil
}

func replicaKey(replica string) (string, error) {
	if err := validSubdomain("replica", replica); err != nil {
		return "", err
	}
	return escapeName(replica), nil
}
