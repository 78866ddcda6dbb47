// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

// relay is the network between one client and the bus. A request for checkpoints
// can be made one for those that are stored much later, and one for a record one
// for something that is not there: the answer is that of a member that leads the
// stream no more, and knows of none. A test may look at what is sent, and have a
// write refused.
type relay struct {
	t  *testing.T
	to string
	// checkpoints and records are how many requests are to be answered so.
	checkpoints, records atomic.Int32
	// look is called before something is sent on, if it is set, and tells whether
	// the bus is to refuse that.
	look atomic.Pointer[func(subject string, payload []byte) (refuse bool)]
}

// watch sets what looks at what is sent from now on.
func (r *relay) watch(look func(subject string, payload []byte) (refuse bool)) { r.look.Store(&look) }

// impossible returns a write with a condition that is not met.
func impossible(words []string, payload []byte) []byte {
	const version, condition = "NATS/1.0\r\n", "Nats-Expected-Last-Sequence: 123456789\r\n"
	header, body := []byte(version+"\r\n"), payload
	if words[0] == "HPUB" {
		n, err := strconv.Atoi(words[len(words)-2])
		if err != nil {
			return nil
		}
		header, body = payload[:n], payload[n:]
		words = words[:len(words)-1]
	}
	header = slices.Concat([]byte(version+condition), header[len(version):])
	line := fmt.Sprintf("HPUB %s %d %d\r\n", strings.Join(words[1:len(words)-1], " "), len(header), len(header)+len(body)-len("\r\n"))
	return slices.Concat([]byte(line), header, body)
}

// ask returns what is asked in place of a request.
func (r *relay) ask(subject string, request []byte) []byte {
	for _, l := range []struct {
		stream, from, to string
		left             *atomic.Int32
	}{
		{"QUEUE", `{"seq":1,"next_by_subj":`, `{"seq":9,"next_by_subj":`, &r.checkpoints},
		{"RUNS", `{"last_by_subj":"runs.`, `{"last_by_subj":"none.`, &r.records},
	} {
		rest, ok := bytes.CutPrefix(request, []byte(l.from))
		if ok && subject == "$JS.API.STREAM.MSG.GET."+l.stream && l.left.Load() > 0 {
			l.left.Add(-1)
			return append([]byte(l.to), rest...)
		}
	}
	return request
}

// connectByRelay connects a gateway to the bus, and returns what lies between.
func connectByRelay(t *testing.T, server *bus.Server, name string) (*bus.Client, *relay) {
	t.Helper()
	cert, err := tls.X509KeyPair(installation().TLSCert, installation().TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	r := &relay{t: t, to: server.Addr()}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return connectWith(t, bus.ClientOptions{URL: "tls://" + listener.Addr().String(), Role: bus.RoleGateway, Name: name}), r
}

func (r *relay) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(installation().CACert)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	server, err := dialer.DialContext(r.t.Context(), "tcp", r.to)
	if err != nil {
		return // It tries again, or the test is over.
	}
	go func() {
		_, _ = io.Copy(client, server) // Ends with either of them.
		_ = client.Close()
	}()
	_ = r.forward(server, bufio.NewReader(client)) // Likewise.
	_ = server.Close()
}

// forward passes on what a client says: lines, and after a line that publishes a
// payload of the length that is its last word (NATS client protocol).
func (r *relay) forward(server io.Writer, client *bufio.Reader) error {
	for {
		line, err := client.ReadBytes('\n')
		if err != nil {
			return err
		}
		words := strings.Fields(string(line))
		if len(words) > 2 && (words[0] == "PUB" || words[0] == "HPUB") {
			size, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				return err
			}
			payload := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(client, payload); err != nil {
				return err
			}
			if look := r.look.Load(); look != nil && (*look)(words[1], payload) {
				line = impossible(words, payload)
			} else {
				line = append(line, r.ask(words[1], payload)...)
			}
		}
		if _, err := server.Write(line); err != nil {
			return err
		}
	}
}

// Whoever takes a run over and is told of fewer steps than have finished begins
// none of them again, but asks again.
func TestATakeoverByAnOldAnswerRepeatsNoStep(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	server := startBus(t)
	p := asyncProgram(u, "intake", "first", "second", "third")
	former := newBench(t, connect(t, server, bus.RoleGateway, "gateway-0"))
	former.Serve(p.Key, p, link(t, p))
	run, seq := former.put(p.Key)
	former.told(run, seq, false)
	over, end := context.WithCancel(t.Context())
	u.answer = func(w http.ResponseWriter, r *http.Request, key string) {
		if key == run.ID+"/second" {
			end()
			<-r.Context().Done()
		}
	}
	former.begin(over)
	var failed atomic.Bool
	u.mu.Lock()
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		if !failed.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	u.mu.Unlock()

	client, network := connectByRelay(t, server, "gateway-1")
	next := newBench(t, client)
	next.Serve(p.Key, p, link(t, p))
	next.told(run, seq, true)
	network.checkpoints.Store(2)
	for range 2 {
		next.begin(t.Context())
		g.Expect(u.keys()).To(Equal([]string{run.ID + "/first", run.ID + "/second"}), "nothing is begun")
		_, where, err := former.queue.Get(t.Context(), run)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(where).To(Equal(seq), "nothing is stored")
		next.clock.Step(storeRetry)
	}
	next.begin(t.Context()) // fails
	next.clock.Step(time.Minute)
	network.checkpoints.Store(1)
	next.begin(t.Context())
	g.Expect(u.keys()[2:]).To(Equal([]string{run.ID + "/second"}), "what was there at the takeover is known from then on")

	next.clock.Step(storeRetry)
	next.begin(t.Context())
	g.Expect(next.end(t, p.Key, run.ID).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()[3:]).To(Equal([]string{run.ID + "/second", run.ID + "/third"}))
}

// An owner that tries a run again knows how many of its steps have finished.
func TestARetryByAnOldAnswerRepeatsNoStep(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	client, network := connectByRelay(t, startBus(t), "gateway-0")
	b := newBench(t, client)
	p := asyncProgram(u, "intake", "first", "second", "third")
	b.Serve(p.Key, p, link(t, p))
	run, seq := b.put(p.Key)
	b.told(run, seq, false)
	var failures atomic.Int32
	u.answer = func(w http.ResponseWriter, _ *http.Request, key string) {
		if key == run.ID+"/second" && failures.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	b.begin(t.Context())
	b.clock.Step(time.Minute)
	b.begin(t.Context()) // fails again, and has nothing new to store
	b.clock.Step(time.Minute)
	network.checkpoints.Store(1)
	b.begin(t.Context())
	g.Expect(u.keys()).To(Equal([]string{run.ID + "/first", run.ID + "/second", run.ID + "/second"}))

	b.clock.Step(storeRetry)
	b.begin(t.Context())
	record := b.end(t, p.Key, run.ID)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Attempts).To(Equal(3))
	g.Expect(u.keys()[3:]).To(Equal([]string{run.ID + "/second", run.ID + "/third"}))
}

// A run that waits is not moved without its checkpoints.
func TestAMoveByAnOldAnswerLosesNoStep(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	client, network := connectByRelay(t, startBus(t), "gateway-0")
	b := newBench(t, client)
	p := asyncProgram(startUpstream(t), "intake", "first", "second")
	b.Serve(p.Key, p, link(t, p))
	run, seq := b.put(p.Key)
	_, err := b.queue.PutStep(t.Context(), run, 0, []byte("state"))
	g.Expect(err).NotTo(HaveOccurred())
	b.told(run, seq, true)
	waiting := &ticket{flow: b.board.flows[p.Key], pending: b.board.find(p.Key, run.ID)}
	network.checkpoints.Store(1)
	g.Expect(b.storeAgain(t.Context(), waiting)).To(Equal(seq), "it stays where it is")

	moved := b.storeAgain(t.Context(), waiting)
	g.Expect(moved).To(BeNumerically(">", seq+1))
	g.Expect(b.queue.Purge(t.Context(), p.Key, moved)).To(Succeed())
	steps, err := b.queue.Steps(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(1))
}

// A run that has ended under another owner is not begun because somebody does not
// know it.
func TestATakeoverByAnOldAnswerBeginsNoRunThatHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	server := startCluster(t)
	p := asyncProgram(u, "intake", "first")
	former := newBench(t, connect(t, server, bus.RoleGateway, "gateway-0"))
	former.Serve(p.Key, p, link(t, p))
	run, seq := former.put(p.Key)
	former.told(run, seq, false)
	former.begin(t.Context())
	g.Expect(former.end(t, p.Key, run.ID).State).To(Equal(bus.StateSucceeded))

	client, network := connectByRelay(t, server, "gateway-1")
	next := newBench(t, client)
	next.Serve(p.Key, p, link(t, p))
	next.told(run, seq, true)
	network.records.Store(1)
	next.begin(t.Context())
	g.Expect(network.records.Load()).To(BeZero())
	g.Expect(next.board.floor(p.Key)).To(Equal(seq), "it is looked at again")
	next.clock.Step(storeRetry)
	next.begin(t.Context())
	g.Expect(next.board.floor(p.Key)).To(BeNumerically(">", seq), "it is settled")
	g.Expect(u.keys()).To(Equal([]string{run.ID + "/first"}))
}
