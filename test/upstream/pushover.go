// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// Notification is one message that was pushed.
type Notification struct {
	Message string `json:"message"`
	Title   string `json:"title"`
}

// Pushover is a push notification service after the Pushover message API
// (https://pushover.net/api): POST /1/messages.json with the application's
// token and the user's key in the JSON body.
type Pushover struct {
	token, user string

	mu   sync.Mutex
	sent []Notification
}

// NewPushover returns a service that knows one application and one user.
func NewPushover(token, user string) *Pushover {
	return &Pushover{token: token, user: user}
}

// Sent returns the notifications in the order in which they came.
func (p *Pushover) Sent() []Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Notification{}, p.sent...)
}

// ServeHTTP implements http.Handler.
func (p *Pushover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/1/messages.json" {
		writeJSON(w, http.StatusNotFound, map[string]any{"status": 0, "errors": []string{"no such resource"}})
		return
	}
	var in struct {
		Token, User string
		Notification
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		p.refuse(w, "request", "body is not JSON")
		return
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(in.Token), []byte(p.token)) != 1:
		p.refuse(w, "token", "application token is invalid")
	case subtle.ConstantTimeCompare([]byte(in.User), []byte(p.user)) != 1:
		p.refuse(w, "user", "user identifier is invalid")
	case in.Message == "":
		p.refuse(w, "message", "message cannot be blank")
	default:
		writeJSON(w, http.StatusOK, map[string]any{"status": 1, "request": p.accept(in.Notification)})
	}
}

// accept keeps n and returns the id of the request.
func (p *Pushover) accept(n Notification) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, n)
	return fmt.Sprintf("request-%d", len(p.sent))
}

func (p *Pushover) refuse(w http.ResponseWriter, field, why string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{"status": 0, field: "invalid", "errors": []string{why}})
}
