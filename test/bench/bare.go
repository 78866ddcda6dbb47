// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxBody bounds what the handler reads of a body, in bytes.
const maxBody = 1 << 20

// bare is what somebody would write by hand for this one flow.
type bare struct {
	upstream       string
	user, password [sha256.Size]byte
	client         *http.Client
}

func serveBare(ctx context.Context, address, upstream string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	h := &bare{
		upstream: "http://" + upstream + petPath,
		user:     sha256.Sum256([]byte(user)),
		password: sha256.Sum256([]byte(password)),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConns: 2048, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true,
		}},
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	return server.Serve(l)
}

// ServeHTTP implements http.Handler.
func (h *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, word, ok := r.BasicAuth()
	gotName, gotWord := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(word))
	if !ok || subtle.ConstantTimeCompare(gotName[:], h.user[:])&subtle.ConstantTimeCompare(gotWord[:], h.password[:]) != 1 {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	var in any
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	fields, ok := in.(map[string]any)
	if !ok {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	pet, status, err := h.store(r.Context(), map[string]any{"name": fields["petname"], "status": fields["petstatus"]})
	if err != nil || status != http.StatusOK {
		http.Error(w, "the pet store does not take the pet", http.StatusBadGateway)
		return
	}
	out, err := json.Marshal(map[string]any{
		"id":      pet["id"],
		"message": fmt.Sprintf("Stored %v as %v", pet["name"], pet["status"]),
	})
	if err != nil {
		http.Error(w, "bad answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(out) // the caller has gone
}

func (h *bare) store(ctx context.Context, pet map[string]any) (map[string]any, int, error) {
	body, err := json.Marshal(pet)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.upstream, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(apiKeyName, apiKey)
	res, err := h.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = closed(res.Body) }()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, 0, err
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, 0, err
	}
	stored, _ := out.(map[string]any)
	return stored, res.StatusCode, nil
}
