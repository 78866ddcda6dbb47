// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// paginate is how a call goes on with further pages.
type paginate struct {
	call     *callAction
	next     *expr.Template
	items    *expr.Template
	maxPages int
}

func (l *linker) paginate(field string, call action, p *program.Paginate) (*paginate, error) {
	out := &paginate{maxPages: p.MaxPages}
	var ok bool
	if out.call, ok = call.(*callAction); !ok {
		return nil, fmt.Errorf("%s: only calls have pages", field)
	}
	var err error
	if out.next, err = l.env.Template(p.Next); err != nil {
		return nil, at(field+".next", err)
	}
	if out.items, err = l.env.Template(p.Items); err != nil {
		return nil, at(field+".items", err)
	}
	return out, nil
}

// pages makes a call, and the calls for the pages after it. Each page is a call
// of its own: it is repeated, bounded and judged alone, and its Idempotency-Key
// ends in its number. The step leaves the items of all pages in one list, and the
// status and headers of the last page.
//
// When there are more pages than it may read, the step fails: a list that stops
// somewhere looks like one that is complete. What was read is left all the same,
// for a flow that goes on.
func (r *run) pages(ctx context.Context, s *step, out *exchange) (int, *Error) {
	p := s.paginate
	defer func() { r.page = 0 }()
	tried, list := 0, []any{}
	size := int64(0)
	// Who gets the list counts it.
	defer func() { r.shared.held.Add(-size) }()
	read := map[[sha256.Size]byte]bool{}
	var call *outgoing
	for r.page = 1; ; r.page++ {
		page := &exchange{call: call}
		page.init(s)
		n, failure := r.tries(ctx, s, page)
		tried += n
		out.status, out.header, out.headers, out.call = page.status, page.header, nil, page.call
		if failure != nil {
			return tried, failure
		}
		read[fingerprint(page.call)] = true
		r.ctx = ctx
		items, next, failure := p.read(ctx, r, page)
		if failure != nil {
			return tried, failure
		}
		if failure := r.keep(&list, &size, items); failure != nil {
			return tried, failure
		}
		out.body, out.output = list, list
		switch {
		case next == "":
			return tried, nil
		case r.page >= p.maxPages:
			return tried, failForGood(program.ClassExpression,
				fmt.Sprintf("http.paginate.maxPages: there are more than %d pages", p.maxPages))
		}
		if call, failure = p.follow(r, page.call, next); failure != nil {
			return tried, failure
		}
		if read[fingerprint(call)] {
			return tried, failForGood(program.ClassExpression, "http.paginate.next: leads to a page that was read before")
		}
	}
}

// fingerprint stands for the URL of a page, which may be long.
func fingerprint(call *outgoing) [sha256.Size]byte { return sha256.Sum256([]byte(call.url.String())) }

// read evaluates what a page holds, and which page comes after it.
func (p *paginate) read(ctx context.Context, r *run, page *exchange) (items []any, next string, failure *Error) {
	r.exchange = page
	defer func() { r.exchange = nil }()
	value, err := p.items.Eval(ctx, r)
	var native any
	if err == nil {
		native, err = value.Native()
	}
	if err != nil {
		return nil, "", expressionError(ctx, "http.paginate.items", err)
	}
	items, isList := native.([]any)
	// Some APIs have null for a list without elements.
	if native != nil && !isList {
		return nil, "", fail(program.ClassExpression, "http.paginate.items: is not a list")
	}
	if next, _, err = optionalText(ctx, r, p.next); err != nil {
		return nil, "", expressionError(ctx, "http.paginate.next", err)
	}
	return items, next, nil
}

// keep appends the items of a page, unless there are too many.
func (r *run) keep(list *[]any, size *int64, items []any) *Error {
	if len(*list)+len(items) > maxPagedItems {
		return failForGood(program.ClassExpression,
			fmt.Sprintf("http.paginate: the pages have more than %d items", maxPagedItems))
	}
	more := sizeOf(items)
	if *size += more; *size > maxItemsBytes {
		r.shared.held.Add(more)
		return failForGood(program.ClassExpression,
			fmt.Sprintf("http.paginate: the items of all pages together are larger than %d MiB", maxItemsBytes>>20))
	}
	if failure := r.hold(more); failure != nil {
		return failure
	}
	*list = append(*list, items...)
	return nil
}

// follow returns the call for the next page. An upstream must not be able to have
// what the flow sends it sent to anyone else: another origin has to be among the
// allowedHosts of the credential.
func (p *paginate) follow(r *run, from *outgoing, next string) (*outgoing, *Error) {
	to, err := from.url.Parse(next)
	if err != nil {
		return nil, failForGood(program.ClassExpression, "http.paginate.next: it is not a valid URL")
	}
	target, err := parseURL(to.String())
	if err != nil {
		return nil, failForGood(program.ClassExpression, "http.paginate.next: "+err.Error())
	}
	call := &outgoing{method: from.method, url: *target, header: maps.Clone(from.header), body: from.body, form: from.form}
	switch {
	case sameOrigin(from, call):
	case from.url.Scheme == "https" && target.Scheme != "https":
		return nil, failForGood(program.ClassNetwork, "http.paginate.next: leads from https to http")
	case p.call.credential == nil || len(p.call.credential.hosts) == 0 || !p.call.credential.hosts.Allows(target):
		return nil, failForGood(program.ClassNetwork,
			"http.paginate.next: leads to another host, which is not among the allowedHosts of a credential")
	}
	if own := r.idempotencyKey(p.call.step); from.header.Get(headerIdempotencyKey) == own {
		r.page++
		call.header[headerIdempotencyKey] = []string{r.idempotencyKey(p.call.step)}
		r.page--
	}
	return call, nil
}
