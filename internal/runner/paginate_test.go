// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// paged makes a call go on with response.body.next.
func paged(maxPages int) func(*program.HTTP) {
	return func(h *program.HTTP) {
		h.Paginate = &program.Paginate{Next: "${response.body.?next}", Items: "${response.body.?items}", MaxPages: maxPages}
	}
}

// pagesOf serves so many pages of two items each, at ?page=1 and so on.
func pagesOf(t *testing.T, count int, next func(r *http.Request, page int) string) *upstream {
	t.Helper()
	return newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		page = max(page, 1)
		body := map[string]any{"items": []string{fmt.Sprintf("%da", page), fmt.Sprintf("%db", page)}}
		if page < count {
			body["next"] = next(r, page+1)
		} else if count%2 == 0 {
			body["next"] = nil
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Page", strconv.Itoa(page))
		_ = json.NewEncoder(w).Encode(body)
	})
}

func absolute(r *http.Request, page int) string {
	return fmt.Sprintf("http://%s%s?page=%d", r.Host, r.URL.Path, page)
}

func relative(_ *http.Request, page int) string { return fmt.Sprintf("?page=%d", page) }

func TestPaginate(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*http.Request, int) string{"absolute": absolute, "relative": relative} {
		for count := 1; count <= 4; count++ {
			t.Run(fmt.Sprintf("%s, %d pages", name, count), func(t *testing.T) {
				t.Parallel()
				g := NewWithT(t)
				server := pagesOf(t, count, next)
				step := call("list", server.URL+"/pets", paged(4), func(h *program.HTTP) {
					h.Query = []program.NamedTemplate{{Name: "size", Value: "2"}}
					h.Headers = []program.NamedTemplate{{Name: "X-Own", Value: "${request.body.petname}"}}
				})
				p := answering(withCredential(newProgram(step), apiKey(auth.InHeader, "api_key")),
					`["${steps.list.output.size()}", "${steps.list.body == steps.list.output}", "${steps.list.headers['x-page']}", "${steps.list.status}", "${steps.list.output[size(steps.list.output) - 1]}"]`)
				res := runProgram(t, p)
				g.Expect(res.Err).NotTo(HaveOccurred())
				g.Expect(string(res.Answer.Body)).To(Equal(fmt.Sprintf(`[%d,true,"%d",200,"%db"]`, 2*count, count, count)))
				g.Expect(res.Steps[0].Attempts).To(Equal(count))
				g.Expect(server.requests).To(HaveLen(count))
				for i, r := range server.requests {
					g.Expect(r.Header.Get("Idempotency-Key")).To(Equal(fmt.Sprintf("run-1/list/page-%d", i+1)))
					g.Expect(r.Header.Get("X-Own")).To(Equal("Gromit"))
					g.Expect(r.Header.Get("api_key")).To(Equal(canary))
					g.Expect(r.URL.Query().Get("size")).To(Equal(map[bool]string{true: "2"}[i == 0]), "the next URL is the whole of it")
				}
			})
		}
	}
}

// TestPaginateStopsLoudly: a list that is cut looks complete, so that the step
// fails; a flow that goes on has what was read.
func TestPaginateStopsLoudly(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := pagesOf(t, 5, absolute)
	step := call("list", server.URL, paged(2))
	const message = "http.paginate.maxPages: there are more than 2 pages"
	g.Expect(runProgram(t, newProgram(step))).To(haveFailed(program.ClassExpression, message))
	g.Expect(server.count()).To(Equal(2))
	step.Continue = true
	res := runProgram(t, answering(newProgram(step), `["${steps.list.output}", "${steps.list.error.message}"]`))
	g.Expect(string(res.Answer.Body)).To(Equal(`[["1a","1b","2a","2b"],"` + message + `"]`))
}

func TestPaginateRetriesThePage(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	pages := pagesOf(t, 3, absolute)
	failed := map[string]bool{}
	server := newUpstream(t, nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.mu.Lock()
		server.requests = append(server.requests, recorded{Request: r})
		first := !failed[r.URL.RawQuery]
		failed[r.URL.RawQuery] = true
		server.mu.Unlock()
		if first && r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pages.Config.Handler.ServeHTTP(w, r)
	})
	p := answering(newProgram(retried(call("list", server.URL, paged(9)), 2, "5xx")), `"${steps.list.output.size()}"`)
	var waited waits
	res := runProgram(t, p, waited.options)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal("6"))
	g.Expect(res.Steps[0].Attempts).To(Equal(5))
	var keys []string
	for _, r := range server.requests {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
	}
	g.Expect(keys).To(Equal([]string{
		"run-1/list/page-1", "run-1/list/page-2", "run-1/list/page-2", "run-1/list/page-3", "run-1/list/page-3",
	}))
}

func TestPaginateInItems(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := pagesOf(t, 2, absolute)
	p := answering(newProgram(each(call("list", server.URL+"/${item}", paged(9)), `["x", "y"]`, 2, false)),
		`"${steps.list.items.map(i, i.output.size())}"`)
	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`[4,4]`))
	keys := map[string]bool{}
	for _, r := range server.requests {
		keys[r.URL.Path+" "+r.Header.Get("Idempotency-Key")] = true
	}
	g.Expect(keys).To(Equal(map[string]bool{
		"/x run-1/list/0/page-1": true, "/x run-1/list/0/page-2": true, "/y run-1/list/1/page-1": true, "/y run-1/list/1/page-2": true,
	}))
}

func TestPaginateFails(t *testing.T) {
	t.Parallel()
	answer := func(text string) *upstream {
		return newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		})
	}
	other := newUpstream(t, nil)
	key := apiKey(auth.InHeader, "api_key")
	plain := func(p *program.Program, _ *upstream) *program.Program { return p }
	for name, c := range map[string]struct {
		body    string
		edit    func(*program.Program, *upstream) *program.Program
		class   program.Class
		message string
	}{
		"the same page":  {`{"items": [1], "next": "/"}`, plain, program.ClassExpression, "http.paginate.next: leads to a page that was read before"},
		"not a list":     {`{"items": {"a": 1}}`, plain, program.ClassExpression, "http.paginate.items: is not a list"},
		"next is a list": {`{"items": [], "next": []}`, plain, program.ClassExpression, "http.paginate.next: leads to a page that was read before"},
		"not a URL":      {`{"items": [], "next": "http://a b/"}`, plain, program.ClassExpression, "http.paginate.next: it is not a valid URL"},
		"another host":   {`{"items": [], "next": "` + other.URL + `"}`, plain, program.ClassNetwork, "http.paginate.next: leads to another host, which is not among the allowedHosts of a credential"},
		"another scheme": {`{"items": [], "next": "ftp://host/"}`, plain, program.ClassExpression, ""},
		"forbidden":      {`{"items": [], "next": "http://169.254.169.254/"}`, plain, program.ClassNetwork, "http.paginate.next: leads to another host, which is not among the allowedHosts of a credential"},
		"any host is not every host": {`{"items": [], "next": "` + other.URL + `"}`, func(p *program.Program, _ *upstream) *program.Program {
			return withCredential(p, key)
		}, program.ClassNetwork, "http.paginate.next: leads to another host, which is not among the allowedHosts of a credential"},
		"not an allowed host": {`{"items": [], "next": "` + other.URL + `"}`, func(p *program.Program, u *upstream) *program.Program {
			return withCredential(p, key, u.host())
		}, program.ClassNetwork, "http.paginate.next: leads to another host, which is not among the allowedHosts of a credential"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := answer(c.body)
			res := runProgram(t, c.edit(newProgram(call("list", server.URL+"/", paged(9))), server))
			if c.message == "" {
				g.Expect(res.Err).To(HaveOccurred())
				g.Expect(res.Err.Message).To(HavePrefix("http.paginate.next: "))
				return
			}
			g.Expect(res).To(haveFailed(c.class, c.message))
		})
	}
	t.Cleanup(func() {
		if n := other.count(); n != 0 {
			t.Errorf("the other host got %d calls", n)
		}
	})
}

// TestPaginateFollowsToAllowedHosts: a host that the credential names gets it.
func TestPaginateFollowsToAllowedHosts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	second := pagesOf(t, 1, absolute)
	first := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items": null, "next": "`+second.URL+`/more"}`)
	})
	p := withCredential(newProgram(call("list", first.URL, paged(2))), apiKey(auth.InHeader, "api_key"), first.host(), second.host())
	res := runProgram(t, answering(p, `"${steps.list.output}"`))
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`["1a","1b"]`))
	g.Expect(second.only(t).Header.Get("api_key")).To(Equal(canary))
}

func TestPaginateIsBounded(t *testing.T) {
	t.Parallel()
	items := "[" + strings.Repeat("1,", 60_000) + "1]"
	large := `["` + strings.Repeat("x", 7<<20) + `"]`
	for body, message := range map[string]string{
		items: "http.paginate: the pages have more than 100000 items",
		large: "http.paginate: the items of all pages together are larger than 64 MiB",
	} {
		g := NewWithT(t)
		page := 0
		server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			page++
			_, _ = fmt.Fprintf(w, `{"items": %s, "next": "?page=%d"}`, body, page)
		})
		res := runProgram(t, newProgram(call("list", server.URL, paged(50))))
		g.Expect(res).To(haveFailed(program.ClassExpression, message))
	}
	// The timeout of the step is that of a page, that of the run is for all.
	g := NewWithT(t)
	hangs := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	step := call("list", hangs.URL, paged(2))
	step.Timeout = program.Duration(20 * time.Millisecond)
	g.Expect(runProgram(t, newProgram(step))).To(haveFailed(program.ClassTimeout, "the step took longer than its timeout"))
}
