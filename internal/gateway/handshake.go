// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

const (
	headerRequestOrigin = "Webhook-Request-Origin"
	headerRequestRate   = "Webhook-Request-Rate"

	contentTypeText = "text/plain; charset=utf-8"

	// maxChallenge bounds what is sent back to somebody who sent it. The longest
	// that is known of are the tokens of Microsoft Graph.
	maxChallenge = 2048
)

// greet answers the handshakes that senders make without credentials: they prove
// that whoever owns the URL wants to be called, and nothing else. It reports true
// if it has answered. The methods of the flow are about what comes after.
//
//   - WebSub (W3C Recommendation, section 5.3), also as Meta sends it;
//   - Microsoft Graph change notifications ("notificationUrl validation");
//   - CloudEvents HTTP 1.1 Web Hooks (section 4, "Abuse Protection").
func (h *handler) greet(x *exchange) bool {
	hook := x.route.program.Webhook
	if hook.Handshake == nil {
		return false
	}
	switch hook.Handshake.Preset {
	case program.HandshakeWebSub:
		mode, _ := only(x.query["hub.mode"])
		if x.r.Method != http.MethodGet || mode != "subscribe" && mode != "unsubscribe" {
			return false
		}
		return h.sendBack(x, x.query["hub.challenge"])
	case program.HandshakeMicrosoftGraph:
		if x.r.Method != http.MethodPost {
			return false
		}
		return h.sendBack(x, x.query["validationToken"])
	case program.HandshakeCloudEvents:
		origin, ok := only(x.r.Header[headerRequestOrigin])
		if x.r.Method != http.MethodOptions || !ok || !isHost(origin) {
			return false
		}
		header := x.w.Header()
		header.Set("Allow", x.route.allow)
		header.Set("Webhook-Allowed-Origin", origin)
		if len(x.r.Header[headerRequestRate]) > 0 {
			header.Set("Webhook-Allowed-Rate", allowedRate(hook.RateLimit))
		}
		h.shakeHands(x, nil)
		return true
	default:
		return false
	}
}

// allowedRate is in requests per minute. A limit with a key is not that of one
// sender.
func allowedRate(l *program.RateLimit) string {
	if l == nil || l.Key != "" {
		return "*"
	}
	perMinute := int64(float64(l.Requests) * float64(time.Minute) / float64(l.Per))
	return strconv.FormatInt(max(perMinute, 1), 10)
}

// greetKnown answers the handshakes of senders who prove who they are: Slack signs
// its url_verification as it signs events, and what a flow has written out itself
// is for those it knows. It reports true if it has answered, or refused.
func (h *handler) greetKnown(ctx context.Context, x *exchange) bool {
	switch s := x.route.program.Webhook.Handshake; {
	case s == nil:
		return false
	case s.Preset == program.HandshakeSlack:
		fields, _ := runner.Plain(x.body).(map[string]any)
		challenge, _ := fields["challenge"].(string)
		return fields["type"] == "url_verification" && h.sendBack(x, []string{challenge})
	case s.Preset != "":
		return false
	}
	answer, failure := x.route.flow.Handshake(ctx, h.request(x))
	switch {
	case failure != nil:
		h.refuse(x, x.undecided(failure))
	case answer == nil:
		return false
	case len(answer.Body) > maxChallenge:
		h.refuse(x, new(problemUndecided.because("the answer to the handshake would be too long")))
	default:
		h.metrics.stopped(stoppedByGreeting)
		h.answer(x, answer)
	}
	return true
}

// sendBack answers with what the sender wants to see again. That is text and
// nothing that anybody could take for a page, and short.
func (h *handler) sendBack(x *exchange, challenge []string) bool {
	if len(challenge) != 1 || challenge[0] == "" || len(challenge[0]) > maxChallenge || !isLine(challenge[0]) {
		return false
	}
	h.shakeHands(x, []byte(challenge[0]))
	return true
}

// isLine tells whether a text is printable and fits into a line.
func isLine(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (h *handler) shakeHands(x *exchange, body []byte) {
	h.metrics.stopped(stoppedByGreeting)
	header := x.w.Header()
	header.Set("Content-Type", contentTypeText)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if hasBody(x.r) && x.raw == nil {
		header.Set("Connection", "close")
	}
	x.status = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	if _, err := x.w.Write(body); err != nil {
		h.log.Debug("An answer could not be written", "error", err)
	}
}
