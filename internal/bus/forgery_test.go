// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// programSubject is where the program of a Flow of the namespace shop is stored.
func programSubject(name string) string { return subjectPrefix(bucketPrograms) + "shop." + name }

// bait stores a message that a captured gateway made up in a stream that it may
// write to, and returns its sequence.
func bait(t *testing.T, captured *Client, n int, data []byte, header nats.Header) uint64 {
	t.Helper()
	msg := &nats.Msg{Subject: subjectQueue + fmt.Sprintf("bait.%d", n), Data: data, Header: header}
	ack, err := captured.js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// pushTo makes the server deliver one message of the queue to a subject.
func pushTo(t *testing.T, captured *Client, seq uint64, subject string) {
	t.Helper()
	name := fmt.Sprintf("push%d", seq)
	request, err := json.Marshal(map[string]any{"stream_name": streamQueue, "config": map[string]any{
		"name": name, "deliver_subject": subject, "ack_policy": "none",
		"deliver_policy": "by_start_sequence", "opt_start_seq": seq, "filter_subject": subjectQueue + "bait.*",
	}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := captured.nc.RequestWithContext(t.Context(), jsAPI+"CONSUMER.CREATE."+streamQueue+"."+name, request)
	if err != nil {
		t.Fatal(err)
	}
	NewWithT(t).Expect(string(answer.Data)).NotTo(ContainSubstring(`"error"`))
}

// pullTo asks for one message of the queue, and for the answer to be sent to a
// subject.
func pullTo(t *testing.T, captured *Client, seq uint64, subject string) {
	t.Helper()
	stream, err := captured.js.Stream(t.Context(), streamQueue)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq,
	})
	if err != nil {
		t.Fatal(err)
	}
	next := jsAPI + "CONSUMER.MSG.NEXT." + streamQueue + "." + consumer.CachedInfo().Name
	if err := captured.nc.PublishRequest(next, subject, []byte("1")); err != nil {
		t.Fatal(err)
	}
}

// answerTo asks oneself, and answers to a subject.
func answerTo(t *testing.T, captured *Client, msg *nats.Msg) {
	t.Helper()
	sub, err := captured.nc.SubscribeSync(subjectOwner + "0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := captured.nc.PublishRequest(sub.Subject, msg.Subject, nil); err != nil {
		t.Fatal(err)
	}
	question, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := question.RespondMsg(msg); err != nil {
		t.Fatal(err)
	}
}

// stolen is the stored form of a program as a gateway may read it.
func stolen(t *testing.T, captured *Client, name string) *jetstream.RawStreamMsg {
	t.Helper()
	msg, err := captured.lastMessage(t.Context(), streamName(bucketPrograms), programSubject(name))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// forgeries are what somebody can make who has everything that a gateway has, by
// what they are; subjects are those of Flows.
func forgeries(t *testing.T, captured *Client, old *jetstream.RawStreamMsg) map[string]*nats.Msg {
	t.Helper()
	plain, err := program.Encode(testProgram("a", "forged"))
	if err != nil {
		t.Fatal(err)
	}
	forged := captured.sealer.seal("shop.a", plain)
	own := func(deleted bool, value []byte) nats.Header {
		// Signed with the one key that a gateway has, for the place that is next.
		key, err := programsKey(installation().GatewaySeed)
		if err != nil {
			t.Fatal(err)
		}
		info, err := captured.streamInfo(t.Context(), streamName(bucketPrograms))
		if err != nil {
			t.Fatal(err)
		}
		return nats.Header{headerSignature: {signature(key, place{incarnationOf(info), info.State.LastSeq + 1, "shop.a"}, deleted, value)}}
	}
	stolen := nats.Header{headerSignature: {old.Header.Get(headerSignature)}}
	ownDeletion := own(true, nil)
	ownDeletion.Set(headerOperation, operationPurge)
	a, b := programSubject("a"), programSubject("b")
	return map[string]*nats.Msg{
		"without a signature":       {Subject: a, Data: forged},
		"with its own signature":    {Subject: a, Data: forged, Header: own(false, forged)},
		"with another's signature":  {Subject: a, Data: forged, Header: stolen},
		"of an unknown version":     {Subject: a, Data: forged, Header: nats.Header{headerSignature: {"2.AAAA"}}},
		"an earlier program":        {Subject: a, Data: old.Data, Header: stolen},
		"a program of another Flow": {Subject: b, Data: old.Data, Header: stolen},
		"a deletion":                {Subject: a, Header: nats.Header{headerOperation: {operationPurge}}},
		"a deletion of its own":     {Subject: a, Header: ownDeletion},
		"an expiry":                 {Subject: a, Header: nats.Header{jetstream.MarkerReasonHeader: {"MaxAge"}}},
	}
}

// A gateway that was captured knows the key that seals. Whatever it gets into the
// bucket, for example as a member of the cluster, is nobody's program.
func TestForgedProgramsAreRefused(t *testing.T) { //nolint:tparallel // What is refused comes in the order in which it was planted.
	t.Parallel()
	s, controller, captured := startBus(t)
	put(t, controller, testProgram("a", "1"))
	old := stolen(t, captured, "a")
	put(t, controller, testProgram("a", "2"))
	seen, _ := follow(t, connect(t, RoleGateway, s).Programs().Watch)
	seen.until(synced)
	own, _ := follow(t, controller.Programs().Watch)
	own.until(synced)

	for name, msg := range forgeries(t, captured, old) {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := controller.js.PublishMsg(t.Context(), msg)
			g.Expect(err).NotTo(HaveOccurred())
			for _, r := range []*recorder[Update]{seen, own} {
				u := r.next()
				g.Expect(subjectPrefix(bucketPrograms) + "shop." + u.Key.Name).To(Equal(msg.Subject))
				g.Expect(u.Err).To(MatchError(ErrNotSigned))
				g.Expect(u.Program).To(BeNil())
				g.Expect(u.Deleted).To(BeFalse())
			}
		})
	}

	// The controller puts things right, and is not hindered.
	g := NewWithT(t)
	put(t, controller, testProgram("a", "2"))
	g.Expect(controller.Programs().Delete(t.Context(), program.Key{Namespace: "shop", Name: "b"})).To(Succeed())
	u := seen.next()
	g.Expect(u.Err).NotTo(HaveOccurred())
	g.Expect(u.Program.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte("2")))
	g.Expect(names([]Update{seen.next()})).To(Equal([]string{"-b"}))
}

// By no way does the server let a gateway, or speak for it, in the place of the
// controller.
func TestCapturedGatewayCannotPlantPrograms(t *testing.T) {
	t.Parallel()
	s, controller, captured := startBus(t)
	put(t, controller, testProgram("a", "1"))
	old := stolen(t, captured, "a")
	put(t, controller, testProgram("a", "2"))
	seen, _ := follow(t, connect(t, RoleGateway, s).Programs().Watch)
	seen.until(synced)

	n := 0
	for _, msg := range forgeries(t, captured, old) {
		if err := captured.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
		answerTo(t, captured, msg)
		for _, deliver := range []func(*testing.T, *Client, uint64, string){pushTo, pullTo} {
			n++
			deliver(t, captured, bait(t, captured, n, msg.Data, msg.Header), msg.Subject)
		}
		n++
		// The message that is wanted is the one that is answered with.
		answered := fmt.Appendf(nil, `{"seq":%d}`, bait(t, captured, n, msg.Data, msg.Header))
		if err := captured.nc.PublishRequest(jsAPI+"STREAM.MSG.GET."+streamQueue, msg.Subject, answered); err != nil {
			t.Fatal(err)
		}
	}
	g := NewWithT(t)
	g.Expect(captured.nc.FlushTimeout(patience)).To(Succeed())
	last := put(t, controller, testProgram("a", "3"))

	updates := seen.until(func(u Update) bool { return u.Revision == last })
	for _, u := range updates[:len(updates)-1] {
		g.Expect(u.Err).To(MatchError(ContainSubstring("it has no signature")), "an answer of the API, and nothing else")
		g.Expect(u.Program).To(BeNil())
		g.Expect(u.Deleted).To(BeFalse())
	}
	g.Expect(updates[len(updates)-1].Err).NotTo(HaveOccurred())
}

// The answers to a gateway's own requests can be sent elsewhere, too.
func TestCapturedGatewayCannotPlantAnswers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, captured := startBus(t)
	put(t, controller, testProgram("a", "1"))
	seen, _ := follow(t, connect(t, RoleGateway, s).Programs().Watch)
	seen.until(synced)
	for _, request := range []struct{ subject, data string }{
		{jsAPI + "STREAM.MSG.GET." + streamName(bucketPrograms), `{"seq":1}`},
		{jsAPI + "STREAM.INFO." + streamName(bucketPrograms), ``},
		{jsAPI + "INFO", ``},
	} {
		g.Expect(captured.nc.PublishRequest(request.subject, programSubject("a"), []byte(request.data))).To(Succeed())
		u := seen.next()
		g.Expect(u.Err).To(MatchError(ErrNotSigned), request.subject)
	}
}

// The API of the server does not listen to what the server itself delivers.
func TestCapturedGatewayCannotReachTheAPIByAnswers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, captured := startBus(t)
	put(t, controller, testProgram("a", "1"))
	before, err := controller.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	for n, subject := range []string{"STREAM.PURGE.", "STREAM.DELETE.", "STREAM.UPDATE."} {
		seq := bait(t, captured, n, nil, nil)
		pullTo(t, captured, seq, jsAPI+subject+streamName(bucketPrograms))
		pushTo(t, captured, seq, jsAPI+subject+streamName(bucketPrograms))
		g.Expect(captured.nc.PublishRequest(jsAPI+"INFO", jsAPI+subject+streamName(bucketPrograms), nil)).To(Succeed())
	}
	// What was asked last is answered last.
	_, err = captured.js.AccountInfo(t.Context())
	g.Expect(err).NotTo(HaveOccurred())

	after, err := controller.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after).To(Equal(before))
	entries, err := controller.Programs().List(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(1))
	g.Expect(entries[program.Key{Namespace: "shop", Name: "a"}].Err).NotTo(HaveOccurred())
}

func TestOnlyTheControllerSigns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	_, err := gateway.Programs().Put(t.Context(), testProgram("a", "1"))
	g.Expect(err).To(MatchError(ContainSubstring("only the controller")))
}

// Signatures name their place, so writers must agree on it.
func TestProgramsAreSignedForTheirPlace(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, one, gateway := startBus(t)
	two := connect(t, RoleController, s)
	g.Expect(two.WaitConnected(t.Context())).To(Succeed())
	for i := range 10 {
		put(t, one, testProgram("a", fmt.Sprint(i)))
		put(t, two, testProgram("b", fmt.Sprint(i)))
	}
	// The bucket is lost, and its successor is as long.
	g.Expect(one.js.DeleteStream(t.Context(), streamName(bucketPrograms))).To(Succeed())
	ensureBuckets(t, one, BucketOptions{HeartbeatTTL: time.Hour})
	for i := range 3 {
		put(t, one, testProgram("a", fmt.Sprint(i)))
		put(t, two, testProgram("b", fmt.Sprint(i)))
	}
	for _, name := range []string{"a", "b"} {
		p, _, err := gateway.Programs().Get(t.Context(), program.Key{Namespace: "shop", Name: name})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(p.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte("2")))
	}
}

// An installation of an earlier version has programs without signatures, and a
// Secret without the key that verifies them.
func TestUnsignedProgramsAreServedUntilTheSecretHasTheKey(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	m := installation()
	m.ProgramsPublic = ""
	earlier := func(o *ClientOptions) { o.Material, o.Dir = m, dir }
	s, _, _ := startBus(t)
	controller := connect(t, RoleController, s, earlier)
	gateway := connect(t, RoleGateway, s, earlier)
	gateway.trust.poll = time.Millisecond
	g.Expect(controller.WaitConnected(t.Context())).To(Succeed())
	plant := func(name string) {
		plain, err := program.Encode(testProgram(name, "1"))
		g.Expect(err).NotTo(HaveOccurred())
		_, err = controller.js.Publish(t.Context(), programSubject(name), controller.sealer.seal("shop."+name, plain))
		g.Expect(err).NotTo(HaveOccurred())
	}
	plant("a")
	plant("evil")

	seen, _ := follow(t, gateway.Programs().Watch)
	g.Expect(names(seen.until(synced))).To(Equal([]string{"a", "evil", "Synced"}))
	own, _ := follow(t, controller.Programs().Watch)
	for _, u := range own.until(synced)[:2] {
		g.Expect(u.Err).NotTo(HaveOccurred())
		g.Expect(u.Unsigned).To(BeTrue())
	}
	g.Expect(put(t, controller, testProgram("a", "1"))).To(Equal(uint64(3)), "the same program is signed")
	u := own.next()
	g.Expect(u.Unsigned).To(BeFalse())
	g.Expect(seen.next().Program).NotTo(BeNil())

	g.Expect(os.WriteFile(filepath.Join(dir, KeyProgramsPublic), []byte(installation().ProgramsPublic+"\n"), 0o600)).To(Succeed())
	again := seen.until(synced)
	g.Expect(names(again)).To(Equal([]string{"Reset", "evil", "a", "Synced"}))
	g.Expect(again[1].Err).To(MatchError(ErrNotSigned))
	g.Expect(again[2].Err).NotTo(HaveOccurred())
}
