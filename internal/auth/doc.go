// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth verifies inbound calls, signs outbound ones, and keeps secret
// values from being shown.
//
// # Purpose
//
// A [Spec] is the compiled, serialisable form of a Credential: it says how a
// secret travels and names secrets by [SecretID], but holds no secret value. A
// [Keyring] holds the values. [NewVerifier] and [NewSigner] join the two into
// objects that a gateway uses for each request:
//
//   - a [Verifier] judges one inbound request and says who called;
//   - a [Signer] places a secret, or a signature made with it, into one outbound
//     request, through a [Target].
//
// An [HMAC] covers the content of a request: its verifier needs the body as it
// was received, and its signer a [MessageTarget], which knows what is sent.
//
// [AllowedHosts] limits the hosts to which a secret may be sent, [Redactor]
// removes secret values from text, and [Secret] is the only type in which
// secret values are passed between packages.
//
// # Lifecycle
//
// Verifiers and signers are built once, when a program is linked, and replaced
// as a whole when a secret or a Credential changes. Construction fails closed:
// a missing, empty or unusable secret is an error, never a verifier that
// accepts or a signer that sends nothing. Only a Spec whose None member is set
// yields a verifier that accepts anyone.
//
// # Concurrency
//
// Every value of this package is safe for concurrent use, and immutable after
// construction but for [Passwords], which checks the passwords of an htpasswd
// file and remembers those that were right. Nothing else here blocks, and
// nothing does input or output, reads a clock or logs.
//
// # What is never shown
//
// No error of this package contains a secret value, a value that a caller
// presented, or an expected value; errors name fields and secret ids. Verifiers,
// signers and redactors keep values and their digests in Secrets, so that
// printing them shows nothing either.
package auth
