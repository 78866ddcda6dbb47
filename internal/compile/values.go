// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// values compiles the constants of a Flow and makes their names known.
func (c *compiler) values(at path, values []flowv1alpha1.FlowValue) []program.Value {
	c.maxItems(at, len(values), maxValues)
	var out []program.Value
	taken := map[string]bool{}
	for i := range values {
		v, at := &values[i], at.index(i)
		if c.identifier(at.field("name"), v.Name, taken) {
			c.scope.Values = append(c.scope.Values, v.Name)
		}
		if !c.exactlyOne(at, option{"value", v.Value != nil}, option{"valueFrom", v.ValueFrom != nil}) {
			continue
		}
		compiled := program.Value{Name: v.Name}
		if v.Value != nil {
			compiled.JSON = c.jsonValue(at.field("value"), *v.Value)
		} else {
			c.valueFrom(at.field("valueFrom"), v.ValueFrom, &compiled)
		}
		out = append(out, compiled)
	}
	return out
}

func (c *compiler) valueFrom(at path, from *flowv1alpha1.ValueSource, out *program.Value) {
	secret, configMap := from.SecretKeyRef, from.ConfigMapKeyRef
	if !c.exactlyOne(at, option{"secretKeyRef", secret != nil}, option{"configMapKeyRef", configMap != nil}) {
		return
	}
	if secret != nil {
		out.Secret = c.secretValue(at.field("secretKeyRef"), secret.Name, secret.Key)
		return
	}
	out.JSON = c.configMapValue(at.field("configMapKeyRef"), configMap.Name, configMap.Key)
}

func (c *compiler) secretValue(at path, name, key string) auth.SecretID {
	if !c.objectName(at.field("name"), name) || !c.dataKey(at.field("key"), key) {
		return ""
	}
	secret := c.local(name)
	value, p := textValue(c.src.Secrets, secret, key)
	if p != nil {
		c.problem(at, p)
		return ""
	}
	id := secretID(secret, key)
	c.credentials.secrets[id] = value
	return id
}

// textValue finds a key of a Secret that expressions use as text.
func textValue(
	secrets map[types.NamespacedName]map[string][]byte, secret types.NamespacedName, key string,
) (auth.Secret, *problem) {
	value, p := lookup(secrets, secret, key)
	if p != nil {
		return auth.Secret{}, p
	}
	var detail string
	switch {
	case len(value) == 0:
		detail = "is empty"
	case !utf8.Valid(value):
		detail = "is not valid UTF-8"
	default:
		return auth.NewSecret(value), nil
	}
	return auth.Secret{}, unresolvable(flowv1alpha1.ReasonInvalidSecretData,
		fmt.Sprintf("key %q of Secret %s %s", key, secret, detail))
}

func (c *compiler) configMapValue(at path, name, key string) json.RawMessage {
	text, ok := c.configMapText(at, name, key)
	if !ok {
		return nil
	}
	encoded, err := json.Marshal(text)
	if err != nil {
		c.invalid(at, "is not text")
		return nil
	}
	return encoded
}

// configMapText finds a key of a ConfigMap.
func (c *compiler) configMapText(at path, name, key string) (text string, ok bool) {
	if !c.objectName(at.field("name"), name) || !c.dataKey(at.field("key"), key) {
		return "", false
	}
	configMap := c.local(name)
	data, ok := c.src.ConfigMaps[configMap]
	if !ok {
		c.unresolved(flowv1alpha1.ReasonConfigMapNotFound, at, fmt.Sprintf("ConfigMap %s does not exist", configMap))
		return "", false
	}
	if text, ok = data[key]; !ok {
		c.unresolved(flowv1alpha1.ReasonKeyNotFound, at, fmt.Sprintf("ConfigMap %s has no key %q", configMap, key))
	}
	return text, ok
}

func (c *compiler) local(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: c.object.Namespace, Name: name}
}
