// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
)

// stored is what the pet store answers.
const stored = `{"id": 4711, "name": "Gromit", "status": "Sold"}`

// serveUpstream is the pet store: as little of a server as will do, since it
// shares the processors with what is measured. It answers 403 to calls without
// the API key.
func serveUpstream(ctx context.Context, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			// Whoever called has gone.
			_ = answerCalls(conn)
			_ = closed(conn)
		}()
	}
}

func answerCalls(conn net.Conn) error {
	yes, no := answerOf("200 OK", stored), answerOf("403 Forbidden", `{"message": "invalid api_key"}`)
	reader := bufio.NewReaderSize(conn, 16<<10)
	for {
		m, err := readMessage(reader)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := reader.Discard(m.length); err != nil {
			return err
		}
		answer := yes
		if !m.keyed || !strings.HasPrefix(m.start, "POST "+petPath+" ") {
			answer = no
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

func answerOf(status, body string) []byte {
	return []byte("HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}
