// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"github.com/nats-io/nats-server/v2/server"
)

// Role is the user that a Client connects as.
type Role string

const (
	// RoleController may do everything with the buckets.
	RoleController Role = "controller"
	// RoleGateway reads programs and writes heartbeats and reports.
	RoleGateway Role = "gateway"
)

// inboxPrefix is where the server sends replies for a role. Each role has its
// own, so that one cannot listen to the answers that the other gets.
func (r Role) inboxPrefix() string { return "_INBOX_" + string(r) }

const jsAPI = "$JS.API."

// users returns the users of the embedded server. What is not listed is denied.
func users(m Material) []*server.NkeyUser {
	return []*server.NkeyUser{
		{Nkey: m.ControllerPublic, Permissions: permissions(RoleController, controllerSubjects())},
		{Nkey: m.GatewayPublic, Permissions: permissions(RoleGateway, gatewaySubjects())},
	}
}

func permissions(r Role, publish []string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: []string{r.inboxPrefix() + ".>"}},
	}
}

func controllerSubjects() []string {
	subjects := []string{jsAPI + "INFO"}
	for _, b := range buckets {
		s := streamName(b)
		subjects = append(subjects,
			jsAPI+"STREAM.*."+s, // CREATE, UPDATE, INFO, PURGE, DELETE
			jsAPI+"STREAM.MSG.GET."+s,
			jsAPI+"CONSUMER.*."+s+".>", // CREATE, INFO, DELETE
			jsAPI+"CONSUMER.MSG.NEXT."+s+".>",
			subjectPrefix(b)+">",
		)
	}
	return subjects
}

// gatewaySubjects gives a gateway a view of programs and a pen for its own
// heartbeats and reports. It has no consumer on the other two buckets: their
// messages could be delivered to any subject, and so be made to look like
// somebody else's.
func gatewaySubjects() []string {
	programs := streamName(bucketPrograms)
	return []string{
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
}
