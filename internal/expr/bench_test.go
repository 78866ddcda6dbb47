// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/headgate-io/headgate/internal/expr"
)

const petstore = `{"petname": "Gromit", "petstatus": "Sold"}`

func BenchmarkTemplate(b *testing.B) {
	env, vars := dynamicEnv(b), request(decode(b, sample))
	for name, src := range map[string]string{
		"field":   "${request.body.petname}",
		"concat":  "${request.body.petname + ' ' + request.body.petstatus}",
		"parts":   "Hello ${request.body.petname}, you are ${request.body.petstatus}.",
		"compare": "${request.body.petstatus == 'Sold' && has(request.body.petname)}",
		"loop":    "${request.body.pets.map(p, p.name)}",
		"matches": "${request.body.petname.matches('^[A-Z][a-z]+$')}",
	} {
		template, err := env.Template(src)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := template.Eval(b.Context(), vars); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTreeJSON(b *testing.B) {
	env, vars := dynamicEnv(b), request(decode(b, sample))
	for _, fields := range []int{2, 10} {
		members := make([]string, fields)
		for i := range members {
			members[i] = fmt.Sprintf(`"field%d": "${request.body.petname}"`, i)
		}
		tree, err := env.Tree([]byte("{" + strings.Join(members, ",") + "}"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%d-fields", fields), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				if buf, err = tree.AppendJSON(b.Context(), buf[:0], vars); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d-fields-through-Go", fields), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := tree.Eval(b.Context(), vars)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := json.Marshal(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeJSON(b *testing.B) {
	large := `{"petname": "Gromit", "others": [` + strings.TrimSuffix(strings.Repeat(sample+",", 25), ",") + `]}`
	for name, src := range map[string]string{"petstore": petstore, "10kB": large} {
		data := []byte(src)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := expr.DecodeJSON(data, expr.JSONLimits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"-lazily", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := expr.DecodeJSONLazily(data, expr.JSONLimits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"-encoding-json", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				var v any
				if err := json.Unmarshal(data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for name, env := range map[string]*expr.Env{"dynamic": dynamicEnv(b), "typed": typedEnv(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := env.Template("${request.body.petname + ' ' + request.body.petstatus}"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
