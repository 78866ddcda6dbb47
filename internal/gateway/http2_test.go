// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawHTTP2 is a connection of HTTP/2 on which a test writes its own frames.
type rawHTTP2 struct {
	*http2.Framer
	conn    *tls.Conn
	t       testing.TB
	encoder *hpack.Encoder
	block   bytes.Buffer
	// settings of the gateway.
	settings map[http2.SettingID]uint32
	// statuses, resets and goAway are what was read so far.
	statuses map[uint32]string
	resets   map[uint32]http2.ErrCode
	goAway   bool
}

func (s *secured) dialHTTP2(t testing.TB) *rawHTTP2 {
	t.Helper()
	conn := s.handshake(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.ca.Pool(), NextProtos: []string{"h2"}})
	t.Cleanup(func() { _ = conn.Close() })
	r := &rawHTTP2{
		Framer: http2.NewFramer(conn, conn), conn: conn, t: t, settings: map[http2.SettingID]uint32{},
		statuses: map[uint32]string{}, resets: map[uint32]http2.ErrCode{},
	}
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encoder = hpack.NewEncoder(&r.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	r.await(func() bool { return len(r.settings) > 0 })
	return r
}

// header encodes the header of a request.
func (r *rawHTTP2) header(method, path string, header ...string) []byte {
	r.block.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "gateway", ":path", path}, header...)
	for i := 0; i < len(fields); i += 2 {
		if err := r.encoder.WriteField(hpack.HeaderField{Name: strings.ToLower(fields[i]), Value: fields[i+1]}); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.block.Bytes()
}

// request sends the header of a request, in as many frames as it takes.
func (r *rawHTTP2) request(stream uint32, body bool, method, path string, header ...string) {
	r.t.Helper()
	const frame = 16 << 10
	block := r.header(method, path, header...)
	n := min(len(block), frame)
	err := r.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: block[:n], EndStream: !body, EndHeaders: n == len(block),
	})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), frame)
		err = r.WriteContinuation(stream, n == len(block), block[:n])
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rawHTTP2) data(stream uint32, end bool, data string) {
	r.t.Helper()
	if err := r.WriteData(stream, end, []byte(data)); err != nil {
		r.t.Fatal(err)
	}
}

// read takes one frame.
func (r *rawHTTP2) read() error {
	frame, err := r.ReadFrame()
	if err != nil {
		return err
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		_ = f.ForeachSetting(func(s http2.Setting) error {
			r.settings[s.ID] = s.Val
			return nil
		})
		return r.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			return r.WritePing(true, f.Data)
		}
	case *http2.MetaHeadersFrame:
		r.statuses[f.StreamID] = f.PseudoValue("status")
	case *http2.RSTStreamFrame:
		r.resets[f.StreamID] = f.ErrCode
	case *http2.GoAwayFrame:
		r.goAway = true
	default:
	}
	return nil
}

// await reads until a condition holds.
func (r *rawHTTP2) await(ok func() bool) {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	for !ok() {
		if err := r.read(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// status waits for the answer to a request.
func (r *rawHTTP2) status(stream uint32) string {
	r.t.Helper()
	r.await(func() bool { return r.statuses[stream] != "" })
	return r.statuses[stream]
}

func (r *rawHTTP2) awaitGoAway() error {
	r.t.Helper()
	r.await(func() bool { return r.goAway })
	return nil
}

// closed waits until the gateway closes the connection.
func (r *rawHTTP2) closed() {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	for {
		err := r.read()
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			r.t.Fatal("the connection is still open")
		}
		if err != nil {
			return
		}
	}
}

// What a connection may do is announced, and kept whatever the other end says.
func TestHTTP2Limits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t, func(g *Gateway) { g.handler.limits.streams = 2 })
	upstream, arrived, release := held(t)
	ctl := connectController(t, gw.replica)
	ctl.put(petProgram("pet-intake", upstream.URL), gw.replica)
	ctl.put(echoProgram("echo", "hello"), gw.replica)
	raw := gw.dialHTTP2(t)
	g.Expect(raw.settings).To(HaveKeyWithValue(http2.SettingMaxConcurrentStreams, uint32(2)))
	g.Expect(raw.settings[http2.SettingMaxHeaderListSize]).To(BeNumerically("~", maxHeaderBytes, 1024))
	g.Expect(raw.settings[http2.SettingInitialWindowSize]).To(Equal(uint32(maxStreamReceiveBuffer)))
	g.Expect(raw.settings).NotTo(HaveKeyWithValue(http2.SettingEnableConnectProtocol, uint32(1)))

	for _, stream := range []uint32{1, 3} {
		raw.request(stream, true, "POST", "/hook/pets/pet-intake", asPartner()...)
		raw.data(stream, true, gromit)
		<-arrived
	}
	raw.request(5, false, "GET", "/hook/pets/echo")
	raw.await(func() bool { return raw.resets[5] != 0 })
	g.Expect(raw.resets[5]).To(Or(Equal(http2.ErrCodeRefusedStream), Equal(http2.ErrCodeProtocol)))
	release()
	g.Expect(raw.status(1)).To(Equal("201"))
	g.Expect(raw.status(3)).To(Equal("201"))
}

// The header is bounded as that of HTTP/1.1 is, with and without an end.
func TestHTTP2Header(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t)
	ctl := connectController(t, gw.replica)
	ctl.put(echoProgram("echo", "hello"), gw.replica)
	raw := gw.dialHTTP2(t)
	raw.request(1, false, "GET", "/hook/pets/echo", "x-large", strings.Repeat("x", maxHeaderBytes/2))
	g.Expect(raw.status(1)).To(Equal("200"))
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf("x-large-%d", i), strings.Repeat("x", maxHeaderBytes/8))
	}
	raw.request(3, false, "GET", "/hook/pets/echo", many...)
	g.Expect(raw.status(3)).To(Equal("431"))
	raw.request(5, false, "GET", "/hook/pets/echo")
	g.Expect(raw.status(5)).To(Equal("200"))

	// A flood of frames that never ends a header is cut off.
	flood := gw.dialHTTP2(t)
	g.Expect(flood.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: flood.header("GET", "/hook/pets/echo")})).To(Succeed())
	// What the kernel takes is no measure; that writing ends is.
	g.Expect(flood.conn.SetWriteDeadline(time.Now().Add(patience))).To(Succeed())
	var err error
	for sent := 0; err == nil && sent < 4096*maxHeaderBytes; sent += maxHeaderBytes / 8 {
		err = flood.WriteContinuation(1, false, flood.header("GET", "/", "x-more", strings.Repeat("y", maxHeaderBytes/8)))
	}
	g.Expect(err).To(And(HaveOccurred(), Not(MatchError(os.ErrDeadlineExceeded))))
	flood.closed()
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("http2: "), "bad callers do not fill the log")
}

// Slow senders are cut off as those of HTTP/1.1 are, while a run takes its time.
func TestHTTP2ReadTimeouts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, release := held(t)
	gw := startSecured(t, func(g *Gateway) {
		l := &g.handler.limits
		l.readHeader, l.read, l.idle, l.write = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond, patience
	})
	ctl := connectController(t, gw.replica)
	ctl.put(petProgram("pet-intake", upstream.URL), gw.replica)
	ctl.put(echoProgram("echo", "hello"), gw.replica)
	busy := gw.dialHTTP2(t)
	busy.request(1, true, "POST", "/hook/pets/pet-intake", asPartner()...)
	busy.data(1, true, gromit)
	<-arrived

	// A body on the same connection.
	busy.request(3, true, "POST", "/hook/pets/echo", "content-type", jsonType)
	busy.data(3, false, "{")
	g.Expect(busy.status(3)).To(Equal("408"))
	// A header that does not end.
	half := gw.dialHTTP2(t)
	g.Expect(half.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: half.header("GET", "/hook/pets/echo")})).To(Succeed())
	half.closed()
	// A handshake that does not begin, and a connection that does nothing.
	silent := dial(t, gw.replica)
	_, err := io.Copy(io.Discard, silent)
	g.Expect(err).NotTo(HaveOccurred())
	gw.dialHTTP2(t).closed()

	release()
	g.Expect(busy.status(1)).To(Equal("201"))
}

// The requests that are under way are bounded, on however few connections they
// come, and so are those of one address.
func TestRequestsInFlight(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]any{
		"in all":         func(g *Gateway) { g.handler.requests.limit = 1 },
		"of one address": func(o *Options) { o.ConnectionsPerAddress = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			upstream, arrived, release := held(t)
			gw := startSecured(t, bound)
			ctl := connectController(t, gw.replica)
			ctl.put(petProgram("pet-intake", upstream.URL), gw.replica)
			ctl.put(echoProgram("echo", "hello"), gw.replica)
			client := gw.caller(t, 2)
			answer := make(chan int, 1)
			go func() {
				got, err := gw.call(t.Context(), client, "/hook/pets/pet-intake", gromit, asPartner()...)
				if err != nil {
					t.Error(err)
					answer <- 0
					return
				}
				answer <- got.StatusCode
			}()
			<-arrived
			refused := gw.mustCall(client, "/hook/pets/echo", "")
			g.Expect(refused.StatusCode).To(Equal(503))
			g.Expect(refused.problem(t).Type).To(HaveSuffix("/busy"))
			g.Expect(refused.Header.Get("Retry-After")).To(Equal("1"))
			release()
			g.Expect(<-answer).To(Equal(201))
			eventually(t, func() bool { return gw.handler.requests.used.Load() == 0 })
			g.Expect(gw.mustCall(client, "/hook/pets/echo", "").StatusCode).To(Equal(200))
		})
	}
}

// An address with too many connections is refused another one at once, and gets
// one again when it has closed one.
func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t, func(o *Options) { o.ConnectionsPerAddress = 2 })
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello"), gw)
	ask := func(conn net.Conn) string {
		_, _ = fmt.Fprint(conn, "GET /hook/pets/echo HTTP/1.1\r\nHost: gateway\r\n\r\n")
		line := make([]byte, len("HTTP/1.1 200"))
		_, _ = io.ReadFull(conn, line)
		return string(line)
	}
	first, second := dial(t, gw), dial(t, gw)
	g.Expect(ask(first)).To(Equal("HTTP/1.1 200"))
	g.Expect(ask(second)).To(Equal("HTTP/1.1 200"))
	third := dial(t, gw)
	_, err := io.ReadAll(third)
	g.Expect(err).To(Or(Not(HaveOccurred()), MatchError(ContainSubstring("reset"))))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring("headgate_refused_connections_total 1"))

	g.Expect(first.Close()).To(Succeed())
	eventually(t, func() bool {
		resp, err := gw.try(t.Context(), "GET", "/hook/pets/echo", "", "Connection", "close")
		return err == nil && resp.StatusCode == http.StatusOK
	})
}

// A trusted proxy comes for all of its callers, and is not held to what one of
// them may have.
func TestConnectionsOfATrustedProxy(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t, func(o *Options) {
		o.ConnectionsPerAddress = 1
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello"), gw)
	for range 3 {
		conn := dial(t, gw)
		_, err := fmt.Fprint(conn, "GET /hook/pets/echo HTTP/1.1\r\nHost: gateway\r\n\r\n")
		g.Expect(err).NotTo(HaveOccurred())
		line := make([]byte, len("HTTP/1.1 200"))
		_, err = io.ReadFull(conn, line)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(line)).To(Equal("HTTP/1.1 200"))
	}
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring("headgate_refused_connections_total 0"))
}

func TestPeerAddress(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	address := func(remote string) string {
		endpoint, err := net.ResolveTCPAddr("tcp", remote)
		g.Expect(err).NotTo(HaveOccurred())
		return peerAddress(endpoint).String()
	}
	g.Expect(address("192.0.2.1:80")).To(Equal("192.0.2.1"))
	g.Expect(address("[::ffff:192.0.2.1]:80")).To(Equal("192.0.2.1"))
	g.Expect(address("[2001:db8:1:2:3::4]:80")).To(Equal("2001:db8:1:2::"))
	g.Expect(address("[2001:db8:1:2:ffff::]:80")).To(Equal("2001:db8:1:2::"))
	g.Expect(address("[2001:db8:1:3::]:80")).To(Equal("2001:db8:1:3::"))
}
