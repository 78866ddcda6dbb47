// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
)

// maxBody bounds a request body, in bytes.
const maxBody = 1 << 20

// Pet is one pet of the store.
type Pet struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
}

// Petstore is a pet store: POST /v2/pet stores a pet and answers it with its
// id, GET /v2/pet/{id} returns one, GET /v2/pets returns all. Every call needs
// the header api_key.
type Petstore struct {
	mux *http.ServeMux

	mu     sync.Mutex
	apiKey string
	pets   []Pet
}

// NewPetstore returns an empty store that accepts apiKey.
func NewPetstore(apiKey string) *Petstore {
	s := &Petstore{mux: http.NewServeMux(), apiKey: apiKey}
	s.mux.HandleFunc("POST /v2/pet", s.create)
	s.mux.HandleFunc("GET /v2/pet/{id}", s.get)
	s.mux.HandleFunc("GET /v2/pets", s.list)
	return s
}

// SetAPIKey replaces the key that the store accepts.
func (s *Petstore) SetAPIKey(apiKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apiKey = apiKey
}

// Pets returns the pets in the order in which they were stored.
func (s *Petstore) Pets() []Pet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Pet{}, s.pets...)
}

// ServeHTTP implements http.Handler.
func (s *Petstore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	want := s.apiKey
	s.mu.Unlock()
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Api_key")), []byte(want)) != 1 {
		writeJSON(w, http.StatusForbidden, map[string]string{"message": "invalid api_key"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Petstore) create(w http.ResponseWriter, r *http.Request) {
	var pet Pet
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&pet); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "bad input"})
		return
	}
	if pet.Name == "" {
		writeJSON(w, http.StatusUnprocessableEntity, map[string]string{"message": "a pet needs a name"})
		return
	}
	s.mu.Lock()
	pet.ID = int64(len(s.pets) + 1)
	s.pets = append(s.pets, pet)
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, pet)
}

func (s *Petstore) get(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || id < 1 || id > int64(len(s.pets)) {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "pet not found"})
		return
	}
	writeJSON(w, http.StatusOK, s.pets[id-1])
}

func (s *Petstore) list(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Pets())
}

// writeJSON answers with v; the connection is gone if that fails, and so is
// whoever could be told.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
