// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// OutOfStock is the item that a Warehouse never has.
const OutOfStock = "moon"

// Shipment is a parcel that has left the warehouse.
type Shipment struct {
	Reservation string `json:"reservation"`
	Customer    string `json:"customer"`
}

// Warehouse reserves and ships: POST /reservations answers the id of a
// reservation, or 409 for OutOfStock, POST /shipments the tracking number of what
// was reserved. Every call needs the bearer token and an Idempotency-Key; one that
// is repeated with its key is answered as before, and does nothing.
type Warehouse struct {
	mux   *http.ServeMux
	token string

	mu sync.Mutex
	// failures are how many shipments are still refused.
	failures     int
	calls        []string
	answers      map[string]map[string]string
	reservations int
	shipments    []Shipment
}

// NewWarehouse returns a warehouse that accepts token.
func NewWarehouse(token string) *Warehouse {
	w := &Warehouse{mux: http.NewServeMux(), token: token, answers: make(map[string]map[string]string)}
	w.mux.HandleFunc("POST /reservations", w.reserve)
	w.mux.HandleFunc("POST /shipments", w.ship)
	return w
}

// FailShipments lets the next n shipments fail with 503.
func (w *Warehouse) FailShipments(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = n
}

// Calls returns the Idempotency-Keys of all calls, failed ones included, in the
// order in which they came.
func (w *Warehouse) Calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.calls...)
}

// Reservations returns how many there are.
func (w *Warehouse) Reservations() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reservations
}

// Shipments returns what was shipped, in order.
func (w *Warehouse) Shipments() []Shipment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Shipment{}, w.shipments...)
}

// ServeHTTP implements http.Handler.
func (w *Warehouse) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	switch {
	case !bears(r, w.token):
		writeJSON(res, http.StatusUnauthorized, map[string]string{"message": "who are you?"})
	case key == "":
		writeJSON(res, http.StatusBadRequest, map[string]string{"message": "a call needs an Idempotency-Key"})
	default:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls = append(w.calls, key)
		if before, known := w.answers[key]; known {
			writeJSON(res, http.StatusCreated, before)
			return
		}
		w.mux.ServeHTTP(res, r)
	}
}

func (w *Warehouse) reserve(res http.ResponseWriter, r *http.Request) {
	var in struct {
		Item     string
		Quantity int
	}
	if err := json.NewDecoder(http.MaxBytesReader(res, r.Body, maxBody)).Decode(&in); err != nil || in.Quantity < 1 {
		writeJSON(res, http.StatusBadRequest, map[string]string{"message": "bad input"})
		return
	}
	if in.Item == OutOfStock {
		writeJSON(res, http.StatusConflict, map[string]string{"message": "out of stock"})
		return
	}
	w.reservations++
	w.answer(res, r, map[string]string{"id": fmt.Sprintf("reservation-%d", w.reservations)})
}

func (w *Warehouse) ship(res http.ResponseWriter, r *http.Request) {
	var in Shipment
	if err := json.NewDecoder(http.MaxBytesReader(res, r.Body, maxBody)).Decode(&in); err != nil || in.Reservation == "" {
		writeJSON(res, http.StatusBadRequest, map[string]string{"message": "bad input"})
		return
	}
	if w.failures > 0 {
		w.failures--
		writeJSON(res, http.StatusServiceUnavailable, map[string]string{"message": "the lorry is away"})
		return
	}
	w.shipments = append(w.shipments, in)
	w.answer(res, r, map[string]string{"tracking": fmt.Sprintf("parcel-%d", len(w.shipments))})
}

// answer keeps an answer under the key of its call.
func (w *Warehouse) answer(res http.ResponseWriter, r *http.Request, body map[string]string) {
	w.answers[r.Header.Get("Idempotency-Key")] = body
	writeJSON(res, http.StatusCreated, body)
}
