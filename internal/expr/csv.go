// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// csvOptions are the second argument of csv.parse.
type csvOptions struct {
	// header makes every record a map by the names in the first one.
	header bool
	// separator stands between two fields; a comma unless stated.
	separator rune
}

// parseCSV reads comma-separated values (RFC 4180) as a list of lists. Records
// may differ in length; a byte order mark is skipped.
func parseCSV(v ref.Val) ref.Val {
	return readCSV(v, csvOptions{separator: ','})
}

func parseCSVWithOptions(v, options ref.Val) ref.Val {
	m, ok := options.(traits.Mapper)
	if !ok {
		return types.MaybeNoSuchOverloadErr(options)
	}
	o := csvOptions{separator: ','}
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		switch value := m.Get(key); key {
		case types.String("header"):
			header, ok := value.(types.Bool)
			if !ok {
				return failure("csv.parse: the option header must be a bool")
			}
			o.header = bool(header)
		case types.String("separator"):
			separator, ok := value.(types.String)
			r, size := utf8.DecodeRuneInString(string(separator))
			if !ok || size != len(separator) || !validSeparator(r) {
				return failure("csv.parse: the option separator must be one character that is no quote and no line break")
			}
			o.separator = r
		default:
			return failure("csv.parse: there are no options but header and separator")
		}
	}
	return readCSV(v, o)
}

func validSeparator(r rune) bool {
	return r != 0 && r != '"' && r != '\r' && r != '\n' && r != utf8.RuneError
}

func readCSV(v ref.Val, o csvOptions) ref.Val {
	text, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff")))
	r.FieldsPerRecord = -1
	r.Comma = o.separator
	var header []string
	records := []any{}
	for {
		record, err := r.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return types.DefaultTypeAdapter.NativeToValue(records)
		case errors.As(err, &bad):
			return failure("csv.parse: line %d: %w", bad.Line, bad.Err)
		case err != nil:
			return types.WrapErr(err)
		case !o.header:
			records = append(records, anyStrings(record))
		case header == nil:
			if header = record; hasRepeated(header) {
				return failure("csv.parse: two columns have the same name")
			}
		case len(record) > len(header):
			line, _ := r.FieldPos(0)
			return failure("csv.parse: line %d has more fields than the header", line)
		default:
			fields := make(map[string]any, len(record))
			for i, field := range record {
				fields[header[i]] = field
			}
			records = append(records, fields)
		}
	}
}

func anyStrings(l []string) []any {
	out := make([]any, len(l))
	for i, s := range l {
		out[i] = s
	}
	return out
}

func hasRepeated(names []string) bool {
	seen := make(map[string]struct{}, len(names))
	for _, name := range names {
		seen[name] = struct{}{}
	}
	return len(seen) < len(names)
}
