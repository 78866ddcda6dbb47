// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/chacha20poly1305"
)

// Keys of the bus Secret.
const (
	// KeyCACert is the certificate that clients trust.
	KeyCACert = "ca.crt"
	// KeyCAKey signs server certificates; only the controller needs it.
	KeyCAKey = "ca.key"
	// KeyTLSCert and KeyTLSKey are the server's certificate and its key.
	KeyTLSCert = "tls.crt"
	KeyTLSKey  = "tls.key"
	// KeyControllerSeed and KeyControllerPublic are the controller's NATS user
	// key; only the controller needs the seed.
	KeyControllerSeed   = "controller.seed"
	KeyControllerPublic = "controller.pub"
	// KeyGatewaySeed and KeyGatewayPublic are the gateways' NATS user key.
	KeyGatewaySeed   = "gateway.seed"
	KeyGatewayPublic = "gateway.pub"
	// KeyProgramsPublic verifies the signatures of programs. The key that signs
	// is derived from the controller's seed. A Secret without it is that of an
	// installation whose programs are not all signed yet.
	KeyProgramsPublic = "programs.pub"
	// KeyStore encrypts the store folder of the embedded server.
	KeyStore = "store.key"
	// KeySealing seals programs, 32 bytes.
	KeySealing = "sealing.key"
)

// Material is what the bus Secret holds: everything random or signed that the
// bus needs. It is generated once per installation by the controller; only the
// server certificate is ever renewed. Formatting or logging a Material shows
// no member of it.
type Material struct {
	// CACert, TLSCert: PEM. CAKey, TLSKey: PEM, PKCS #8.
	CACert, CAKey   []byte
	TLSCert, TLSKey []byte

	// Seeds and public keys are NATS user nkeys in their text form.
	ControllerSeed   []byte
	ControllerPublic string
	GatewaySeed      []byte
	GatewayPublic    string

	// ProgramsPublic is an Ed25519 public key in base64. Empty: programs need no
	// signature yet.
	ProgramsPublic string

	// StoreKey is the passphrase that JetStream derives its keys from.
	StoreKey []byte
	// SealingKey is a key for XChaCha20-Poly1305.
	SealingKey []byte
}

// Format hides the material from every verb of package fmt.
func (Material) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedMaterial) }

// LogValue hides the material from package slog.
func (Material) LogValue() slog.Value { return slog.StringValue(redactedMaterial) }

// MarshalJSON hides the material from encoders; Data is the way to store it.
func (Material) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedMaterial + `"`), nil }

const redactedMaterial = "[bus material redacted]"

const (
	storeKeyBytes = 32
	// minStoreKey refuses a passphrase that somebody typed by hand.
	minStoreKey = 32
)

// Generate makes the material of a new installation: a CA of ten years, a
// server certificate of one year for hosts (DNS names or IP addresses, at least
// one), two users and two keys.
func Generate(now time.Time, hosts []string) (Material, error) {
	var m Material
	var err error
	if m.CACert, m.CAKey, err = newCA(now); err != nil {
		return Material{}, fmt.Errorf("generate bus material: %s: %w", KeyCACert, err)
	}
	if err := m.issue(now, hosts); err != nil {
		return Material{}, fmt.Errorf("generate bus material: %w", err)
	}
	if m.ControllerSeed, m.ControllerPublic, err = newUser(); err != nil {
		return Material{}, fmt.Errorf("generate bus material: %s: %w", KeyControllerSeed, err)
	}
	if m.GatewaySeed, m.GatewayPublic, err = newUser(); err != nil {
		return Material{}, fmt.Errorf("generate bus material: %s: %w", KeyGatewaySeed, err)
	}
	if m.ProgramsPublic, err = programsPublic(m.ControllerSeed); err != nil {
		return Material{}, fmt.Errorf("generate bus material: %s: %w", KeyProgramsPublic, err)
	}
	store := randomBytes(storeKeyBytes)
	m.StoreKey = []byte(hex.EncodeToString(store))
	m.SealingKey = randomBytes(chacha20poly1305.KeySize)
	return m, nil
}

// randomBytes returns n bytes; crypto/rand.Read never fails (it ends the
// process where the system has no randomness).
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func newUser() (seed []byte, public string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", err
	}
	if seed, err = kp.Seed(); err != nil {
		return nil, "", err
	}
	if public, err = kp.PublicKey(); err != nil {
		return nil, "", err
	}
	return seed, public, nil
}

// Renew issues a new server certificate when two thirds of the life of the
// current one are over, or when hosts are not the ones it names. It reports
// whether it did. Keys, users and the CA never change; a CA that has expired is
// an error.
func (m Material) Renew(now time.Time, hosts []string) (Material, bool, error) {
	due, err := renewalDue(m.TLSCert, now, hosts)
	if err != nil {
		return m, false, fmt.Errorf("renew bus certificate: %s: %w", KeyTLSCert, err)
	}
	if !due {
		return m, false, nil
	}
	if err := m.issue(now, hosts); err != nil {
		return m, false, fmt.Errorf("renew bus certificate: %w", err)
	}
	return m, true, nil
}

// RequireSigned returns m with the key that verifies programs: from then on
// gateways take none without a signature. It needs the controller's seed.
func (m Material) RequireSigned() (Material, error) {
	var err error
	m.ProgramsPublic, err = programsPublic(m.ControllerSeed)
	return m, err
}

// issue replaces the server certificate of m.
func (m *Material) issue(now time.Time, hosts []string) error {
	cert, key, err := newServerCert(now, hosts, m.CACert, m.CAKey)
	if err != nil {
		return fmt.Errorf("%s: %w", KeyTLSCert, err)
	}
	m.TLSCert, m.TLSKey = cert, key
	return nil
}

// Data returns the content of the bus Secret. Members that are empty are left
// out.
func (m Material) Data() map[string][]byte {
	data := make(map[string][]byte)
	for _, f := range m.fields() {
		if v := f.get(); len(v) > 0 {
			data[f.key] = v
		}
	}
	return data
}

// GatewayData returns the part of Data that a gateway needs: without the key of
// the CA and the seed of the controller.
func (m Material) GatewayData() map[string][]byte {
	m.CAKey, m.ControllerSeed = nil, nil
	return m.Data()
}

// field binds a key of the Secret to a member.
type field struct {
	key string
	// controllerOnly members are missing where a gateway reads the Secret.
	controllerOnly bool
	// optional members are missing in the Secret of an earlier version.
	optional bool
	get      func() []byte
	set      func([]byte)
}

func (m *Material) fields() []field {
	raw := func(key string, p *[]byte, controllerOnly bool) field {
		return field{
			key: key, controllerOnly: controllerOnly,
			get: func() []byte { return *p }, set: func(b []byte) { *p = bytes.Clone(b) },
		}
	}
	text := func(key string, p *[]byte, controllerOnly bool) field {
		return field{
			key: key, controllerOnly: controllerOnly,
			get: func() []byte { return *p }, set: func(b []byte) { *p = bytes.Clone(bytes.TrimSpace(b)) },
		}
	}
	public := func(key string, p *string, optional bool) field {
		return field{
			key: key, optional: optional,
			get: func() []byte { return []byte(*p) }, set: func(b []byte) { *p = string(bytes.TrimSpace(b)) },
		}
	}
	return []field{
		raw(KeyCACert, &m.CACert, false),
		raw(KeyCAKey, &m.CAKey, true),
		raw(KeyTLSCert, &m.TLSCert, false),
		raw(KeyTLSKey, &m.TLSKey, false),
		text(KeyControllerSeed, &m.ControllerSeed, true),
		public(KeyControllerPublic, &m.ControllerPublic, false),
		text(KeyGatewaySeed, &m.GatewaySeed, false),
		public(KeyGatewayPublic, &m.GatewayPublic, false),
		public(KeyProgramsPublic, &m.ProgramsPublic, true),
		text(KeyStore, &m.StoreKey, false),
		raw(KeySealing, &m.SealingKey, false),
	}
}

// Parse reads the content of the bus Secret and checks that its members fit
// together. Errors name the key of the Secret, never its value.
func Parse(data map[string][]byte) (Material, error) {
	return parse(data, true)
}

// ParseGateway is Parse for a Secret that may lack what ReadDir may: the result
// is the part that a gateway needs, whatever else is there.
func ParseGateway(data map[string][]byte) (Material, error) {
	m, err := parse(data, false)
	m.CAKey, m.ControllerSeed = nil, nil
	return m, err
}

// ReadDir reads the bus Secret from the folder where it is mounted. The key of
// the CA and the seed of the controller may be missing there: a gateway does
// not need them and should not have them.
func ReadDir(dir string) (Material, error) {
	data := make(map[string][]byte)
	for _, f := range (&Material{}).fields() {
		b, err := os.ReadFile(filepath.Join(dir, f.key)) //nolint:gosec // The folder is an option of the operator, the names are constants.
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Material{}, fmt.Errorf("read bus material: %s: %w", f.key, err)
		}
		data[f.key] = b
	}
	return parse(data, false)
}

func parse(data map[string][]byte, full bool) (Material, error) {
	var m Material
	for _, f := range m.fields() {
		if v := data[f.key]; len(v) > 0 {
			f.set(v)
		}
		if len(f.get()) == 0 && !f.optional && (full || !f.controllerOnly) {
			return Material{}, fmt.Errorf("parse bus material: %s is missing or empty", f.key)
		}
	}
	if err := m.validate(); err != nil {
		return Material{}, fmt.Errorf("parse bus material: %w", err)
	}
	return m, nil
}

func (m *Material) validate() error {
	if err := m.validateCertificates(); err != nil {
		return err
	}
	if err := validateUser(KeyControllerSeed, m.ControllerSeed, KeyControllerPublic, m.ControllerPublic); err != nil {
		return err
	}
	if err := validateUser(KeyGatewaySeed, m.GatewaySeed, KeyGatewayPublic, m.GatewayPublic); err != nil {
		return err
	}
	if m.ControllerPublic == m.GatewayPublic {
		return fmt.Errorf("%s is the same as %s", KeyGatewayPublic, KeyControllerPublic)
	}
	if err := m.validateProgramsKey(); err != nil {
		return err
	}
	if len(m.StoreKey) < minStoreKey {
		return fmt.Errorf("%s has %d bytes, want at least %d", KeyStore, len(m.StoreKey), minStoreKey)
	}
	if len(m.SealingKey) != chacha20poly1305.KeySize {
		return fmt.Errorf("%s has %d bytes, want %d", KeySealing, len(m.SealingKey), chacha20poly1305.KeySize)
	}
	return nil
}

func (m *Material) validateProgramsKey() error {
	if m.ProgramsPublic == "" {
		return nil
	}
	if _, err := parseProgramsPublic(m.ProgramsPublic); err != nil {
		return err
	}
	if len(m.ControllerSeed) == 0 {
		return nil
	}
	if want, err := programsPublic(m.ControllerSeed); err != nil || want != m.ProgramsPublic {
		return fmt.Errorf("%s does not belong to %s", KeyProgramsPublic, KeyControllerSeed)
	}
	return nil
}

// validateUser checks a user's keys. Errors of package nkeys are not wrapped:
// what they say about a bad seed is not promised to be free of it.
func validateUser(seedKey string, seed []byte, publicKey, public string) error {
	if !nkeys.IsValidPublicUserKey(public) {
		return fmt.Errorf("%s is not a public NATS user key", publicKey)
	}
	if len(seed) == 0 {
		return nil
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return fmt.Errorf("%s is not a NATS seed", seedKey)
	}
	defer kp.Wipe()
	if got, err := kp.PublicKey(); err != nil || got != public {
		return fmt.Errorf("%s does not belong to %s", seedKey, publicKey)
	}
	return nil
}
