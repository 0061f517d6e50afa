// Package storetest is the conformance suite of storage.Store.
package storetest

import (
	"testing"

	"github.com/walden-pg/walden/storage"
)

// Run checks that the stores that open returns keep the contract of storage.Store.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {}
