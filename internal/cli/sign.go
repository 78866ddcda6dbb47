// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// call is a request to a webhook under construction. It is what a signer signs.
type call struct {
	method string
	url    *url.URL
	// shown is the URL before it was signed.
	shown  string
	header http.Header
	// body is nil for a call without one.
	body []byte
	// as is the Credential.
	as string
}

var _ auth.MessageTarget = (*call)(nil)

// sign places a Credential into the call. One that admits anyone has nothing to
// place, and of one that has only hashes of passwords the caller has to know one.
func (c *call) sign(credential program.Credential, keys auth.Keyring, user string) error {
	hashed := credential.Basic != nil && credential.Basic.Htpasswd != ""
	switch {
	case hashed && !strings.Contains(user, ":"):
		return errors.New("it has only hashes of passwords: say user:password with --user")
	case !hashed && user != "":
		return errors.New("it has what it needs: --user is for a Credential that has only hashes")
	case hashed:
		return c.SetHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user)))
	case credential.None != nil:
		return nil
	}
	if key := credential.APIKey; key != nil && key.In == auth.InPath {
		c.url.Path += "/" + string(keys[key.Keys[0]].Reveal())
		return nil
	}
	signer, err := auth.NewSigner(credential.Spec, keys)
	if err != nil {
		return err
	}
	return signer.Sign(c)
}

// SetHeader implements [auth.Target].
func (c *call) SetHeader(name, value string) error {
	c.header.Set(name, value)
	return nil
}

// SetQuery implements [auth.Target].
func (c *call) SetQuery(name, value string) error {
	query := c.url.Query()
	query.Set(name, value)
	c.url.RawQuery = query.Encode()
	return nil
}

// SetCookie implements [auth.Target]; there are no other cookies.
func (c *call) SetCookie(name, value string) error {
	c.header.Set("Cookie", name+"="+value)
	return nil
}

// SetBodyField implements [auth.Target].
func (c *call) SetBodyField(name, value string) error {
	if media, _, _ := mime.ParseMediaType(c.header.Get("Content-Type")); media == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(c.body))
		if err != nil {
			return errors.New("the body is not a form")
		}
		form.Set(name, value)
		c.body = []byte(form.Encode())
		return nil
	}
	fields := make(map[string]any)
	if len(c.body) > 0 && json.Unmarshal(c.body, &fields) != nil {
		return errors.New("the body is not a JSON object")
	}
	fields[name] = value
	body, err := json.Marshal(fields)
	if err != nil {
		return errors.New("the body is not a JSON object")
	}
	c.body = body
	c.header.Set("Content-Type", defaultContentType)
	return nil
}

// Message implements [auth.MessageTarget].
func (c *call) Message() auth.Message {
	return auth.Message{
		URL: c.url.String(), ContentType: c.header.Get("Content-Type"), Body: c.body,
		Time: time.Now(), ID: rand.Text(),
	}
}
