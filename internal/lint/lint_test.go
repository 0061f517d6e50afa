package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines keeps a file something that can be read in one sitting.
const maxLines = 500

// vague are package names that say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared"}

// unfinished marks work that was put off. The words are put together here so
// that this file does not hold them.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

// sourceFile is a text file of the repository.
type sourceFile struct {
	name    string // slash-separated, relative to the module's root
	content []byte
}

// textExtensions are the files that people write. What has no extension
// counts too: Makefile, .ci/run.
var textExtensions = []string{"", ".go", ".md", ".sh", ".yml", ".yaml", ".mod", ".sql"}

// tree reads the source files of the module, without what is built or
// installed into it.
func tree(t *testing.T) []sourceFile {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	var files []sourceFile
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", ".tools", "bin", "dist", "testdata":
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !slices.Contains(textExtensions, path.Ext(name)) {
			return nil
		}
		b, err := fs.ReadFile(root, name)
		if err == nil {
			files = append(files, sourceFile{name: name, content: b})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d source files: is this the module's root?", len(files))
	}
	return files
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range tree(t) {
		if path.Ext(f.name) != ".go" {
			continue
		}
		if n := bytes.Count(f.content, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines; split it by what its parts are about (at most %d)", f.name, n, maxLines)
		}
	}
}

func TestNothingIsUnfinished(t *testing.T) {
	for _, f := range tree(t) {
		for i, line := range bytes.Split(f.content, []byte("\n")) {
			if m := unfinished.Find(line); m != nil {
				t.Errorf("%s:%d: %s: do it, or file an issue", f.name, i+1, m)
			}
		}
	}
}

func TestPackageNamesSaySomething(t *testing.T) {
	for dir, p := range packages(t) {
		if slices.Contains(vague, p.name) {
			t.Errorf("%s: package %s: name it after what it provides", dir, p.name)
		}
		if want := path.Base(dir); p.name != want && p.name != "main" && dir != "." {
			t.Errorf("%s: package %s: its directory has another name", dir, p.name)
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for dir, p := range packages(t) {
		if p.documented != 1 {
			t.Errorf("%s: %d files have a package comment; one should", dir, p.documented)
		}
		if want := "Package " + p.name + " "; p.name != "main" && p.doc != "" && !strings.HasPrefix(p.doc, want) {
			t.Errorf("%s: the package comment should begin with %q", dir, want)
		}
	}
}

// TestFuzzTargetsHaveSeeds: a target without seeds tests nothing in an
// ordinary run and starts from nothing in a fuzzing one.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	for _, f := range tree(t) {
		if !strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, fn := range functions(t, f) {
			name := fn.Name.Name
			if !strings.HasPrefix(name, "Fuzz") || fn.Recv != nil {
				continue
			}
			corpus := filepath.Join("..", "..", filepath.FromSlash(path.Dir(f.name)), "testdata", "fuzz", name)
			if _, err := os.Stat(corpus); err != nil && !calls(fn, "Add") {
				t.Errorf("%s: %s has no seed: call Add, or commit testdata/fuzz/%s", f.name, name, name)
			}
		}
	}
}

// TestNamesOfLongTests: make soak and make bench find what they run by name
// and the tests ask by these functions whether they were meant.
func TestNamesOfLongTests(t *testing.T) {
	for _, f := range tree(t) {
		if !strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, fn := range functions(t, f) {
			for function, prefix := range map[string]string{"Soak": "TestSoak", "Bench": "TestBench"} {
				if calls(fn, function) && strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, prefix) {
					t.Errorf("%s: %s calls pgtest.%s: its name must begin with %s", f.name, fn.Name.Name, function, prefix)
				}
			}
		}
	}
}

// goPackage is what the rules want to know of a package.
type goPackage struct {
	name       string
	documented int    // files with a package comment
	doc        string // one of these comments
}

// packages returns the packages by directory, without external test packages
// and directories that hold tests alone.
func packages(t *testing.T) map[string]*goPackage {
	t.Helper()
	all := map[string]*goPackage{}
	for _, f := range tree(t) {
		if path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		file := parse(t, f, parser.PackageClauseOnly|parser.ParseComments)
		dir := path.Dir(f.name)
		p := all[dir]
		if p == nil {
			p = &goPackage{name: file.Name.Name}
			all[dir] = p
		}
		if p.name != file.Name.Name {
			t.Errorf("%s: packages %s and %s in one directory", dir, p.name, file.Name.Name)
		}
		if file.Doc != nil {
			p.documented++
			p.doc = file.Doc.Text()
		}
	}
	return all
}

func parse(t *testing.T, f sourceFile, mode parser.Mode) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), f.name, f.content, mode)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return file
}

func functions(t *testing.T, f sourceFile) []*ast.FuncDecl {
	t.Helper()
	var fns []*ast.FuncDecl
	for _, d := range parse(t, f, parser.SkipObjectResolution).Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			fns = append(fns, fn)
		}
	}
	return fns
}

// calls reports whether the function calls a method or a package's function
// of this name.
func calls(fn *ast.FuncDecl, name string) bool {
	found := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
				found = true
			}
		}
		return !found
	})
	return found
}

// TestChangelogFragments: one file a change, in the form that changelog/README.md gives.
func TestChangelogFragments(t *testing.T) {
	heading := regexp.MustCompile(`^(Change|Enhancement|Bugfix|Security): \S.*[^.]\n\n\S`)
	name := regexp.MustCompile(`^(issue|pull)-\d+(-[a-z0-9-]+)?\.md$`)
	found := 0
	for _, f := range tree(t) {
		if dir, file := path.Split(f.name); strings.HasPrefix(dir, "changelog/") && dir != "changelog/" {
			found++
			if !name.MatchString(file) {
				t.Errorf("%s: want a name like issue-12.md or issue-12-what.md", f.name)
			}
			if !heading.Match(f.content) {
				t.Errorf("%s: want a first line like %q, an empty line, and text", f.name, "Enhancement: What is better now")
			}
			if ref := fmt.Sprintf("#%s", regexp.MustCompile(`\d+`).FindString(file)); !bytes.Contains(f.content, []byte(ref)) {
				t.Errorf("%s: refers nowhere to %s", f.name, ref)
			}
		}
	}
	if found == 0 {
		t.Error("no fragment found")
	}
}
