// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// signed makes the calls of a program carry a key.
func signed(p *program.Program, key string) *program.Program {
	const id = auth.SecretID("secret/pets/store/key")
	p.Credentials["pets/store"] = program.Credential{Spec: auth.Spec{Bearer: &auth.Bearer{Keys: []auth.SecretID{id}}}}
	p.Secrets = auth.Keyring{id: auth.NewSecret([]byte(key))}
	for i := range p.Steps {
		p.Steps[i].HTTP.Credential = "pets/store"
	}
	return p
}

func revisionOf(t *testing.T, p *program.Program) string {
	t.Helper()
	revision, err := p.Revision()
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// A run that failed is replayed with what had failed, after the flow was edited
// and its key rotated.
func TestRunIsReplayedWithAnEarlierRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Header.Get("Authorization") != "Bearer new" {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}
	server := startBus(t)
	controller := connect(t, server, bus.RoleController, "controller")
	r := startWorker(t, server, "gateway-0")
	publish := func(p *program.Program) {
		_, err := controller.Programs().Put(t.Context(), p)
		g.Expect(err).NotTo(HaveOccurred())
		r.serve(t, p)
	}
	first := signed(asyncProgram(u, "intake", "before", "both"), "old")
	publish(first)
	one := revisionOf(t, first)
	var letters []bus.Run
	for range 4 {
		run := bus.Run{Flow: first.Key, ID: r.accept(t, first.Key, "Gromit", "")}
		g.Expect(r.end(t, first.Key, run.ID).State).To(Equal(bus.StateDeadLettered))
		letters = append(letters, run)
	}
	second := signed(asyncProgram(u, "intake", "both", "after"), "new")
	publish(second)

	for n, c := range []struct {
		revision, runs string
		steps          []string
	}{
		{"", revisionOf(t, second), []string{"both", "after"}},
		{RevisionFailed, one, []string{"before", "both"}},
		{one, one, []string{"before", "both"}},
		{revisionOf(t, second), revisionOf(t, second), []string{"both", "after"}},
	} {
		id, err := Replay(t.Context(), r.client, r.intake, letters[n], c.revision)
		g.Expect(err).NotTo(HaveOccurred())
		record := r.end(t, first.Key, id)
		g.Expect(record.State).To(Equal(bus.StateSucceeded), "revision %q: %v", c.revision, record.Failure)
		g.Expect(record.Revision).To(Equal(c.runs))
		var steps []string
		for _, step := range record.Steps {
			steps = append(steps, step.Name)
		}
		g.Expect(steps).To(Equal(c.steps))
	}
}

func TestRunIsNotReplayedWithARevisionThatIsNotKept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusUnprocessableEntity) }
	server := startBus(t)
	controller := connect(t, server, bus.RoleController, "controller")
	r := startWorker(t, server, "gateway-0")
	p := signed(asyncProgram(u, "intake", "one"), "key")
	r.serve(t, p)
	run := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, "Gromit", "")}
	g.Expect(r.end(t, p.Key, run.ID).State).To(Equal(bus.StateDeadLettered))

	_, err := Replay(t.Context(), r.client, r.intake, run, RevisionFailed)
	g.Expect(err).To(And(MatchError(ErrNoRevision), MatchError(ContainSubstring("pets/intake is not served"))))
	for _, step := range []string{"two", "three"} {
		_, err := controller.Programs().Put(t.Context(), signed(asyncProgram(u, "intake", step), "key"))
		g.Expect(err).NotTo(HaveOccurred())
	}
	two, three := revisionOf(t, asyncProgramSigned(u, "two")), revisionOf(t, asyncProgramSigned(u, "three"))
	_, err = Replay(t.Context(), r.client, r.intake, run, RevisionFailed)
	g.Expect(err).To(And(MatchError(ErrNoRevision), MatchError(ContainSubstring(
		"there is no "+revisionOf(t, p)+" of pets/intake any more; it is "+three+" now, and of the earlier ones there are: "+two))))
	// It needs a key that the flow has no more.
	_, err = controller.Programs().Put(t.Context(), asyncProgram(u, "intake", "four"))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = Replay(t.Context(), r.client, r.intake, run, two)
	g.Expect(err).To(And(MatchError(ErrNoRevision), MatchError(ContainSubstring("secret is not loaded"))))
	// Nothing has happened to the letter.
	_, err = r.client.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(u.keys()).To(HaveLen(1))
}

func asyncProgramSigned(u *upstream, step string) *program.Program {
	return signed(asyncProgram(u, "intake", step), "key")
}

// What was there when the replay was accepted may be gone when the run begins:
// then it is a dead letter again, which names its revision.
func TestReplayedRunIsGivenUpWithoutItsRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "one")
	r.serve(t, p)
	request := r.flow(p.Key).Stored(request("Gromit"))
	data, err := EncodeRequest(request)
	g.Expect(err).NotTo(HaveOccurred())
	run := bus.Run{Flow: p.Key, ID: NewID(IDPrefix(p.Key))}
	g.Expect(r.intake.Accept(t.Context(), bus.Entry{Run: run, Attempt: 1, Trigger: "Webhook", Data: data, Revision: "0123456789abcdef"})).To(Succeed())

	record := r.end(t, p.Key, run.ID)
	g.Expect(record.State).To(Equal(bus.StateDeadLettered))
	g.Expect(record.Failure.Message).To(Equal("the revision that the run was to be replayed with cannot be run: it is not kept"))
	g.Expect(record.Revision).To(Equal("0123456789abcdef"))
	letter, err := r.client.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.GivenUpBy).To(Equal("0123456789abcdef"))
	g.Expect(u.keys()).To(BeEmpty())
}
