// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// Role is the user that a Client connects as.
type Role string

const (
	// RoleController may do everything with the streams and buckets.
	RoleController Role = "controller"
	// RoleGateway reads programs, writes heartbeats and reports, and does
	// everything with runs but make and remove their streams.
	RoleGateway Role = "gateway"
)

// inboxPrefix is where the server sends replies for a role. Each role has its
// own, so that one cannot listen to the answers that the other gets.
func (r Role) inboxPrefix() string { return "_INBOX_" + string(r) }

const jsAPI = "$JS.API."

// users returns the users of the embedded server. What is not listed is denied.
func users(m Material) []*server.NkeyUser {
	return []*server.NkeyUser{
		{Nkey: m.ControllerPublic, Permissions: permissions(RoleController, controllerSubjects(), []string{subjectAnswer + "*"})},
		{Nkey: m.GatewayPublic, Permissions: permissions(RoleGateway, gatewaySubjects(), signalSubjects())},
	}
}

// permissions of a role: what it may publish, and what it may hear beside the
// replies that it gets. There is no right to answer whoever asks: one could ask
// oneself, for an answer at any subject.
func permissions(r Role, publish, hear []string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: append([]string{r.inboxPrefix() + ".>"}, hear...)},
	}
}

func controllerSubjects() []string {
	subjects := []string{jsAPI + "INFO"}
	for _, s := range allStreams() {
		subjects = append(subjects,
			jsAPI+"STREAM.*."+s, // CREATE, UPDATE, INFO, PURGE, DELETE
			jsAPI+"STREAM.MSG.GET."+s,
			jsAPI+"CONSUMER.*."+s+".>", // CREATE, INFO, DELETE
			jsAPI+"CONSUMER.MSG.NEXT."+s+".>",
			streamSubjects(s),
		)
	}
	return append(subjects, signalSubjects()...)
}

// streamSubjects returns the pattern of the subjects that a stream stores.
func streamSubjects(stream string) string {
	if bucket, ok := strings.CutPrefix(stream, streamName("")); ok {
		return subjectPrefix(bucket) + ">"
	}
	return strings.ToLower(stream) + ".>"
}

// gatewaySubjects gives a gateway a view of programs and their earlier revisions,
// and a pen for its own heartbeats and reports; the streams of runs it reads, writes and purges: they
// are the gateways' own. It can neither make nor change nor remove a stream. It
// answers other gateways.
//
// The server sends answers to whatever subject a request names. What a consumer
// delivers keeps the subject it was stored under, so it is no program wherever it
// gets; the answers of the API can take the place of one, and are no program
// either, since they are not signed.
func gatewaySubjects() []string {
	programs := streamName(bucketPrograms)
	subjects := []string{
		jsAPI + "INFO",
		jsAPI + "STREAM.INFO." + programs,
		jsAPI + "STREAM.MSG.GET." + programs,
		jsAPI + "CONSUMER.CREATE." + programs + ".>",
		jsAPI + "CONSUMER.INFO." + programs + ".>",
		jsAPI + "CONSUMER.MSG.NEXT." + programs + ".>",

		jsAPI + "STREAM.INFO." + streamName(bucketGateways),
		subjectPrefix(bucketGateways) + ">",

		jsAPI + "STREAM.INFO." + streamName(bucketReports),
		jsAPI + "STREAM.MSG.GET." + streamName(bucketReports),
		subjectPrefix(bucketReports) + ">",
	}
	revisions := streamName(bucketRevisions)
	for _, s := range allRunStreams() {
		subjects = append(subjects, jsAPI+"STREAM.INFO."+s, jsAPI+"STREAM.MSG.GET."+s)
		if s != revisions {
			subjects = append(subjects, streamSubjects(s))
		}
	}
	// Purged in bulk, and followed from one end to the other.
	for _, s := range runStreams {
		subjects = append(subjects, jsAPI+"STREAM.PURGE."+s)
	}
	for _, s := range append([]string{streamName(bucketLeases), revisions}, runStreams...) {
		subjects = append(subjects,
			jsAPI+"CONSUMER.CREATE."+s+".>",
			jsAPI+"CONSUMER.INFO."+s+".>",
			jsAPI+"CONSUMER.DELETE."+s+".>",
			jsAPI+"CONSUMER.MSG.NEXT."+s+".>",
		)
	}
	return append(subjects, signalSubjects()...)
}
