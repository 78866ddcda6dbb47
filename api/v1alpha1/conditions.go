// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types. Accepted, ResolvedRefs, Programmed and Ready are always
// present where a kind has them; Reconciling and Stalled, as kstatus defines
// them, only while they are true.
const (
	// ConditionAccepted says whether the spec is valid.
	//
	// True: Accepted.
	// False: InvalidExpression, InvalidStep, InvalidSpec, RouteConflict, UnsupportedValue.
	// Unknown: Pending.
	ConditionAccepted = "Accepted"

	// ConditionResolvedRefs says whether everything that the spec refers to
	// exists, is valid and may be used.
	//
	// True: ResolvedRefs.
	// False: RefNotPermitted, CredentialNotFound, CredentialNotReady,
	// SecretNotFound, ConfigMapNotFound, KeyNotFound, InvalidSecretData, FlowNotFound.
	// Unknown: Pending.
	ConditionResolvedRefs = "ResolvedRefs"

	// ConditionProgrammed says whether every live gateway replica serves this
	// generation of the Flow.
	//
	// True: Programmed.
	// False: NoGateway, Rejected, PartiallyProgrammed, NotProgrammed.
	// Unknown: Pending.
	ConditionProgrammed = "Programmed"

	// ConditionVerified says whether the probe of a Credential succeeded. It
	// is present only when the Credential has a probe.
	ConditionVerified = "Verified"

	// ConditionReady sums up the other conditions: the reason and message are
	// those of the first one that is not true.
	//
	// True: Ready, Suspended.
	// False and Unknown: the reason of the condition that it stands for.
	ConditionReady = "Ready"

	// ConditionReconciling is true while the controller works towards the
	// current generation.
	ConditionReconciling = "Reconciling"

	// ConditionStalled is true when only an edit by a person can help.
	ConditionStalled = "Stalled"
)

// Condition reasons.
const (
	// ReasonPending: the controller has not come to a conclusion yet.
	ReasonPending = "Pending"

	// ReasonAccepted: the spec is valid.
	ReasonAccepted = "Accepted"
	// ReasonInvalidExpression: an expression does not compile; the message
	// names the field, the offset and the names that are known there.
	ReasonInvalidExpression = "InvalidExpression"
	// ReasonInvalidStep: a step cannot work as written.
	ReasonInvalidStep = "InvalidStep"
	// ReasonInvalidSpec: a field outside the steps holds a value that cannot work.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonRouteConflict: an older Flow of the namespace serves the same path.
	ReasonRouteConflict = "RouteConflict"
	// ReasonUnsupportedValue: the field exists in the API but this version of
	// Headgate does not implement it.
	ReasonUnsupportedValue = "UnsupportedValue"

	// ReasonResolvedRefs: every reference resolves.
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonRefNotPermitted: a reference to another namespace that does not
	// exist or does not permit it; which of the two is not told.
	ReasonRefNotPermitted = "RefNotPermitted"
	// ReasonCredentialNotFound: no such Credential in the Flow's namespace.
	ReasonCredentialNotFound = "CredentialNotFound"
	// ReasonCredentialNotReady: the Credential exists but cannot be used.
	ReasonCredentialNotReady = "CredentialNotReady"
	// ReasonSecretNotFound: a Secret that is referred to does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonConfigMapNotFound: a ConfigMap that is referred to does not exist.
	ReasonConfigMapNotFound = "ConfigMapNotFound"
	// ReasonKeyNotFound: the Secret or ConfigMap lacks the key.
	ReasonKeyNotFound = "KeyNotFound"
	// ReasonInvalidSecretData: the key exists but its value cannot be used.
	ReasonInvalidSecretData = "InvalidSecretData"
	// ReasonFlowNotFound: no such Flow in the namespace.
	ReasonFlowNotFound = "FlowNotFound"

	// ReasonProgrammed: every live gateway serves this generation.
	ReasonProgrammed = "Programmed"
	// ReasonNoGateway: no gateway is alive.
	ReasonNoGateway = "NoGateway"
	// ReasonRejected: a gateway refuses the compiled Flow.
	ReasonRejected = "Rejected"
	// ReasonPartiallyProgrammed: some gateways serve this generation, others not yet.
	ReasonPartiallyProgrammed = "PartiallyProgrammed"
	// ReasonNotProgrammed: the spec is broken, so this generation is not
	// served; the message says what is served instead.
	ReasonNotProgrammed = "NotProgrammed"

	// ReasonReady: everything works.
	ReasonReady = "Ready"
	// ReasonSuspended: everything is in order and the Flow is stopped, as spec.suspend asks.
	ReasonSuspended = "Suspended"
	// ReasonProgressing: the controller works towards the current generation.
	ReasonProgressing = "Progressing"
)

// Labels and annotations.
const (
	// LabelOrigin says what made an object; OriginAPI marks Subscriptions that
	// a consumer made over HTTP.
	LabelOrigin = "headgate.dev/origin"
	// OriginAPI is the value of LabelOrigin for objects made over HTTP.
	OriginAPI = "api"

	// AnnotationReconcileRequestedAt asks for a reconciliation now: any new
	// value triggers one.
	AnnotationReconcileRequestedAt = "headgate.dev/requestedAt"
)
