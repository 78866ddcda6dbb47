// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// edited returns a program that answers with a status, and its revision.
func edited(t *testing.T, name, secret string, status int) (*program.Program, string) {
	t.Helper()
	p := testProgram(name, secret)
	p.Response.Status = status
	revision, err := p.Revision()
	if err != nil {
		t.Fatal(err)
	}
	return p, revision
}

func TestEarlierRevisionIsKeptWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	first, one := edited(t, "a", "old-value", 201)
	put(t, controller, first)
	g.Expect(gateway.Revisions().List(t.Context(), first.Key)).To(BeEmpty(), "it is no earlier one yet")

	second, _ := edited(t, "a", "new-value", 202)
	put(t, controller, second)

	g.Expect(gateway.Revisions().List(t.Context(), first.Key)).To(Equal([]string{one}))
	got, err := gateway.Revisions().Get(t.Context(), second, one)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Response.Status).To(Equal(201))
	g.Expect(got.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte("new-value")), "what was revoked is not used")
	key := "shop.a." + one
	stored, err := gateway.lastMessage(t.Context(), streamName(bucketRevisions), subjectPrefix(bucketRevisions)+key)
	g.Expect(err).NotTo(HaveOccurred())
	plain, err := gateway.sealer.openFor(bucketRevisions, key, stored.Data)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = program.Decode(plain)
	g.Expect(err).To(MatchError(ContainSubstring("secret is not loaded")))

	// A secret that the Flow has no more is not got elsewhere.
	_, err = gateway.Revisions().Get(t.Context(), &program.Program{Key: first.Key}, one)
	g.Expect(err).To(And(MatchError(ErrRevision), MatchError(ContainSubstring("secret is not loaded"))))
	_, err = gateway.Revisions().Get(t.Context(), second, "0123456789abcdef")
	g.Expect(err).To(MatchError(ErrNotFound))
	_, err = gateway.Revisions().Get(t.Context(), second, "*")
	g.Expect(err).To(MatchError(ContainSubstring("is not up to 64 letters and digits")))
}

func TestWhatIsNoEarlierRevisionIsNotKept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	p := testProgram("a", "one")
	put(t, controller, p)
	put(t, controller, testProgram("a", "two")) // Rotated.
	unavailable := testProgram("a", "two")
	unavailable.Unavailable = "Secret api is missing"
	put(t, controller, unavailable)
	back := testProgram("a", "two")
	put(t, controller, back)

	_, one := edited(t, "a", "one", 200)
	g.Expect(gateway.Revisions().List(t.Context(), p.Key)).To(Equal([]string{one}))
}

func TestLastTenRevisionsOfAFlowAreKept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	other, otherRevision := edited(t, "b", "x", 200)
	put(t, controller, other)
	next, _ := edited(t, "b", "x", 201)
	put(t, controller, next)
	var all []string
	for status := 200; status < 200+keptRevisions+4; status++ {
		p, revision := edited(t, "a", "x", status)
		put(t, controller, p)
		all = append([]string{revision}, all...)
	}
	g.Expect(gateway.Revisions().List(t.Context(), testProgram("a", "x").Key)).To(Equal(all[1 : 1+keptRevisions]))

	// One that comes back and is replaced again is the newest.
	again, revision := edited(t, "a", "x", 210)
	put(t, controller, again)
	last, _ := edited(t, "a", "x", 299)
	put(t, controller, last)
	kept, err := gateway.Revisions().List(t.Context(), again.Key)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(kept).To(HaveLen(keptRevisions))
	g.Expect(kept[0]).To(Equal(revision))

	g.Expect(controller.Programs().Delete(t.Context(), again.Key)).To(Succeed())
	g.Expect(gateway.Revisions().List(t.Context(), again.Key)).To(BeEmpty())
	g.Expect(gateway.Revisions().List(t.Context(), other.Key)).To(Equal([]string{otherRevision}))
}

// A program is put even if the one before cannot be kept.
func TestProgramIsPutWithoutABucketOfRevisions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	g.Expect(controller.js.DeleteStream(t.Context(), streamName(bucketRevisions))).To(Succeed())
	p, _ := edited(t, "a", "x", 200)
	put(t, controller, p)
	next, _ := edited(t, "a", "x", 201)
	put(t, controller, next)
	got, _, err := gateway.Programs().Get(t.Context(), p.Key)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Response.Status).To(Equal(201))
	_, err = gateway.Revisions().List(t.Context(), p.Key)
	g.Expect(err).To(MatchError(ErrNoBucket))
	g.Expect(controller.Programs().Delete(t.Context(), p.Key)).To(Succeed())
}

func TestForgedRevisionIsNotUsed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	p, one := edited(t, "a", "x", 200)
	put(t, controller, p)
	next, two := edited(t, "a", "x", 201)
	put(t, controller, next)
	genuine, err := gateway.lastMessage(t.Context(), streamName(bucketRevisions), subjectPrefix(bucketRevisions)+"shop.a."+one)
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(denied(t, gateway, func(ctx context.Context) error {
		return gateway.put(ctx, bucketRevisions, "shop.a."+two, genuine.Data, maxProgramSize)
	})).To(MatchError(nats.ErrPermissionViolation))

	// Somebody has got around that.
	plain, err := program.Archive(next)
	g.Expect(err).NotTo(HaveOccurred())
	for name, forged := range map[string]struct {
		revision string
		data     []byte
		header   nats.Header
	}{
		"without a signature":          {one, gateway.sealer.sealFor(bucketRevisions, "shop.a."+one, plain), nil},
		"with another's signature":     {one, gateway.sealer.sealFor(bucketRevisions, "shop.a."+one, plain), genuine.Header},
		"under another name":           {two, genuine.Data, genuine.Header},
		"what is a program, elsewhere": {two, stolen(t, gateway, "a").Data, stolen(t, gateway, "a").Header},
	} {
		msg := &nats.Msg{Subject: subjectPrefix(bucketRevisions) + "shop.a." + forged.revision, Data: forged.data, Header: nats.Header{}}
		if text := forged.header.Get(headerSignature); text != "" {
			msg.Header.Set(headerSignature, text)
		}
		_, err := controller.js.PublishMsg(t.Context(), msg)
		g.Expect(err).NotTo(HaveOccurred())
		_, err = gateway.Revisions().Get(t.Context(), p, forged.revision)
		g.Expect(err).To(And(MatchError(ErrRevision), MatchError(ErrNotSigned)), name)
	}
}

// What is kept from before there was a revision in it is read.
func TestLettersOfTheVersionBeforeAreRead(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	e := testEntry("orders", "a")
	b := appendTime(appendText([]byte{1}, "poison"), e.Accepted)
	b = appendEntry(b, &e)
	_, err := gateway.js.Publish(t.Context(), e.letter(), gateway.sealer.sealFor(streamDead, e.letter(), b))
	g.Expect(err).NotTo(HaveOccurred())
	l, err := gateway.Dead().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(l).To(Equal(Letter{Entry: e, Reason: "poison", Time: e.Accepted}))
}
