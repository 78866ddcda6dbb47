// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// What callers and calls are authenticated with.
const (
	user       = "partner"
	password   = "gromit-and-wallace"
	apiKeyName = "api_key"
	apiKey     = "wensleydale-42"
)

const (
	hookPath = "/hook/pets/pet-intake"
	petPath  = "/v2/pet"
)

var authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))

//go:embed testdata
var testdata embed.FS

// system is one way to do the work.
type system struct {
	name string
	// status of its answers: what only passes on has that of the pet store.
	status  int
	start   func(ctx context.Context, b *bench, s *system) error
	address string
	*process
	// idle memory, in bytes.
	idle int64
}

// The names that the report refers to.
const (
	nameHeadgate = "Headgate"
	nameQuiet    = "Headgate, log-level warn"
	nameBare     = "net/http by hand"
)

func systems() []*system {
	return []*system{
		{name: nameHeadgate, status: http.StatusCreated, start: startHeadgate("info")},
		{name: nameQuiet, status: http.StatusCreated, start: startHeadgate("warn")},
		{name: nameBare, status: http.StatusCreated, start: startBare},
		{name: "nginx, passing on", status: http.StatusOK, start: startProxy("nginx", "nginx.conf", "-e", "stderr", "-c")},
		{name: "HAProxy, passing on", status: http.StatusOK, start: startProxy("haproxy", "haproxy.cfg", "-db", "-f")},
	}
}

// errMissing says that a system is not installed.
var errMissing = errors.New("not installed")

func startBare(_ context.Context, b *bench, s *system) (err error) {
	s.process, err = launch(b.dir, "bare", b.self, roleBare, s.address, b.upstream)
	return err
}

// startProxy starts a proxy with its configuration for the bench. Its arguments
// end with the one that the file follows.
func startProxy(program, config string, args ...string) func(context.Context, *bench, *system) error {
	return func(_ context.Context, b *bench, s *system) error {
		path, err := exec.LookPath(program)
		if err != nil {
			// Debian has both where only root looks.
			if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
				return fmt.Errorf("%s: %w: apt-get install nginx haproxy", program, errMissing)
			}
		}
		template, err := testdata.ReadFile("testdata/" + config)
		if err != nil {
			return err
		}
		text := strings.NewReplacer("DIR", b.dir, "LISTEN", s.address, "UPSTREAM", b.upstream,
			"AUTHORIZATION", authorization, "KEY", apiKey).Replace(string(template))
		file := filepath.Join(b.dir, config)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		s.process, err = launch(b.dir, program, path, append(args, file)...)
		return err
	}
}

// request returns what the load sends: a pet, with a history that fills it up to
// a size in bytes.
func request(address string, size int) []byte {
	body := `{"petname": "Gromit", "petstatus": "Sold"`
	if size > 0 {
		body += `, "owner": {"name": "Wallace", "age": 52, "address": {"street": "62 West Wallaby Street", "city": "Wigan"}}, "history": [`
		for i := 0; len(body) < size; i++ {
			if i > 0 {
				body += ", "
			}
			body += fmt.Sprintf(`{"visit": %d, "vet": "Dr. Ada M\u00fcller", "weight": %d.25, "paid": %t, "notes": "checked teeth, ears and paws", "tags": ["dog", "beagle"]}`,
				i, 10+i%5, i%2 == 0)
		}
		body += "]"
	}
	body += "}"
	return []byte("POST " + hookPath + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: " + authorization +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}
