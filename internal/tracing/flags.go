// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of o, which are the same for every command.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Endpoint, "otlp-endpoint", "",
		"send spans to the OTLP collector at this URL (http://host:4318), as protobuf over HTTP; without it, OTEL_EXPORTER_OTLP_ENDPOINT decides")
	flags.Func("otlp-sample-ratio",
		"the part, from 0 to 1, of the traces that begin here that is recorded; callers decide for theirs (default: OTEL_TRACES_SAMPLER, or 1)",
		func(text string) error {
			ratio, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return errors.New("it is not a number")
			}
			o.SampleRatio = &ratio
			return nil
		})
}
