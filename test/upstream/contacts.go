// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// contactsPerPage is how many contacts a page of a CRM has at most.
const contactsPerPage = 3

// Contact is somebody that a CRM knows.
type Contact struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
	// Change is the number of the last change; the CRM counts them.
	Change int `json:"change"`
}

// CRM tells what has changed: GET /contacts?since=N answers the contacts that were
// changed after change N, the oldest change first, in pages of three whose next is
// the URL of the next page or null. Every call needs the header x-api-key.
type CRM struct {
	apiKey string

	mu       sync.Mutex
	contacts []Contact
	changes  int
	calls    []string
}

// NewCRM returns a CRM without contacts that accepts apiKey.
func NewCRM(apiKey string) *CRM { return &CRM{apiKey: apiKey} }

// Set creates or changes a contact.
func (c *CRM) Set(id, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	contact := Contact{ID: id, Name: name, Email: id + "@example.com", Change: c.changes}
	kept := c.contacts[:0:0]
	for _, old := range c.contacts {
		if old.ID != id {
			kept = append(kept, old)
		}
	}
	kept = append(kept, contact)
	c.contacts = kept
}

// Calls returns the query strings of all calls, in order.
func (c *CRM) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.calls...)
}

// ServeHTTP implements http.Handler.
func (c *CRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	since, err := strconv.Atoi(r.URL.Query().Get("since"))
	switch {
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Api-Key")), []byte(c.apiKey)) != 1:
		writeJSON(w, http.StatusForbidden, map[string]string{"message": "invalid x-api-key"})
		return
	case r.Method != http.MethodGet || r.URL.Path != "/contacts":
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such resource"})
		return
	case err != nil:
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "since is no number"})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, r.URL.RawQuery)
	page, next := []Contact{}, any(nil)
	for _, contact := range c.contacts {
		if contact.Change <= since {
			continue
		}
		if len(page) == contactsPerPage {
			next = fmt.Sprintf("/contacts?since=%d", page[len(page)-1].Change)
			break
		}
		page = append(page, contact)
	}
	writeJSON(w, http.StatusOK, map[string]any{"contacts": page, "next": next})
}

// Newsletter has subscribers: PUT /subscribers/{id} creates or replaces one. Every
// call needs the bearer token.
type Newsletter struct {
	token string

	mu          sync.Mutex
	refused     string
	subscribers map[string]string
	calls       []string
}

// NewNewsletter returns a newsletter without subscribers that accepts token.
func NewNewsletter(token string) *Newsletter {
	return &Newsletter{token: token, subscribers: make(map[string]string)}
}

// Refuse lets it refuse a subscriber with 422; nobody if id is empty.
func (n *Newsletter) Refuse(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused = id
}

// Subscribers returns the names by the ids.
func (n *Newsletter) Subscribers() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.subscribers)
}

// Calls returns the ids of all subscribers that were written, in order.
func (n *Newsletter) Calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string{}, n.calls...)
}

// ServeHTTP implements http.Handler.
func (n *Newsletter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const prefix = "/subscribers/"
	var in struct{ Name, Email string }
	switch {
	case !bears(r, n.token):
		writeJSON(w, http.StatusUnauthorized, map[string]string{"message": "who are you?"})
		return
	case r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, prefix):
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such resource"})
		return
	case json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in) != nil || in.Email == "":
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "bad input"})
		return
	}
	id := strings.TrimPrefix(r.URL.Path, prefix)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, id)
	if id == n.refused {
		writeJSON(w, http.StatusUnprocessableEntity, map[string]string{"message": "not this one"})
		return
	}
	n.subscribers[id] = in.Name
	writeJSON(w, http.StatusOK, map[string]string{"id": id})
}

// bears tells whether a request has the bearer token.
func bears(r *http.Request, token string) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) == 1
}
