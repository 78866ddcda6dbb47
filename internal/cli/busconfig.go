// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate-io/headgate/internal/bus"
)

func newBus(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "bus",
		Short: "Bring a NATS server of your own",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newNATSConfig(s))
	return c
}

func newNATSConfig(s Streams) *cobra.Command {
	var f busFlags
	var o bus.NATSConfigOptions
	c := &cobra.Command{
		Use:   "nats-config",
		Short: "Print what lets an installation into a NATS server",
		Long: "Print the part of the configuration of a NATS server that lets the controller and\n" +
			"the gateways of an installation in, with the permissions that they need and no\n" +
			"others. It has public keys only. Include it in the configuration of each server:\n" +
			"without --account it is the authorization block, with it an entry of the accounts\n" +
			"block.\n\n" +
			"The servers also need TLS, max_payload: 5MB, and JetStream with sync_interval: always.",
		Example: "  kubectl get secret headgate-bus -n headgate-system -o yaml |\n" +
			"    headgate bus nats-config --bus-secret - > headgate.conf",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			material, err := f.material(s)
			if err != nil {
				return err
			}
			config, err := bus.NATSConfig(material, o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(s.Out, config)
			return err
		},
	}
	flags := c.Flags()
	f.registerKeys(flags)
	flags.StringVar(&o.Account, "account", "", "the account of the users; without it they are those of a server without accounts")
	flags.BoolVar(&o.Settings, "settings", false, "let the controller see whether the servers sync before they acknowledge; the system account has to export its settings")
	flags.StringVar(&o.SystemAccount, "system-account", "SYS", "the account that exports the settings")
	return c
}
