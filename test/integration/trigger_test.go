// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/test/upstream"
)

// A launch from outside: POST brings the data along, in any of three forms, and
// GET makes the Flow fetch it; each leads to the same call. One Flow wants a
// token, the other one admits anyone because a Credential says so.
func TestExternalTriggerSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := upstream.NewPetstore("red-leicester-12")
	shared.applySample(t, "external-trigger", "127.0.0.1:18093", serve(t, store).URL)
	token := shared.waitReady(t, "triggers", "launch").Status.URL
	open := shared.waitReady(t, "triggers", "launch-open").Status.URL

	const authorization = "Bearer cracking-contraption-5"
	want := []upstream.Pet{}
	for _, launch := range []call{
		{url: token, method: http.MethodPost, header: map[string]string{"Authorization": authorization}, body: `{"name":"Gromit","status":"Sold"}`},
		{url: token, method: http.MethodPost, header: map[string]string{
			"Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded",
		}, body: "name=Gromit&status=Sold"},
		{url: token, method: http.MethodPost, header: map[string]string{
			"Authorization": authorization, "Content-Type": "application/xml",
		}, body: "<pet><name>Gromit</name><status>Sold</status></pet>"},
		{url: token, method: http.MethodGet, header: map[string]string{"Authorization": authorization}},
		{url: open, method: http.MethodGet},
		{url: open, method: http.MethodPost, header: map[string]string{"Content-Type": "text/xml"}, body: "<pet><name>Gromit</name><status>Sold</status></pet>"},
	} {
		got := launch.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(BeEmpty())
		want = append(want, upstream.Pet{ID: int64(len(want) + 1), Name: "Gromit", Status: "Sold"})
	}
	g.Expect(store.Pets()).To(Equal(want))
	got := call{url: token, method: http.MethodGet}.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusUnauthorized))
	g.Expect(store.Pets()).To(HaveLen(len(want)))
}
