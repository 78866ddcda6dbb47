// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// The bounds of the API, checked again for objects that no API server has seen.
const (
	maxText        = 1024      // characters of description and note
	maxTemplate    = 16 * 1024 // characters of a template
	maxIdentifier  = 63        // characters of a name that expressions use
	maxObjectName  = 253       // characters of the name of an object or a key
	maxValues      = 64
	maxSteps       = 64
	maxFields      = 64  // headers or members of set
	maxFormFields  = 128 // form fields or query parameters
	maxParts       = 64  // of a multipart body
	maxFieldName   = 256
	maxCredentials = 16
	maxRules       = 16
	maxPath        = 512
	maxContentType = 256
	maxKeys        = 8  // keys of a Credential, all valid at once
	maxHosts       = 64 // entries of allowedHosts
	maxKeyName     = 256
	maxKeyPrefix   = 64

	// A gateway neither calls longer URLs nor sends longer headers, in bytes.
	maxURLBytes         = 16 << 10
	maxHeaderValueBytes = 32 << 10

	// maxTimeout bounds a step, and a run while its caller waits.
	maxTimeout = 10 * time.Minute
)

var (
	identifierPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	durationPattern   = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)
	keyPattern        = regexp.MustCompile(`^[-._a-zA-Z0-9]+$`)
)

// path is the place of a field in an object, as users write it.
type path string

func (p path) field(name string) path { return p + path("."+name) }

func (p path) index(i int) path { return p + path("["+strconv.Itoa(i)+"]") }

// key is the place of a member of a map with names that users choose.
func (p path) key(name string) path {
	if identifierPattern.MatchString(name) {
		return p.field(name)
	}
	return p + path("["+strconv.Quote(name)+"]")
}

// option is a field that may be set to something that this version does not
// implement.
type option struct {
	name string
	set  bool
}

// refuse records each field that is set.
func (c *collector) refuse(at path, options ...option) {
	for _, o := range options {
		if o.set {
			c.unsupported(at.field(o.name))
		}
	}
}

// oneOf records when value is not among the allowed ones. The empty value stands
// for the default.
func oneOf[T ~string](c *collector, at path, value T, allowed ...T) {
	if value == "" || slices.Contains(allowed, value) {
		return
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	c.invalid(at, "must be one of "+strings.Join(names, ", "))
}

func (c *collector) maxLength(at path, value string, limit int) {
	if utf8.RuneCountInString(value) > limit {
		c.invalid(at, fmt.Sprintf("must have at most %d characters", limit))
	}
}

func (c *collector) maxItems(at path, n, limit int) {
	if n > limit {
		c.invalid(at, fmt.Sprintf("must have at most %d entries", limit))
	}
}

func (c *collector) between(at path, value, low, high int32) {
	if value < low || value > high {
		c.invalid(at, fmt.Sprintf("must be from %d to %d", low, high))
	}
}

// identifier checks a name that expressions use, and that it is not taken.
func (c *collector) identifier(at path, name string, taken map[string]bool) bool {
	switch {
	case name == "":
		c.invalid(at, "must not be empty")
	case utf8.RuneCountInString(name) > maxIdentifier || !identifierPattern.MatchString(name):
		c.invalid(at, fmt.Sprintf("must be letters, digits and underscores, not begin with a digit, and have at most %d characters", maxIdentifier))
	case taken[name]:
		c.invalid(at, "is taken: names must be unique")
	default:
		taken[name] = true
		return true
	}
	return false
}

// objectName checks the name of an object that is referred to.
func (c *collector) objectName(at path, name string) bool {
	if name == "" || len(name) > maxObjectName || strings.Contains(name, "/") {
		c.invalid(at, "must be the name of an object")
		return false
	}
	return true
}

func (c *collector) dataKey(at path, key string) bool {
	if len(key) > maxObjectName || !keyPattern.MatchString(key) {
		c.invalid(at, "must be a key: letters, digits, '-', '_' and '.'")
		return false
	}
	return true
}

// duration reads a duration, at most limit; an empty one is the fallback.
func (c *collector) duration(at path, d flowv1alpha1.Duration, fallback, limit time.Duration) program.Duration {
	if d == "" {
		return program.Duration(fallback)
	}
	std, err := d.Std()
	switch {
	case err != nil || !durationPattern.MatchString(string(d)):
		c.invalid(at, "must be a duration such as 500ms, 30s or 1h30m")
	case std <= 0 || std > limit:
		c.invalid(at, "must be greater than 0s and at most "+shortDuration(limit))
	}
	return program.Duration(std)
}

// shortDuration writes 10m0s as 10m and 24h0m0s as 24h.
func shortDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-len("0s")]
		}
	}
	return text
}

// jsonValue checks that value is JSON and returns it in the form in which
// encoding/json writes it, so that a program reads back as it was written.
func (c *collector) jsonValue(at path, value flowv1alpha1.JSON) json.RawMessage {
	raw := value.Raw
	if len(raw) == 0 {
		raw = []byte("null")
	}
	if _, err := expr.DecodeJSON(raw, expr.JSONLimits{}); err != nil {
		c.invalid(at, err.Error())
		return nil
	}
	canonical, err := json.Marshal(json.RawMessage(raw))
	if err != nil {
		c.invalid(at, "is not JSON")
		return nil
	}
	return canonical
}

// headerValue checks the part of a header's value that is known by now.
func (c *collector) headerValue(at path, value string) {
	if !httpguts.ValidHeaderFieldValue(value) {
		c.invalid(at, "has a control character, which a header must not contain")
	}
	if len(value) > maxHeaderValueBytes {
		c.invalid(at, "is longer than 32 KiB")
	}
}
