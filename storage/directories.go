package storage

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// A DirEntry is one path segment directly below a prefix.
type DirEntry struct {
	// Name is the segment, without a slash.
	Name string
	// IsDir says that there are objects below Name; otherwise Name is an object itself.
	IsDir bool
	// Info describes the object; zero if IsDir.
	Info Info
}

// Directories yields the distinct path segments that follow prefix, which is
// "" or ends in "/", in the byte order of their keys (that of a directory ends in "/").
//
// It leaps: what lies inside a directory is never walked, each directory costs
// one List call. An error ends the sequence; the last pair carries it.
func Directories(ctx context.Context, s Store, prefix string) iter.Seq2[DirEntry, error] {
	return func(yield func(DirEntry, error) bool) {
		if prefix != "" && !strings.HasSuffix(prefix, "/") {
			yield(DirEntry{}, &Error{Op: "list", Key: prefix, Err: fmt.Errorf("prefix of a directory does not end in a slash")})
			return
		}
		for after, more := "", true; more; {
			after, more = leap(s.List(ctx, prefix, after), prefix, yield)
		}
	}
}

// leap passes the objects at the head of list on to yield, and then the first
// directory. It returns the place where the next listing has to begin, and
// whether there has to be one.
func leap(list iter.Seq2[Info, error], prefix string, yield func(DirEntry, error) bool) (after string, more bool) {
	for info, err := range list {
		if err != nil {
			yield(DirEntry{}, err)
			return "", false
		}
		name, _, isDir := strings.Cut(info.Key[len(prefix):], "/")
		if isDir {
			// Keys are made of characters below '~', so this is after
			// everything in the directory and before everything else.
			return prefix + name + "/~", yield(DirEntry{Name: name, IsDir: true}, nil)
		}
		if !yield(DirEntry{Name: name, Info: info}, nil) {
			return "", false
		}
	}
	return "", false
}
