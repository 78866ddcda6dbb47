// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// safeError marks an error whose message holds no value of a variable.
type safeError struct{ error }

func (e safeError) Unwrap() error { return e.error }

// failure makes a CEL error whose message may be shown.
func failure(format string, args ...any) ref.Val {
	return types.WrapErr(safeError{fmt.Errorf(format, args...)})
}

// library declares what expressions can call besides CEL's own functions.
// None of them reaches outside the expression but for clock and newID.
func library(clock func() time.Time, newID func() string) cel.EnvOption {
	str, dyn := []*cel.Type{cel.StringType}, []*cel.Type{cel.DynType}
	bytesType := []*cel.Type{cel.BytesType}
	dict := cel.MapType(cel.StringType, cel.DynType)
	options := []cel.EnvOption{
		cel.Function("json.parse",
			cel.Overload("headgate_json_parse_string", str, cel.DynType, cel.UnaryBinding(parseJSON)),
			cel.Overload("headgate_json_parse_bytes", bytesType, cel.DynType, cel.UnaryBinding(parseJSON))),
		cel.Function("json.encode",
			cel.Overload("headgate_json_encode", dyn, cel.StringType, cel.UnaryBinding(encodeJSON))),
		cel.Function("url.encode",
			cel.Overload("headgate_url_encode", str, cel.StringType, cel.UnaryBinding(encodeURL))),
		cel.Function("sha256",
			cel.Overload("headgate_sha256_string", str, cel.StringType, cel.UnaryBinding(hashSHA256)),
			cel.Overload("headgate_sha256_bytes", bytesType, cel.StringType, cel.UnaryBinding(hashSHA256))),
		cel.Function("xml.encode",
			cel.Overload("headgate_xml_encode", []*cel.Type{dict}, cel.StringType, cel.UnaryBinding(encodeXML))),
		cel.Function("csv.parse",
			cel.Overload("headgate_csv_parse", str, cel.ListType(cel.ListType(cel.StringType)),
				cel.UnaryBinding(parseCSV)),
			cel.Overload("headgate_csv_parse_options", []*cel.Type{cel.StringType, dict}, cel.ListType(cel.DynType),
				cel.BinaryBinding(parseCSVWithOptions))),
		cel.Function("uuid", cel.Overload("headgate_uuid", nil, cel.StringType,
			cel.FunctionBinding(func(...ref.Val) ref.Val { return types.String(newID()) }))),
		cel.Function("now", cel.Overload("headgate_now", nil, cel.TimestampType,
			cel.FunctionBinding(func(...ref.Val) ref.Val { return types.Timestamp{Time: clock().UTC()} }))),
	}
	return func(env *cel.Env) (*cel.Env, error) {
		var err error
		for _, option := range options {
			if env, err = option(env); err != nil {
				return nil, err
			}
		}
		return env, nil
	}
}

func parseJSON(v ref.Val) ref.Val {
	native, err := DecodeJSON(textBytes(v), JSONLimits{})
	if err != nil {
		return failure("json.parse: %w", err)
	}
	return types.DefaultTypeAdapter.NativeToValue(native)
}

func encodeJSON(v ref.Val) ref.Val {
	w := newJSONWriter(nil)
	if err := w.val(v); err != nil {
		return failure("json.encode: %w", err)
	}
	return types.String(w.buf)
}

// encodeURL percent-encodes everything but the unreserved characters of RFC
// 3986, so that the result can stand anywhere in a URL, in the path as well as
// in the query.
func encodeURL(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	if len(s) > MaxOutputBytes/3 {
		return types.WrapErr(safeError{errOutputTooLarge})
	}
	const upperHex = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		switch c := s[i]; {
		case isWordByte(c), c == '-', c == '.', c == '~':
			out = append(out, c)
		default:
			out = append(out, '%', upperHex[c>>4], upperHex[c&0xf])
		}
	}
	return types.String(out)
}

func hashSHA256(v ref.Val) ref.Val {
	sum := sha256.Sum256(textBytes(v))
	return types.String(hex.EncodeToString(sum[:]))
}

// textLength returns the length of a string or bytes value, and 0 for others.
func textLength(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	default:
		return 0
	}
}

// textBytes returns the bytes of a string or bytes value.
func textBytes(v ref.Val) []byte {
	switch v := v.(type) {
	case types.String:
		return []byte(v)
	case types.Bytes:
		return v
	default:
		return nil
	}
}
