// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate-io/headgate/internal/cli/manifest"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultURL         = "http://" + defaultListenAddress
	defaultContentType = "application/json"
	// defaultSendTimeout is longer than the longest default of a response.
	defaultSendTimeout = 90 * time.Second

	// statusClass is what the status of an answer is divided by to get the exit
	// status of one that is no success.
	statusClass = 100
)

type sendOptions struct {
	fileFlags

	data, method, url, credential, user, contentType string

	timeout  time.Duration
	caFile   string
	insecure bool
}

func newSend(s Streams) *cobra.Command {
	var o sendOptions
	c := &cobra.Command{
		Use:   "send -f DIR|FILE|- [NAMESPACE/]FLOW",
		Short: "Call a flow as one of its callers would",
		Long: "Send calls the webhook of a Flow, with the first Credential that the Flow admits or\n" +
			"the one of --credential, and the Secret that is among the files.\n\n" +
			"The body of the answer goes to the standard output, its status and headers to the\n" +
			"standard error. The exit status is 0 for an answer of the class 2xx, 3, 4 or 5 for\n" +
			"one of those classes, 1 when there is no answer, and 2 when nothing could be sent.",
		Example: `  headgate send -f config/samples/petstore pet-intake -d '{"petname": "Gromit", "petstatus": "Sold"}'`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.Context(), s, args[0]) },
	}
	o.register(c)
	c.Flags().StringVarP(&o.data, "data", "d", "", `the body, or @file, or "@-" for the standard input`)
	c.Flags().StringVarP(&o.method, "method", "X", "", "the method (default POST where the Flow takes it, else its first)")
	c.Flags().StringVar(&o.url, "url", defaultURL, "where the gateway is")
	c.Flags().StringVar(&o.credential, "credential", "", "the Credential to call with, [namespace/]name")
	c.Flags().StringVar(&o.user, "user", "", `user:password of a Credential that has only hashes, or @file, or "@-" for the standard input`)
	c.Flags().StringVar(&o.contentType, "content-type", defaultContentType, "what the body is")
	c.Flags().StringVar(&o.caFile, "ca-file", "", "the PEM file with the authorities of an https gateway (default: those of the system)")
	c.Flags().BoolVar(&o.insecure, "insecure-skip-tls-verify", false, "take any certificate of an https gateway: whoever answers sees the call and its secrets")
	c.MarkFlagsMutuallyExclusive("ca-file", "insecure-skip-tls-verify")
	c.Flags().DurationVar(&o.timeout, "timeout", defaultSendTimeout, "how long to wait for the answer")
	return c
}

func (o *sendOptions) run(ctx context.Context, s Streams, flow string) error {
	p, err := o.program(ctx, s, flow)
	if err != nil {
		return err
	}
	body, err := given(s, "data", o.data)
	if err != nil {
		return err
	}
	user, err := given(s, "user", o.user)
	if err != nil {
		return err
	}
	call, err := o.call(p, body, strings.TrimRight(string(user), "\r\n"))
	if err != nil {
		return err
	}
	transport, err := o.transport()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return call.do(ctx, s, transport)
}

// transport says whose certificates are believed.
func (o *sendOptions) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.insecure} //nolint:gosec // If that is what the user asks for.
	if o.caFile != "" {
		bundle, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, fmt.Errorf("ca-file: %s has no PEM certificate", o.caFile)
		}
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true}, nil
}

// program compiles the Flow of a name, or says why it cannot be called.
func (o *sendOptions) program(ctx context.Context, s Streams, flow string) (*program.Program, error) {
	reader, err := manifest.NewReader(o.namespace, s.In)
	if err != nil {
		return nil, err
	}
	files, err := reader.Read(ctx, o.paths)
	if err != nil {
		return nil, err
	}
	set, findings := manifest.Join(files)
	for _, f := range files {
		findings = append(findings, f.Findings...)
	}
	j := &judge{set: set}
	j.run()
	name, err := find(sorted(set.Flows), "Flow", flow)
	if err == nil && j.programs[name] != nil && j.programs[name].Unavailable == "" {
		return j.programs[name], nil
	}
	findings = append(findings, j.findings...)
	manifest.Sort(findings)
	switch err := errors.Join(err, printFindings(s.Err, findings)); {
	case err != nil:
		return nil, err
	case j.programs[name] != nil:
		return nil, fmt.Errorf("the Flow %s cannot be called: %s", name, j.programs[name].Unavailable)
	default:
		return nil, fmt.Errorf("the Flow %s is broken", name)
	}
}

// find returns the one name that is meant: namespace/name, or a name alone.
func find(names []types.NamespacedName, kind, meant string) (types.NamespacedName, error) {
	matches := slices.DeleteFunc(slices.Clone(names), func(name types.NamespacedName) bool {
		return name.String() != meant && name.Name != meant
	})
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return types.NamespacedName{}, fmt.Errorf("there is no %s %s; there are: %s", kind, meant, list(names))
	default:
		return types.NamespacedName{}, fmt.Errorf("%s %s may be any of %s", kind, meant, list(matches))
	}
}

func list(names []types.NamespacedName) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = name.String()
	}
	return cmp.Or(strings.Join(texts, ", "), "none")
}

// given returns what a flag says, or the content of the file that it names; nil
// without the flag.
func given(s Streams, flag, value string) ([]byte, error) {
	name, isFile := strings.CutPrefix(value, "@")
	var data []byte
	var err error
	switch {
	case value == "":
		return nil, nil
	case !isFile:
		return []byte(value), nil
	case name == manifest.Stdin:
		data, err = io.ReadAll(s.In)
	default:
		data, err = os.ReadFile(name) //nolint:gosec // Sending a file that the user names is the purpose.
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return data, nil
}

// call makes the request and signs it.
func (o *sendOptions) call(p *program.Program, body []byte, user string) (*call, error) {
	if p.Webhook == nil {
		return nil, fmt.Errorf("nobody can call the Flow %s: it has no webhook", p.Key)
	}
	target, err := url.Parse(hookURL(strings.TrimSuffix(o.url, "/"), p))
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("url: must be the http or https URL of a gateway")
	}
	c := &call{method: o.method, url: target, shown: target.String(), header: http.Header{}, body: body}
	if c.method == "" {
		c.method = p.Webhook.Methods[0]
		if slices.Contains(p.Webhook.Methods, http.MethodPost) {
			c.method = http.MethodPost
		}
	}
	if body != nil {
		c.header.Set("Content-Type", o.contentType)
	}
	var refs []types.NamespacedName
	for _, ref := range p.Webhook.Credentials {
		namespace, name, _ := strings.Cut(ref, "/")
		refs = append(refs, types.NamespacedName{Namespace: namespace, Name: name})
	}
	ref := refs[0]
	if o.credential != "" {
		if ref, err = find(refs, "Credential", o.credential); err != nil {
			return nil, err
		}
	}
	c.as = ref.String()
	if err := c.sign(p.Credentials[c.as], p.Secrets, user); err != nil {
		return nil, fmt.Errorf("sign as Credential %s: %w", c.as, err)
	}
	return c, nil
}

// do sends the call and shows the answer.
func (c *call) do(ctx context.Context, s Streams, transport http.RoundTripper) error {
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), bytes.NewReader(c.body))
	if err != nil {
		return errors.New("the method is none")
	}
	req.Header = c.header
	req.Header.Set("User-Agent", "headgate-send/"+version())
	if _, err := fmt.Fprintf(s.Err, "%s %s as %s\n", c.method, c.shown, c.as); err != nil {
		return err
	}
	// A redirect would carry the credential elsewhere.
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		// The error of the client shows the URL, which may have the key in it.
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return &exitError{statusFailed, fmt.Errorf("call the gateway: %w", err)}
	}
	defer func() { _ = res.Body.Close() }()
	if err := show(s, res); err != nil {
		return &exitError{statusFailed, err}
	}
	if class := res.StatusCode / statusClass; class != http.StatusOK/statusClass {
		return &exitError{status: class}
	}
	return nil
}

// interesting are the headers that are shown.
var interesting = []string{
	"Content-Type", "Location", "Headgate-Run-Id", "Retry-After", "Allow", "Www-Authenticate",
}

func show(s Streams, res *http.Response) error {
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s\n", res.Proto, res.Status)
	for _, name := range interesting {
		for _, value := range res.Header.Values(name) {
			fmt.Fprintf(&head, "%s: %s\n", name, value)
		}
	}
	if _, err := io.WriteString(s.Err, head.String()); err != nil {
		return err
	}
	if _, err := io.Copy(s.Out, res.Body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
