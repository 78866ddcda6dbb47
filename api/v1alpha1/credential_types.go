// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Credential is one identity. It says who may call a Flow, how Headgate signs
// its own calls, or both. The secrets themselves stay in Secrets.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hgcred,categories=headgate
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.status.type`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Used-By",type=integer,JSONPath=`.status.usedBy`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Credential struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the identity.
	// +required
	Spec CredentialSpec `json:"spec,omitzero"`

	// status is what the controller observed.
	// +optional
	// +kubebuilder:default={conditions: {{type: "Accepted", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "ResolvedRefs", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "Ready", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status CredentialStatus `json:"status,omitzero"`
}

// CredentialList is a list of Credentials.
//
// +kubebuilder:object:root=true
type CredentialList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the Credentials.
	// +required
	Items []Credential `json:"items"`
}

// CredentialSpec is one identity; exactly one of none, basic, apiKey, bearer,
// hmac, token, oidc, entraID, oauth2 and clientCertificate is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.none), has(self.basic), has(self.apiKey), has(self.bearer), has(self.hmac), has(self.token), has(self.oidc), has(self.entraID), has(self.oauth2), has(self.clientCertificate)].filter(m, m).size() == 1",message="exactly one of none, basic, apiKey, bearer, hmac, token, oidc, entraID, oauth2, clientCertificate must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedNamespaces) || self.allowedNamespaces.from == 'Same' || has(self.none) || has(self.oidc) || has(self.entraID) || has(self.allowedHosts)",message="allowedHosts is required when allowedNamespaces lets other namespaces use the Credential"
// +kubebuilder:validation:XValidation:rule="!has(self.probe) || !(has(self.none) || has(self.oidc) || has(self.entraID))",message="probe makes a call, and none, oidc and entraID cannot sign one"
type CredentialSpec struct {
	// none lets anyone call. It proves nothing and signs nothing, so it has to be written out.
	// +optional
	None *NoneCredential `json:"none,omitempty"`

	// basic is HTTP Basic authentication (RFC 7617).
	// +optional
	Basic *BasicCredential `json:"basic,omitempty"`

	// apiKey is a key in a header, a query parameter, a body field, a cookie or the path.
	// +optional
	APIKey *APIKeyCredential `json:"apiKey,omitempty"`

	// bearer is a bearer token (RFC 6750).
	// +optional
	Bearer *BearerCredential `json:"bearer,omitempty"`

	// hmac is a signature over the request.
	// +optional
	HMAC *HMACCredential `json:"hmac,omitempty"`

	// token accepts and sends tokens that Headgate itself issues.
	// +optional
	Token *TokenCredential `json:"token,omitempty"`

	// oidc accepts ID and access tokens of an OpenID Connect issuer. Inbound only.
	// +optional
	OIDC *OIDCCredential `json:"oidc,omitempty"`

	// entraID accepts tokens of Microsoft Entra ID (Azure AD). Inbound only.
	// +optional
	EntraID *EntraIDCredential `json:"entraID,omitempty"`

	// oauth2 obtains tokens by client credentials or a refresh token. Outbound only.
	// +optional
	OAuth2 *OAuth2Credential `json:"oauth2,omitempty"`

	// clientCertificate is mutual TLS.
	// +optional
	ClientCertificate *ClientCertificateCredential `json:"clientCertificate,omitempty"`

	// allowedHosts limits where the secret may be sent: a host, host:port or
	// *.suffix. Absent allows any host to Flows of the own namespace.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	AllowedHosts []HostPattern `json:"allowedHosts,omitempty"`

	// allowedNamespaces says from which namespaces the Credential may be used.
	// Defaults to the own one.
	// +optional
	AllowedNamespaces *AllowedNamespaces `json:"allowedNamespaces,omitempty"`

	// probe verifies the Credential with a call.
	// +optional
	Probe *Probe `json:"probe,omitempty"`
}

// HostPattern is a host, host:port or *.suffix, in lower case.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=260
// +kubebuilder:validation:Pattern=`^(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$`
type HostPattern string

// NoneCredential lets anyone call.
type NoneCredential struct{}

// BasicCredential is HTTP Basic authentication.
type BasicCredential struct {
	// secretRef names a Secret with the keys username and password, or, inbound
	// only, auth: an htpasswd file of up to 4096 users, with bcrypt hashes
	// (htpasswd -B) of a cost up to 14. request.auth.subject is the user.
	// +required
	SecretRef SecretReference `json:"secretRef,omitzero"`
}

// KeyPlacement says where an API key stands. No expression sees the key of a
// caller: a body comes without the field, and request.rawBody is empty then.
//
// +kubebuilder:validation:Enum=Header;Query;Body;Cookie;Path
type KeyPlacement string

// The places for an API key.
const (
	KeyInHeader KeyPlacement = "Header"
	KeyInQuery  KeyPlacement = "Query"
	KeyInBody   KeyPlacement = "Body"
	KeyInCookie KeyPlacement = "Cookie"
	// KeyInPath is an unlisted URL, /hook/<namespace>/<path>/<key>: the key is its
	// last segment, of at least 16 characters. Inbound only.
	KeyInPath KeyPlacement = "Path"
)

// APIKeyCredential is a key in a fixed place.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.secretKeyRefs)",message="exactly one of secretKeyRef and secretKeyRefs must be set"
// +kubebuilder:validation:XValidation:rule="(self.__in__ == 'Path') != has(self.name)",message="name is required, except with in: Path, where it must be absent"
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !(self.__in__ in ['Header', 'Cookie']) || self.name.matches('^[-!#$%&\\'*+.^_|~0-9A-Za-z]+$')",message="the name of a header or a cookie may have letters, digits and -!#$%&'*+.^_|~"
// +kubebuilder:validation:XValidation:rule="!has(self.prefix) || self.__in__ != 'Path'",message="prefix must be absent with in: Path"
type APIKeyCredential struct {
	// in is the place of the key.
	// +required
	In KeyPlacement `json:"in,omitempty"`

	// name of the header, the query parameter, the cookie or the body field: a
	// top-level member of a JSON object, a field of a form, or a child of the root
	// of an XML document.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`

	// prefix in front of the key, such as "Token ".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[ -~]+$`
	Prefix string `json:"prefix,omitempty"`

	// secretKeyRef names the key.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// secretKeyRefs names several keys: all are valid inbound, the first is sent.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SecretKeyRefs []SecretKeyReference `json:"secretKeyRefs,omitempty"`
}

// BearerCredential is a bearer token.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.secretKeyRefs)",message="exactly one of secretKeyRef and secretKeyRefs must be set"
type BearerCredential struct {
	// header that carries "Bearer <token>". Defaults to Authorization.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Header string `json:"header,omitempty"`

	// secretKeyRef names the token.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// secretKeyRefs names several tokens: all are valid inbound, the first is sent.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SecretKeyRefs []SecretKeyReference `json:"secretKeyRefs,omitempty"`
}

// TokenCredential describes tokens that Headgate itself issues.
type TokenCredential struct {
	// secretKeyRefs name the signing keys, of at least 32 bytes each: all are
	// valid inbound, the first signs.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SecretKeyRefs []SecretKeyReference `json:"secretKeyRefs,omitempty"`

	// issuer of the tokens.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Issuer string `json:"issuer,omitempty"`

	// audience of the tokens.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Audience string `json:"audience,omitempty"`

	// header that carries "Bearer <token>". Defaults to Authorization.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Header string `json:"header,omitempty"`

	// revokedSecretRef names a Secret whose keys are the ids of revoked tokens.
	// +optional
	RevokedSecretRef *SecretReference `json:"revokedSecretRef,omitempty"`
}

// OIDCCredential accepts tokens of an OpenID Connect issuer.
type OIDCCredential struct {
	// issuerURL is the https URL of the issuer, as in the tokens' iss claim.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^\s]+$`
	IssuerURL string `json:"issuerURL,omitempty"`

	// audiences of which a token must name one.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Audiences []string `json:"audiences,omitempty"`

	// requiredClaims maps a claim to the values of which it must have one.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(name, size(name) >= 1 && size(name) <= 256)",message="the name of a claim must be 1 to 256 characters long"
	RequiredClaims map[string]ClaimValues `json:"requiredClaims,omitempty"`

	// groups of which the token must name one.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Groups []string `json:"groups,omitempty"`

	// condition is a CEL expression over claims that must be true.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Condition *Template `json:"condition,omitempty"`

	// jwksURL overrides the key set that the issuer's discovery document names.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^\s]+$`
	JWKSURL string `json:"jwksURL,omitempty"`
}

// ClaimValues are the accepted values of a claim.
//
// +kubebuilder:validation:MinItems=1
// +kubebuilder:validation:MaxItems=64
// +kubebuilder:validation:items:MinLength=1
// +kubebuilder:validation:items:MaxLength=512
type ClaimValues []string

// EntraIDCredential accepts tokens of Microsoft Entra ID.
type EntraIDCredential struct {
	// tenantID is the directory (tenant) ID.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`
	TenantID string `json:"tenantID,omitempty"`

	// audience is the application (client) ID or the App ID URI.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Audience string `json:"audience,omitempty"`

	// group is the object ID of a group that callers must belong to.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Group string `json:"group,omitempty"`
}

// AuthStyle says how an OAuth 2.0 client authenticates at the token endpoint
// (RFC 6749, section 2.3.1).
//
// +kubebuilder:validation:Enum=Header;Params
type AuthStyle string

// OAuth2Credential obtains access tokens (RFC 6749).
type OAuth2Credential struct {
	// tokenURL is the token endpoint.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s]+$`
	TokenURL string `json:"tokenURL,omitempty"`

	// clientID of the client.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	ClientID string `json:"clientID,omitempty"`

	// clientSecretRef names the client secret.
	// +required
	ClientSecretRef SecretKeyReference `json:"clientSecretRef,omitzero"`

	// refreshTokenRef names a refresh token; present, the refresh token grant
	// is used instead of client credentials.
	// +optional
	RefreshTokenRef *SecretKeyReference `json:"refreshTokenRef,omitempty"`

	// scopes to ask for.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Scopes []string `json:"scopes,omitempty"`

	// params are further parameters of the token request, such as audience.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(name, size(name) >= 1 && size(name) <= 256)",message="the name of a parameter must be 1 to 256 characters long"
	// +kubebuilder:validation:XValidation:rule="!self.exists(name, name in ['grant_type', 'client_id', 'client_secret', 'refresh_token', 'scope'])",message="grant_type, client_id, client_secret, refresh_token and scope have fields of their own"
	Params map[string]ParamValue `json:"params,omitempty"`

	// authStyle says how the client authenticates. Defaults to Header.
	// +optional
	AuthStyle AuthStyle `json:"authStyle,omitempty"`
}

// ParamValue is the value of a token request parameter.
//
// +kubebuilder:validation:MaxLength=2048
type ParamValue string

// ClientCertificateCredential is mutual TLS.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) || has(self.caSecretRef)",message="secretRef (outbound) or caSecretRef (inbound) must be set"
type ClientCertificateCredential struct {
	// secretRef names a Secret of type kubernetes.io/tls that is presented outbound.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// caSecretRef names the CA bundle that inbound certificates must chain to.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`

	// subjects of which an inbound certificate must carry one, as common name or
	// subject alternative name.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Subjects []string `json:"subjects,omitempty"`
}

// NamespacesFrom says which namespaces may use a Credential.
//
// +kubebuilder:validation:Enum=Same;All;Selector
type NamespacesFrom string

// The choices of AllowedNamespaces.
const (
	NamespacesFromSame     NamespacesFrom = "Same"
	NamespacesFromAll      NamespacesFrom = "All"
	NamespacesFromSelector NamespacesFrom = "Selector"
)

// AllowedNamespaces says from which namespaces a Credential may be used.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) == (self.from == 'Selector')",message="selector is required with from: Selector and must be absent otherwise"
type AllowedNamespaces struct {
	// from is Same, All or Selector.
	// +required
	From NamespacesFrom `json:"from,omitempty"`

	// selector picks namespaces by their labels.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(!has(self.matchLabels) || size(self.matchLabels) <= 32) && (!has(self.matchExpressions) || size(self.matchExpressions) <= 32)",message="selector may have at most 32 matchLabels and 32 matchExpressions"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Probe verifies a Credential with a call.
type Probe struct {
	// http is the call.
	// +required
	HTTP ProbeHTTP `json:"http,omitzero"`

	// expect is a condition over response. Defaults to a 2xx status.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Expect *Template `json:"expect,omitempty"`

	// timeout of the call, at most 30s. Defaults to 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('30s')",message="timeout must be greater than 0s and at most 30s"
	Timeout Duration `json:"timeout,omitempty"`

	// interval between calls. Defaults to 1h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m')",message="interval must be at least 1m"
	Interval Duration `json:"interval,omitempty"`
}

// ProbeHTTP is the call of a probe.
type ProbeHTTP struct {
	// method of the call. Defaults to GET.
	// +optional
	Method HTTPMethod `json:"method,omitempty"`

	// url that is called.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s]+$`
	URL string `json:"url,omitempty"`
}
