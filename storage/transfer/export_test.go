package transfer

import (
	"maps"
	"slices"
)

// Copied lists the tables that are copied.
func Copied() []string { return copied() }

// LeftOut lists those that are not.
func LeftOut() []string { return slices.Collect(maps.Keys(leftOut())) }
