// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds a file, in bytes; etcd takes objects of 1.5 MiB.
const maxFile = 32 << 20

// Stdin is the name of the standard input among paths.
const Stdin = "-"

// DefaultNamespace is that of objects that name none.
const DefaultNamespace = "default"

// Reader reads files. Make it with NewReader.
type Reader struct {
	namespace string
	stdin     io.Reader
	schemas   *schemas
}

// NewReader makes a reader that gives objects without a namespace this one; ""
// is DefaultNamespace. The path "-" is read from stdin.
func NewReader(namespace string, stdin io.Reader) (*Reader, error) {
	s, err := newSchemas()
	if err != nil {
		return nil, err
	}
	return &Reader{namespace: cmp.Or(namespace, DefaultNamespace), stdin: stdin, schemas: s}, nil
}

// File is one file that was read.
type File struct {
	// Name as it was found.
	Name string
	// Findings are what is wrong with its objects, one by one.
	Findings []Finding
	objects  []object
}

// Broken tells whether the file has an object that an API server would refuse.
func (f *File) Broken() bool {
	errs, _ := Count(f.Findings)
	return errs > 0
}

// Read reads files, folders and "-". Folders are walked: files that end in
// .yaml, .yml or .json count, hidden ones do not. An error means that there is
// nothing to judge; what is wrong with a file's content is among its Findings.
func (r *Reader) Read(ctx context.Context, paths []string) ([]*File, error) {
	var files []*File
	for _, path := range paths {
		if path == Stdin {
			data, err := readAll(r.stdin)
			if err != nil {
				return nil, fmt.Errorf("read the standard input: %w", err)
			}
			files = append(files, r.file(ctx, Stdin, data, r.namespace))
			continue
		}
		names, err := Find(path)
		if err != nil {
			return nil, err
		}
		if files, err = r.readAll(ctx, names, files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// readAll reads the files that Find has found, kustomizations first: they
// decide about the others of their folder.
func (r *Reader) readAll(ctx context.Context, names []string, files []*File) ([]*File, error) {
	namespaces := make(map[string]string)
	contents := make(map[string][]byte, len(names))
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, err
		}
		contents[name] = data
	}
	// A file that was named itself is applied as it is, as kubectl does.
	if len(names) > 1 {
		for _, name := range names {
			if isKustomization(name) {
				file, namespace := r.kustomization(name, contents[name])
				files = append(files, file)
				namespaces[filepath.Dir(name)] = namespace
			}
		}
	}
	for _, name := range names {
		if !isKustomization(name) {
			f := r.file(ctx, name, contents[name], r.namespace)
			f.override(namespaces[filepath.Dir(name)])
			files = append(files, f)
		}
	}
	return files, nil
}

// Find returns the files below a path, sorted; of a file that is the file.
func Find(path string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == path && !entry.IsDir():
			names = append(names, name)
		case name != path && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)):
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find files: %w", err)
	}
	return names, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // Reading the files that the user names is the purpose.
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	data, err := readAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func readAll(in io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("is larger than %d MiB", maxFile>>20)
	}
	return data, err
}

// file reads the objects of one file.
func (r *Reader) file(ctx context.Context, name string, data []byte, namespace string) *File {
	f := &File{Name: name}
	parts, before := split(data)
	for i, part := range parts {
		d, err := parse(part, before[i])
		if err != nil {
			f.broken(err)
			continue
		}
		if d != nil {
			r.object(ctx, f, d, namespace)
		}
	}
	return f
}

// broken records a document that cannot be read.
func (f *File) broken(err error) {
	finding := Finding{File: f.Name, Line: 1, Severity: Error, Message: err.Error()}
	if bad, ok := errors.AsType[*syntaxError](err); ok {
		finding.Line, finding.Message = bad.line, bad.message
	}
	f.Findings = append(f.Findings, finding)
}

// override gives all objects and findings the namespace of a kustomization.
func (f *File) override(namespace string) {
	if namespace == "" {
		return
	}
	for i := range f.objects {
		f.objects[i].setNamespace(namespace)
	}
	for i := range f.Findings {
		if f.Findings[i].Namespace != "" {
			f.Findings[i].Namespace = namespace
		}
	}
}
