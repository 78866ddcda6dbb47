// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	. "github.com/onsi/gomega/gstruct"

	"github.com/headgate-io/headgate/internal/bus"
)

// A run that waits for an hour says why, until when, and how far it has come.
func TestRunsShowsWhatARunWaitsFor(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	id := s.order(t, "slow", `{}`)
	var record bus.Record
	g.Eventually(func() *bus.Failure {
		record = s.becomes(t, "slow", id, bus.StateQueued)
		return record.Failure
	}).WithTimeout(patience).ShouldNot(BeNil())
	g.Expect(*record.Failure).To(MatchFields(IgnoreExtras, Fields{
		"RunID": Equal(id), "Step": Equal("book"), "Class": Equal("Upstream5xx"), "Message": Equal("upstream answered 502"),
	}))
	// The hour has some jitter.
	g.Expect(record.Due).To(BeTemporally(">", record.Failure.Time))
	g.Expect(record.Attempts).To(Equal(1))
	g.Expect(record.Started).To(BeTemporally("~", record.Failure.Time, time.Minute))
	g.Expect(record.Steps).To(HaveLen(1))
	g.Expect(record.Steps[0].Name).To(Equal("note"))
	g.Expect(record.Steps[0].State).To(Equal(bus.StateSucceeded))

	_, text, _ := s.runs(t, "get", "shop/slow", id)
	g.Expect(text).To(MatchRegexp(`\nStarted: +\S+Z\nNext attempt: +` + record.Due.UTC().Format(time.RFC3339) +
		`\nLast failure: +book: Upstream5xx: upstream answered 502\n`))
	g.Expect(text).To(MatchRegexp(`\n  note +Succeeded `))
	g.Expect(text).NotTo(ContainSubstring("canary"), "what steps hold is not redacted yet")
}

func TestRunsCancelsWhatWaits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	id := s.order(t, "slow", `{}`)
	// It has been tried once.
	g.Eventually(func() string {
		_, out, _ := s.runs(t, "list", "shop/slow")
		return out
	}).WithTimeout(patience).Should(MatchRegexp(`\n` + id + ` +Queued +Webhook +1 +- +- +book: Upstream5xx: upstream answered 502\n$`))
	status, out, stderr := s.runs(t, "cancel", "shop/slow", id)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(Equal("Canceled shop/slow/" + id + "\n"))
	record := s.becomes(t, "slow", id, bus.StateFailed)
	g.Expect(record.Failure.Message).To(Equal("the run was canceled"))

	status, _, stderr = s.runs(t, "cancel", "shop/slow", id)
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(ContainSubstring("has ended: Failed"))
	status, _, stderr = s.runs(t, "replay", "shop/slow", id)
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(ContainSubstring("is no dead letter: Failed"))
}

// The runs of a Flow that is deleted wait: they are found without its name, and
// ended all at once.
func TestRunsFindsAndCancelsWhatADeletedFlowHasLeft(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	var ids []string
	for range 5 {
		ids = append(ids, s.order(t, "slow", `{}`))
	}
	for _, id := range ids {
		g.Eventually(func() *bus.Failure { return s.becomes(t, "slow", id, bus.StateQueued).Failure }).WithTimeout(patience).ShouldNot(BeNil())
	}
	text, err := os.ReadFile(s.file)
	g.Expect(err).NotTo(HaveOccurred())
	before, _, found := strings.Cut(string(text), "---\napiVersion: headgate.dev/v1alpha1\nkind: Flow\nmetadata: {name: slow")
	g.Expect(found).To(BeTrue())
	g.Expect(os.WriteFile(s.file, []byte(before), 0o600)).To(Succeed())
	s.says(t, s.out, "Stopped shop/slow")

	list := func(args ...string) (found []bus.Record) {
		status, out, stderr := s.runs(t, append([]string{"list", "--pending", "-o", "json"}, args...)...)
		g.Expect(status).To(Equal(0), stderr)
		g.Expect(json.Unmarshal([]byte(out), &found)).To(Succeed())
		return found
	}
	g.Expect(list("-n", "shop")).To(HaveLen(5))
	g.Expect(list("-A")).To(HaveLen(5))
	g.Expect(list("shop/slow")).To(HaveLen(5))
	g.Expect(list("shop/orders")).To(BeEmpty())
	newest := list("-A", "--limit", "1")
	g.Expect(newest).To(HaveLen(1))
	g.Expect(newest[0].Due).NotTo(BeZero())
	status, out, stderr := s.runs(t, "list", "--pending", "-n", "other")
	g.Expect(status).To(Equal(0))
	g.Expect(out).To(BeEmpty())
	g.Expect(stderr).To(Equal("There are no runs that wait or go on\n"))
	_, out, _ = s.runs(t, "list", "--pending", "-n", "shop")
	g.Expect(out).To(MatchRegexp(`^NAMESPACE +FLOW +ID +STATE +TRIGGER +ATTEMPTS +ACCEPTED +NEXT ATTEMPT +LAST FAILURE\n` +
		`(shop +slow +[a-z0-9]+ +Queued +Webhook +1 +\S+Z +\S+Z +book: Upstream5xx: upstream answered 502\n){5}$`))

	status, out, stderr = s.runs(t, "cancel", "shop/slow", "--all-pending", "--until", "1h")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(BeEmpty())
	g.Expect(stderr).To(Equal("There are no such runs\n"))
	status, out, stderr = s.runs(t, "cancel", "shop/slow", "--all-pending", "--since", "1h")
	g.Expect(status).To(Equal(0), stderr)
	var want []string
	for _, id := range ids {
		want = append(want, "Canceled shop/slow/"+id)
	}
	g.Expect(strings.Split(strings.TrimSpace(out), "\n")).To(ConsistOf(want))
	g.Expect(list("-A")).To(BeEmpty())
	for _, id := range ids {
		g.Expect(s.becomes(t, "slow", id, bus.StateFailed).Failure.Message).To(Equal("the run was canceled"))
	}
}
