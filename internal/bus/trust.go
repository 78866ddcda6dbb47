// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// keyPoll is how often a gateway looks whether the key that verifies programs
// has come into the Secret.
const keyPoll = 10 * time.Second

// trust decides whose programs a client takes.
type trust struct {
	// signer is the controller's; nil for a gateway.
	signer ed25519.PrivateKey
	// required verifies programs; nil as long as they need no signature.
	required atomic.Pointer[ed25519.PublicKey]
	// dir is where required may still be found; empty: nowhere.
	dir string
	// poll is keyPoll; tests are in more of a hurry.
	poll time.Duration
}

// set takes what the material says.
func (t *trust) set(role Role, m Material, dir string) error {
	t.poll = keyPoll
	if role == RoleController {
		var err error
		if t.signer, err = programsKey(m.ControllerSeed); err != nil {
			return err
		}
	}
	if m.ProgramsPublic == "" {
		t.dir = dir
		return nil
	}
	return t.require(m.ProgramsPublic)
}

func (t *trust) require(text string) error {
	key, err := parseProgramsPublic(text)
	if err == nil {
		t.required.Store(&key)
	}
	return err
}

// look looks for the key that was missing, and tells whether it is there.
func (t *trust) look() (bool, error) {
	if t.required.Load() != nil {
		return true, nil
	}
	if t.dir == "" {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(t.dir, KeyProgramsPublic))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", KeyProgramsPublic, err)
	}
	if err := t.require(strings.TrimSpace(string(text))); err != nil {
		return false, err
	}
	return true, nil
}

// verify tells whether what is stored at a place is known to be the controller's.
// It returns ErrNotSigned when it is not and must be.
func (t *trust) verify(p place, h nats.Header, value []byte) (signed bool, err error) {
	if key := t.required.Load(); key != nil {
		err := verifySignature(*key, p, h, value)
		return err == nil, err
	}
	if t.signer == nil {
		return false, nil
	}
	key, ok := t.signer.Public().(ed25519.PublicKey)
	return ok && verifySignature(key, p, h, value) == nil, nil
}

// untilRequired returns a context that ends with ctx, and when the key appears
// that was missing.
func (c *Client) untilRequired(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if c.trust.dir == "" {
		return ctx, cancel
	}
	go func() {
		ticker := time.NewTicker(c.trust.poll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			found, err := c.trust.look()
			if err != nil {
				c.log.Error("Cannot use the key that verifies programs", "error", err)
			}
			if found {
				c.log.Info("Programs must be signed by the controller from now on")
				cancel()
				return
			}
		}
	}()
	return ctx, cancel
}
