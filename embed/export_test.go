package embed

import "io/fs"

// Placeholder is what Dashboard returns when nothing was built.
func Placeholder() fs.FS { return sub(placeholder, "placeholder") }
