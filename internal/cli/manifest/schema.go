// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/config/crd"
)

// schemas judges objects as the API server does: by the schema of their
// CustomResourceDefinition, and by its rules.
type schemas struct {
	byKind map[string]*schema
}

type schema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// newSchemas reads the CustomResourceDefinitions that the binary carries.
func newSchemas() (*schemas, error) {
	entries, err := crd.Bases.ReadDir("bases")
	if err != nil {
		return nil, fmt.Errorf("read the schemas: %w", err)
	}
	s := &schemas{byKind: make(map[string]*schema, len(entries))}
	for _, entry := range entries {
		data, err := crd.Bases.ReadFile("bases/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read the schemas: %w", err)
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := sigsyaml.Unmarshal(data, &definition); err != nil {
			return nil, fmt.Errorf("read the schema %s: %w", entry.Name(), err)
		}
		if s.byKind[definition.Spec.Names.Kind], err = newSchema(definition.Spec.Versions[0].Schema.OpenAPIV3Schema); err != nil {
			return nil, fmt.Errorf("read the schema %s: %w", entry.Name(), err)
		}
	}
	return s, nil
}

func newSchema(props *apiextensionsv1.JSONSchemaProps) (*schema, error) {
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(&internal)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		return nil, err
	}
	return &schema{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// check sets the defaults of an object and returns what is wrong with it. The
// rules are looked at only if the types are right, as the API server does.
func (s *schema) check(ctx context.Context, object map[string]any) field.ErrorList {
	defaulting.Default(object, s.structural)
	errs := validation.ValidateCustomResource(nil, object, s.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	if len(errs) == 0 && s.rules != nil {
		errs, _ = s.rules.Validate(ctx, nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	return errs
}
