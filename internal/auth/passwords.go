// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	// rememberFor is how long a password that was right is known without another
	// check, counted from its last use.
	rememberFor = 30 * time.Minute
	// maxRemembered bounds the passwords that are known.
	maxRemembered = 8192
	// failureBurst is how many wrong passwords an address may send to a scope at
	// once, and failureInterval is the time after which it may send another.
	failureBurst    = 10
	failureInterval = 10 * time.Second
	// maxOffenders bounds the addresses whose failures are counted.
	maxOffenders = 8192
	// waitersPerCheck bounds how many checks wait for each one that runs.
	waitersPerCheck = 16
)

// PasswordOptions configure [NewPasswords].
type PasswordOptions struct {
	// Concurrency is how many checks run at once. Default: half of the CPUs that
	// Go uses, at least one.
	Concurrency int
}

// Passwords checks passwords against bcrypt hashes, which is slow on purpose, for
// all verifiers of a process, so that guessing takes no more of it than is set
// aside:
//
//   - at most Concurrency checks run at once, and a bounded number waits;
//   - a password that was right is remembered, by a keyed digest that changes with
//     the hash, and is not checked again while it is used;
//   - an address that has sent too many wrong passwords to a scope, which is the
//     flow, has to wait; what it sends meanwhile is checked only if it is
//     remembered to be right.
//
// An unknown user costs what a wrong password costs. It is safe for concurrent
// use, and the only thing in this package that is not immutable.
type Passwords struct {
	// key makes digests worthless outside of this process.
	key   [sha256.Size]byte
	slots chan struct{}
	// waiting counts those in line and those whose check runs.
	waiting atomic.Int64
	limit   int64

	mu sync.Mutex
	// right holds the time of the last use of passwords that were right.
	right recent[[sha256.Size]byte]
	// wrong holds the times at which addresses may send as much as ever.
	wrong recent[offender]

	// compare is bcrypt but in tests.
	compare func(hash, password []byte) error
}

// offender is who sent a wrong password, and to which scope.
type offender struct {
	scope   string
	network netip.Prefix
}

// NewPasswords returns a Passwords that knows nothing yet.
func NewPasswords(o PasswordOptions) *Passwords {
	if o.Concurrency <= 0 {
		o.Concurrency = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	p := &Passwords{
		slots:   make(chan struct{}, o.Concurrency),
		limit:   int64(o.Concurrency) * (1 + waitersPerCheck),
		right:   recent[[sha256.Size]byte]{limit: maxRemembered},
		wrong:   recent[offender]{limit: maxOffenders},
		compare: bcrypt.CompareHashAndPassword,
	}
	_, _ = rand.Read(p.key[:]) // it never fails
	return p
}

// check compares a password with a hash; known is false for the hash of somebody
// else, against which nothing is right.
func (p *Passwords) check(in *Inbound, scope string, user, password []byte, hash Secret, known bool) error {
	digest := p.digest(user, password, hash)
	who := offender{scope: scope, network: network(in.Address)}
	if known && p.remembers(digest, in.Time) {
		return nil
	}
	if wait := p.charge(who, in.Time); wait > 0 {
		return &Failure{Reason: Throttled, RetryAfter: wait}
	}
	switch right, reason := p.compareSlowly(in, hash, password); {
	case reason != "":
		// Nothing was found out, so nothing is held against the caller.
		p.refund(who)
		return &Failure{Reason: reason, RetryAfter: time.Second}
	case !right || !known:
		return &Failure{Reason: Mismatch}
	}
	p.refund(who)
	p.remember(digest, in.Time)
	return nil
}

// compareSlowly waits for its turn and compares. A reason says that it did not
// come to that.
func (p *Passwords) compareSlowly(in *Inbound, hash Secret, password []byte) (right bool, reason Reason) {
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.limit {
		return false, Overloaded
	}
	select {
	case p.slots <- struct{}{}:
	case <-in.Done:
		return false, Overloaded
	}
	defer func() { <-p.slots }()
	return p.compare([]byte(hash.reveal()), password) == nil, ""
}

// digest stands for a user, the password and the hash. Each field has its length
// in front, so that no two triples are the same text.
func (p *Passwords) digest(user, password []byte, hash Secret) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	for _, field := range [][]byte{user, password, []byte(hash.reveal())} {
		mac.Write(strconv.AppendInt(nil, int64(len(field)), 10))
		mac.Write([]byte{':'})
		mac.Write(field)
	}
	mac.Sum(sum[:0])
	return sum
}

func (p *Passwords) remembers(digest [sha256.Size]byte, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	used, ok := p.right.get(digest)
	if !ok || now.Sub(used) > rememberFor {
		return false
	}
	p.right.put(digest, now)
	return true
}

func (p *Passwords) remember(digest [sha256.Size]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.right.put(digest, now)
}

// charge counts a failure before it is one, so that many at once are not let
// through; wait is how long the address has to wait if it has had too many. The
// time that is kept is the one at which nothing is held against it any more.
func (p *Passwords) charge(who offender, now time.Time) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	settled, ok := p.wrong.get(who)
	if !ok || settled.Before(now) {
		settled = now
	}
	settled = settled.Add(failureInterval)
	if wait = settled.Sub(now) - failureBurst*failureInterval; wait > 0 {
		return wait
	}
	p.wrong.put(who, settled)
	return 0
}

// refund takes a charge back.
func (p *Passwords) refund(who offender) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if settled, ok := p.wrong.get(who); ok {
		p.wrong.put(who, settled.Add(-failureInterval))
	}
}

// network is what one party is taken to have: an IPv4 address, or the /64 that
// an IPv6 subscriber gets.
func network(address netip.Addr) netip.Prefix {
	bits := 64
	if address.Is4() {
		bits = 32
	}
	prefix, _ := address.Prefix(bits) // the zero one for no address
	return prefix
}

// recent holds times by key, of which the ones that were put in least recently
// make room. The zero value with a limit is empty.
type recent[K comparable] struct {
	limit   int
	entries map[K]*list.Element
	// order holds *timed[K], the one that was put in last in front.
	order list.List
}

type timed[K comparable] struct {
	key K
	at  time.Time
}

func (r *recent[K]) get(key K) (time.Time, bool) {
	element, ok := r.entries[key]
	if !ok {
		return time.Time{}, false
	}
	entry, _ := element.Value.(*timed[K]) // it holds nothing else
	return entry.at, true
}

func (r *recent[K]) put(key K, at time.Time) {
	if element, ok := r.entries[key]; ok {
		entry, _ := element.Value.(*timed[K])
		entry.at = at
		r.order.MoveToFront(element)
		return
	}
	if r.entries == nil {
		r.entries = make(map[K]*list.Element)
	}
	if len(r.entries) >= r.limit {
		if oldest, ok := r.order.Remove(r.order.Back()).(*timed[K]); ok {
			delete(r.entries, oldest.key)
		}
	}
	r.entries[key] = r.order.PushFront(&timed[K]{key: key, at: at})
}
