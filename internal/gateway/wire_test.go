// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// minWireCases is how many requests the suite has at least: a file that is not
// found must not pass for one without mistakes.
const minWireCases = 200

// wireServer serves the flows of the suite over TCP, with everything that a
// request meets in a gateway and nothing else.
func wireServer(t testing.TB, change func(*serverLimits), more ...*program.Program) (h *handler, address string) {
	t.Helper()
	h, table := newTestHandler(t, testRunner)
	change(&h.limits)
	// What the mapping needs is asked of callers, so that nothing a caller sends
	// is the gateway's failure.
	strict := func(p *program.Program) {
		p.Webhook.Schema = json.RawMessage(`{"type": "object", "required": ["petname", "petstatus"]}`)
	}
	store := petstore(t)
	apply(t, h, table, append(more,
		echoProgram("probe", "probe", func(p *program.Program) { p.Response.JSON = json.RawMessage(`"probe"`) }),
		echoProgram("echo", "hello", func(p *program.Program) {
			p.Response.JSON = json.RawMessage(`{"method": "${request.method}", "body": "${request.body}"}`)
		}),
		echoProgram("small", "hello", func(p *program.Program) { p.Webhook.MaxBodySize = 16 }),
		echoProgram("silent", "", func(p *program.Program) {
			p.Response.Status, p.Response.JSON = http.StatusNoContent, nil
		}),
		echoProgram("item", "", func(p *program.Program) {
			p.Webhook.Path, p.Webhook.PathParameters = "item/"+program.PathParameter+"/part", []string{"id"}
			p.Webhook.Parameters = []program.Parameter{
				{Name: "q", In: program.InQuery, Default: new("none")}, {Name: "X-Note", In: program.InHeader, Default: new("none")},
			}
			p.Response.JSON = json.RawMessage(`"${request.params.id}|${request.params.q}|${request.params['X-Note']}"`)
		}),
		echoProgram("url", "", func(p *program.Program) { p.Response.JSON = json.RawMessage(`"${request.url}"`) }),
		petProgram("pet-intake", store.URL, strict),
		petProgram("signed", store.URL, strict, signedBy),
	)...)
	server := newHookServer(t.Context(), h, h.log)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return h, l.Addr().String()
}

// The files of testdata/wire hold requests byte by byte and what each must be
// answered with. After an answer that keeps the connection a request that is
// known to be good follows on it: whoever takes a part of one request for the
// next one answers that wrongly.
func TestWire(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parseWire(string(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		total += len(cases)
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			h, address := wireServer(t, func(l *serverLimits) {
				l.linger = 200 * time.Millisecond
				if strings.HasSuffix(name, "slow.txt") {
					l.readHeader, l.read = 200*time.Millisecond, 200*time.Millisecond
				}
			})
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, address) })
			}
			if text := gatherText(t, h.metrics); !strings.Contains(text, "headgate_panics_total 0\n") {
				t.Error("a request panicked")
			}
		})
	}
	if total < minWireCases {
		t.Errorf("%d cases, want %d at least", total, minWireCases)
	}
}

const wireProbe = "GET /hook/pets/probe HTTP/1.1\r\nHost: gateway\r\n\r\n"

func (c *wireCase) run(t *testing.T, address string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// A server that has seen enough does not take the rest.
		_, _ = io.WriteString(conn, c.request)
		if tcp, ok := conn.(*net.TCPConn); ok && c.end {
			_ = tcp.CloseWrite()
		}
	}()
	defer func() { <-sent }()
	r := bufio.NewReader(conn)
	method, _, _ := strings.Cut(c.request, " ")
	for i, want := range c.answers {
		got, err := readWire(r, method)
		if err != nil {
			t.Fatalf("answer %d: %v, want %+v", i+1, err, want)
		}
		if problem := want.differs(got); problem != "" {
			t.Fatalf("answer %d: %s, want %+v; got %d %v\n%.200s", i+1, problem, want, got.StatusCode, got.Header, got.body)
		}
		method = ""
	}
	if last := len(c.answers) - 1; last >= 0 && !c.answers[last].closes && !c.end {
		<-sent
		if _, err := io.WriteString(conn, wireProbe); err != nil {
			t.Fatalf("the connection is closed: %v", err)
		}
		if got, err := readWire(r, ""); err != nil || got.StatusCode != http.StatusOK || got.body != `"probe"` {
			t.Fatalf("the next request on the connection was answered with %+v, %v", got, err)
		}
		return
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the connection is not closed: %q, %v", rest, err)
	}
}

// readWire reads one answer to its end; method "" is any but HEAD.
func readWire(r *bufio.Reader, method string) (reply, error) {
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{Response: resp, body: string(body)}, err
}

// wireCase is one connection: what is sent, and what must come back.
type wireCase struct {
	name, request string
	// end says that nothing more is sent after the request.
	end     bool
	answers []wireAnswer
}

// wireAnswer is what an answer must be.
type wireAnswer struct {
	status int
	// problem is the last part of the type of a problem document; "plain" is an
	// answer of net/http itself, "" any other one.
	problem string
	closes  bool
	// holds is what the body must contain.
	holds string
}

func (w wireAnswer) differs(got reply) string {
	contentType := got.Header.Get("Content-Type")
	problem := ""
	switch {
	case contentType == contentTypeProblem:
		var p struct{ Type string }
		if err := json.Unmarshal([]byte(got.body), &p); err != nil && got.body != "" {
			return "a problem document that is no JSON"
		}
		problem = strings.TrimPrefix(p.Type, problemBase)
	case strings.HasPrefix(contentType, "text/plain"):
		problem = "plain"
	}
	switch {
	case got.StatusCode != w.status:
		return "another status"
	case problem != w.problem:
		return "another problem: " + problem
	case got.Close != w.closes:
		return fmt.Sprintf("closes: %t", got.Close)
	case !strings.Contains(got.body, w.holds):
		return "another body"
	default:
		return ""
	}
}

// parseWire reads cases. A case is a line "=== name"; the request, each line of
// which ends with CRLF unless it ends with a backslash; and the answers, each
// "<<< status [problem] keep|close [text that the body holds]". Beside the
// escapes \r \n \t \0 \xHH and \\ there are {{3*text}}, which repeats a text,
// {{length}}, the length of what follows the header, and @json, which stands for
// Host and Content-Type. "<<< gone" is a connection that is closed without an
// answer; ">>> end" says that the client sends nothing more. Lines that begin
// with # before the first line of a request are comments.
func parseWire(text string) ([]*wireCase, error) {
	var cases []*wireCase
	var request strings.Builder
	var c *wireCase
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "=== "):
			c = &wireCase{name: strings.TrimPrefix(line, "=== ")}
			cases = append(cases, c)
			request.Reset()
		case c == nil || request.Len() == 0 && strings.HasPrefix(line, "#"), len(c.answers) > 0 && line == "":
		case line == ">>> end":
			c.end = true
		case strings.HasPrefix(line, "<<< "):
			var err error
			if c.request, err = expandWire(request.String()); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
			if err := c.expect(strings.TrimPrefix(line, "<<< ")); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		case line == "@json":
			request.WriteString("Host: gateway\r\nContent-Type: application/json\r\n")
		default:
			open := strings.HasSuffix(line, `\`) && !strings.HasSuffix(line, `\\`)
			request.WriteString(strings.TrimSuffix(line, `\`))
			if !open {
				request.WriteString("\r\n")
			}
		}
	}
	return cases, nil
}

func (c *wireCase) expect(line string) error {
	if line == "gone" {
		return nil
	}
	var a wireAnswer
	head, tail, _ := strings.Cut(line, " ")
	if _, err := fmt.Sscan(head, &a.status); err != nil {
		return err
	}
	word, rest, _ := strings.Cut(tail, " ")
	if word != "keep" && word != "close" {
		a.problem = word
		word, rest, _ = strings.Cut(rest, " ")
	}
	if word != "keep" && word != "close" {
		return fmt.Errorf("%q says neither keep nor close", line)
	}
	a.closes, a.holds = word == "close", rest
	c.answers = append(c.answers, a)
	return nil
}

// expandWire replaces escapes and what stands between double braces.
func expandWire(text string) (string, error) {
	var out bytes.Buffer
	for text != "" {
		switch {
		case strings.HasPrefix(text, "{{length}}"):
			out.WriteString("\x00length\x00")
			text = text[len("{{length}}"):]
		case strings.HasPrefix(text, "{{"):
			inner, rest, found := strings.Cut(text[2:], "}}")
			count, unit, product := strings.Cut(inner, "*")
			n := 0
			if _, err := fmt.Sscan(count, &n); err != nil || !found || !product {
				return "", fmt.Errorf("%q is no repetition", inner)
			}
			unit, err := expandWire(unit)
			if err != nil {
				return "", err
			}
			out.WriteString(strings.Repeat(unit, n))
			text = rest
		case text[0] == '\\' && len(text) > 1:
			n, value := 2, text[1]
			switch text[1] {
			case 'r':
				value = '\r'
			case 'n':
				value = '\n'
			case 't':
				value = '\t'
			case '0':
				value = 0
			case 'x':
				if _, err := fmt.Sscanf(text[2:], "%02x", &value); err != nil {
					return "", err
				}
				n = 4
			}
			out.WriteByte(value)
			text = text[n:]
		default:
			out.WriteByte(text[0])
			text = text[1:]
		}
	}
	head, body, _ := strings.Cut(out.String(), "\r\n\r\n")
	return strings.Replace(out.String(), "\x00length\x00", fmt.Sprint(len(body)), strings.Count(head, "\x00length\x00")), nil
}
